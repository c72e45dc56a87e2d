"""The loss: what each labelled entry counts for, and how the entries of a batch become one number."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from kliff.dataset import Configuration
from torch import Tensor
from torch.nn import functional

from kimgnn.fields import (
    CONFIG_WEIGHT,
    CONTRIBUTIONS,
    ENERGY,
    ENERGY_WEIGHT,
    FORCES,
    FORCES_WEIGHT,
    LABELS,
    STRESS,
    STRESS_WEIGHT,
)
from kimgnn.training.head_losses import HeadLoss


def atom_counts(graph: Any) -> Tensor:
    """Return the number of real atoms of each graph of a batch, ``(n_graphs,)`` int64, ghosts left out."""
    contributions = graph[CONTRIBUTIONS]
    real = contributions[contributions % 2 == 0]
    return torch.bincount(torch.div(real, 2, rounding_mode="floor"), minlength=graph[ENERGY].numel())


@dataclass(frozen=True)
class LossTerms:
    """Sums over the entries of a batch, which add up over batches and processes before they are divided.

    Attributes:
        sums: ``(n_terms,)``, weighted penalties of energy, forces, stress and each further head.
        counts: ``(n_terms,)``, numbers of labelled entries.
    """

    sums: Tensor
    counts: Tensor

    def means(self) -> Tensor:
        """Return the mean of each term, ``(n_terms,)``; 0 for one without entries."""
        return self.sums / self.counts.clamp(min=1)

    def mean(self) -> Tensor:
        """Return the loss: the sum of the means."""
        return self.means().sum()


class Loss:
    """Weighted mean penalty of energy, forces, stress and what other heads learn, over the entries that have a label.

    ``L = Σ_k W_k · mean(w_config · w_k · penalty(residual / scale_k))`` for the labels k: the mean runs over structures
    for the energy and over components for forces (eV/Å) and stress (eV/Å³). ``W_k`` are the loss's weights, ``w`` those
    that a structure carries. With squared errors and plain weights this is KLIFF's loss. Other heads have penalties of
    their own: see `kimgnn.training.head_losses`.

    Args:
        function: ``mse`` (squared error), ``mae`` (absolute error) or ``huber``.
        huber_delta: Residual at which Huber's penalty turns from squared to linear.
        weights: ``config``, ``energy``, ``forces``, ``stress``; one that is missing is 0, but ``config`` is 1.
        normalize_per_atom: Divide the energy's residual by the number of atoms.
        scales: Label -> what its residual is divided by (a property transform); 1 when missing.
        heads: The losses of the other heads.

    Attributes:
        names: The terms, in order.
    """

    def __init__(
        self,
        function: str = "mse",
        huber_delta: float = 0.01,
        weights: Mapping[str, float] | None = None,
        normalize_per_atom: bool = False,
        scales: Mapping[str, float] | None = None,
        heads: Sequence[HeadLoss] = (),
    ) -> None:
        self._penalty = _penalty(function, huber_delta)
        given = {ENERGY: 1.0} if weights is None else weights
        config = given.get("config", 1.0)
        self.weights = {label: config * given.get(label, 0.0) for label in LABELS}
        self.normalize_per_atom = normalize_per_atom
        self.scales = {label: (scales or {}).get(label, 1.0) for label in LABELS}
        self.heads = list(heads)
        self.weights |= {head.name: head.weight for head in self.heads}
        self.names = [*LABELS, *(head.name for head in self.heads)]

    def uses(self, name: str) -> bool:
        """Whether a label or head counts."""
        return self.weights[name] > 0

    def terms(self, predicted: Mapping[str, Tensor], graph: Any, atoms: Tensor | None = None) -> LossTerms:
        """Return the terms of a batch.

        Args:
            predicted: The labels that are used.
            graph: The batch.
            atoms: `atom_counts` of it, where they are known already.
        """
        atoms = atom_counts(graph) if atoms is None else atoms
        config = graph[CONFIG_WEIGHT].view(-1)
        of_atoms = torch.repeat_interleave(config, atoms, output_size=graph[FORCES].shape[0])[:, None]
        weights = {
            ENERGY: config * graph[ENERGY_WEIGHT].view(-1),
            FORCES: of_atoms * graph[FORCES_WEIGHT],
            STRESS: (config * graph[STRESS_WEIGHT].view(-1))[:, None],
        }
        sums, counts = [], []
        for label in LABELS:
            target = graph[label]
            if not self.uses(label):
                sums.append(target.new_zeros(()))
                counts.append(target.new_zeros(()))
                continue
            labelled = ~torch.isnan(target)
            residual = torch.where(labelled, predicted[label] - target, 0.0) / self.scales[label]
            if label == ENERGY and self.normalize_per_atom:
                residual = residual / atoms
            sums.append(self.weights[label] * (weights[label] * self._penalty(residual)).sum())
            counts.append(labelled.sum().to(target.dtype))
        for head in self.heads:
            penalty, count = head.penalties(predicted[head.name], graph, atoms)
            sums.append(head.weight * penalty)
            counts.append(count.to(penalty.dtype))
        return LossTerms(torch.stack(sums), torch.stack(counts))


def _penalty(function: str, huber_delta: float) -> Callable[[Tensor], Tensor]:
    """Return the penalty of a residual, entry by entry; 0 at 0."""
    penalties: dict[str, Callable[[Tensor], Tensor]] = {
        "mse": torch.square,
        "mae": torch.abs,
        "huber": partial(_huber, delta=huber_delta),
    }
    return penalties[function]


def _huber(residual: Tensor, delta: float) -> Tensor:
    return functional.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=delta)


def label_weights(weights: Mapping[str, float] | str, configurations: Sequence[Configuration]) -> dict[str, float]:
    """Return what ``config`` and each label count for, 0 for a label that no structure gives a weight.

    Args:
        weights: The manifest's ``training.loss.weights``; with a file, the structures alone say what counts.
        configurations: The training set, with its own weights.
    """
    plain = dict.fromkeys(("config", *LABELS), 1.0) if isinstance(weights, str) else dict(weights)
    for label in LABELS:
        own = [getattr(configuration.weight, f"{label}_weight") for configuration in configurations]
        if not any(weight is not None and np.any(weight) for weight in own):
            if not isinstance(weights, str) and plain.get(label):
                warnings.warn(
                    f"{label} has a weight in training.loss.weights, but no structure gives it one (dataset.weights): "
                    "it is not fitted.",
                    stacklevel=2,
                )
            plain[label] = 0.0
    return plain
