"""How much a network that knows the composition owes to it, and how much to the structure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch import Tensor, nn

from kimgnn.data.stats import symmetry_of
from kimgnn.data.to_atoms import to_atoms
from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.heads import target_of
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.evaluation.regression import drawn, drawn_as
from kimgnn.models.fusion import composition_modules
from kimgnn.models.tasks import Task
from kimgnn.nn.fusion import FiLM, FusedTrunk
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.pooling import pool
from kimgnn.physics.potential import Potential

if TYPE_CHECKING:
    from kliff.dataset import Configuration

PARTS: Final = ("composition", "structure")
WAYS: Final = ("permuted", "zeroed")

SAMPLES: Final = 2000
"""How many of them an interval is taken from."""

ENDS: Final = (2.5, 97.5)
"""Percentiles of them at the ends of an interval."""


@dataclass(frozen=True)
class Importance:
    """What the error of a head grows by when a part of what it depends on is taken away.

    Attributes:
        head: Its name.
        error: What the error is.
        unit: Of the error.
        base: The error with everything in place.
        part: ``composition`` or ``structure``.
        way: ``permuted`` among structures, or ``zeroed``: set to its mean.
        growth: Of the error.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    head: str
    error: str
    unit: str
    base: float
    part: str
    way: str
    growth: float
    low: float
    high: float


@dataclass(frozen=True)
class AttentionShare:
    """The weight of the structure, beside the composition, in structures of a kind.

    Attributes:
        kind: ``element`` that they have, or ``crystal system``.
        name: Which.
        count: Structures.
        weight: Mean over them.
        spread: Standard deviation over them.
    """

    kind: str
    name: str
    count: int
    weight: float
    spread: float


def importance(
    network: Any,
    tasks: Sequence[Task],
    configurations: Sequence[Configuration],
    transform: Callable[[Configuration], Any],
    repeats: int = 10,
    seed: int = 0,
    batch_size: int = 32,
) -> list[Importance]:
    """Return what each head owes to composition and structure; heads of energies and of atoms are left out.

    Permuted: every structure is predicted with the composition features of some other one, or with some other graph
    and its own composition features. A graph has elements too; what a network reads from them counts as structure.
    Zeroed: every structure has the features of the mean composition, or every atom the mean features of the trunk. The
    latter is left out where the composition enters within the trunk, and would be taken away with them.

    The error is the mean absolute one (per atom of an extensive property, of the logarithm where that is learned), or
    the Brier score of classes. The interval is that of its growth over samples, drawn with replacement, of structures
    and permutations.

    Args:
        network: A `kimgnn.models.network.Network` that knows the composition; it is left as it is.
        tasks: What its heads predict.
        configurations: Structures with targets.
        transform: Structure to graph.
        repeats: Permutations.
        seed: Of permutations and samples.
        batch_size: Structures computed at a time.

    Raises:
        ModelError: The network knows no composition, or has no head of whole structures.
        DataError: There are fewer than two structures.
    """
    tasks = [task for task in tasks if not task.per_atom]
    names = {task.name for task in tasks}
    if not composition_modules(network):
        remedy = "Train with model.composition: {fusion: early}, for one."
        raise ModelError("the network knows no composition", where="model.composition", remedy=remedy)
    if not tasks:
        raise ModelError("there is no head of a property or class of whole structures", where="model.heads")
    if len(configurations) < 2:
        raise DataError("needs two structures or more", value=len(configurations))
    rng = np.random.default_rng(seed)
    own = np.arange(len(configurations))
    permutations = [_others(len(own), rng) for _ in range(repeats)]
    swapped = _Swapped(network.with_heads(lambda name: name in names), configurations, transform, batch_size)
    base = swapped.predict(own, own)
    runs = {
        ("composition", "permuted"): [swapped.predict(own, others) for others in permutations],
        ("composition", "zeroed"): [swapped.predict(own, None)],
        ("structure", "permuted"): [swapped.predict(others, own) for others in permutations],
        ("structure", "zeroed"): [swapped.predict(None, own)],
    }
    if any(isinstance(module, FiLM) for module in network.modules()):
        del runs["structure", "zeroed"]
    results = []
    for task in tasks:
        errors = _errors(task, configurations, base)
        known = np.isfinite(errors)
        if not known.any():
            continue
        kind, unit = ("Brier score", "") if task.kind == "classification" else ("MAE", drawn_as(task)[1])
        kind = f"{kind} of log10" if task.transform == "log10" else kind
        for (part, way), found in runs.items():
            growth = np.stack([_errors(task, configurations, one) for one in found])[:, known] - errors[known]
            ends = _interval(growth, rng)
            results.append(
                Importance(task.name, kind, unit, float(errors[known].mean()), part, way, float(growth.mean()), *ends)
            )
    return results


def attention_shares(
    predictions: Sequence[Prediction], configurations: Sequence[Configuration]
) -> list[AttentionShare]:
    """Return the weights of attention fusion by element and by crystal system, the largest first of each.

    Nothing where the predictions have none. What has no symmetry is of the crystal system ``none``.
    """
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for prediction, configuration in zip(predictions, configurations, strict=True):
        if prediction.attention is None:
            return []
        for symbol in set(configuration.species):
            groups["element", symbol].append(prediction.attention)
        symmetry = symmetry_of(to_atoms(configuration))
        groups["crystal system", symmetry[1] if symmetry else "none"].append(prediction.attention)
    shares = [
        AttentionShare(kind, name, len(weights), float(np.mean(weights)), float(np.std(weights)))
        for (kind, name), weights in groups.items()
    ]
    return sorted(shares, key=lambda share: (share.kind, -share.weight, share.name))


class _Swapped:
    """Predicts with graphs and composition features of different structures together.

    Args:
        network: Hooks are put into it.
        configurations: Structures.
        transform: Structure to graph.
        batch_size: Structures computed at a time.
    """

    def __init__(
        self,
        network: Any,
        configurations: Sequence[Configuration],
        transform: Callable[[Configuration], Any],
        batch_size: int,
    ) -> None:
        self._potential = Potential(network.cpu()).eval()
        self._configurations = configurations
        self._transform = transform
        self._batch_size = batch_size
        self._rows: Tensor | None = None
        self._means: dict[nn.Module, Tensor] = {}
        self._trunk_means: dict[nn.Module, Tensor] = {}
        seen: dict[nn.Module, list[Tensor]] = defaultdict(list)

        def replace_composition(module: nn.Module, given: Any, output: Tensor) -> Tensor:
            return output if self._rows is None else self._rows

        def replace_features(module: nn.Module, given: tuple[GraphInputs], output: Tensor) -> Tensor:
            if not self._means:  # the first time: everything in its place
                seen[module].append(pool(output, given[0].node_graph, given[0].n_graphs, "mean"))
            return self._trunk_means[module].expand_as(output) if module in self._trunk_means else output

        composition = composition_modules(network)
        for features in composition:
            features.register_forward_hook(replace_composition)
        for trunk in network.trunks.values() if hasattr(network, "trunks") else [network.trunk]:
            (trunk.trunk if isinstance(trunk, FusedTrunk) else trunk).register_forward_hook(replace_features)
        self._sizes = np.array([len(item.species) for item in configurations])
        with torch.no_grad():
            z = torch.tensor([atomic_numbers[symbol] for item in configurations for symbol in item.species])
            node_graph = torch.repeat_interleave(torch.from_numpy(self._sizes))
            self._composition = composition[0](z, node_graph, len(configurations))
        own = np.arange(len(configurations))
        self.predict(own, own)
        self._means = {module: torch.cat(outputs).mean(0) for module, outputs in seen.items()}

    def predict(
        self, graphs: NDArray[np.int64] | None, compositions: NDArray[np.int64] | None
    ) -> list[dict[str, NDArray[np.float64]]]:
        """Return head -> prediction of each structure, with the graph of one and the composition of another structure.

        What grows with the number of atoms is that of as many atoms as the structure itself has.

        Args:
            graphs: Indices; ``None`` for mean features of atoms in the structure's own graph.
            compositions: Indices; ``None`` for the features of the mean composition.
        """
        self._trunk_means = {} if graphs is not None else self._means
        graphs = np.arange(len(self._configurations)) if graphs is None else graphs
        # Scaled features: their mean over the training set is 0.
        rows = torch.zeros_like(self._composition) if compositions is None else self._composition[compositions]
        found: list[Prediction] = []
        for start in range(0, len(graphs), self._batch_size):
            chosen = graphs[start : start + self._batch_size]
            self._rows = rows[start : start + self._batch_size]
            found += predict(self._potential, [self._configurations[i] for i in chosen], self._transform, len(chosen))
        self._rows = None
        scale = self._sizes / self._sizes[graphs]
        grows = {
            name for name, head in self._potential.network.heads.items() if getattr(head, "learned", "") == "per_atom"
        }
        return [
            {name: value * (factor if name in grows else 1.0) for name, value in one.properties.items()}
            for one, factor in zip(found, scale, strict=True)
        ]


def _others(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each of ``n`` another one, ``(n,)``: a random permutation that leaves none in its place."""
    order = rng.permutation(n)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


def _errors(
    task: Task, configurations: Sequence[Configuration], found: Sequence[dict[str, NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Return the error of each structure, ``(n_structures,)``; NaN where there is no label."""
    errors = np.full(len(configurations), np.nan)
    for index, (configuration, values) in enumerate(zip(configurations, found, strict=True)):
        target, value = target_of(configuration, task), values[task.name]
        if task.kind == "classification":
            if not np.isnan(target).any():
                errors[index] = np.sum((value - np.eye(len(value))[int(target.item())]) ** 2)
            continue
        sizes = np.full(target.shape, len(configuration.species))
        difference = np.abs(drawn(task, value, sizes) - drawn(task, target, sizes))
        if np.isfinite(difference).any():
            errors[index] = np.nanmean(difference)
    return errors


def _interval(growth: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the bootstrap interval of the mean of ``(n_repeats, n_structures)``, over both."""
    # How often each is drawn.
    repeats, structures = (rng.multinomial(n, np.full(n, 1 / n), size=SAMPLES) / n for n in growth.shape)
    means = ((repeats @ growth) * structures).sum(1)
    low, high = np.percentile(means, ENDS)
    return float(low), float(high)
