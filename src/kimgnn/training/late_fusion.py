"""Late fusion: after training, a random forest on the composition beside each head, weighed on validation data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from kliff.dataset import Configuration
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor
from torch.nn import functional

from kimgnn.errors import DataError, Problem
from kimgnn.heads.property import PropertyHead, apply_transform
from kimgnn.models.fusion import forests
from kimgnn.models.network import Network
from kimgnn.nn.composition import CompositionFeatures
from kimgnn.nn.forest import Forest
from kimgnn.transforms.graph import TARGETS

WEIGHTS = np.linspace(1.0, 0.0, 101)
"""Weights of the network that are tried; of equally good ones the first is taken."""


@dataclass(frozen=True)
class FittedForest:
    """What came of the forest of a head.

    Attributes:
        weight: Of the network.
        network_loss: On the validation set, of the network alone.
        forest_loss: Of the forest alone.
        loss: Of both together.
        n_nodes: Nodes of all trees.
        n_bytes: What they add to a file.
    """

    weight: float
    network_loss: float
    forest_loss: float
    loss: float
    n_nodes: int
    n_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.weight:.2f} network + {1 - self.weight:.2f} forest on the composition; validation loss "
            f"{self.network_loss:.4g} and {self.forest_loss:.4g} alone, {self.loss:.4g} together; "
            f"{self.n_nodes} nodes, {self.n_bytes / 2**20:.1f} MiB"
        )


def check_late_fusion(network: Network, train: Sequence[Configuration], validation: Sequence[Configuration]) -> None:
    """Check, before training, that every forest will have structures to learn from and to be weighed on.

    Raises:
        DataError: Of each head without a labelled structure in one of them.
    """
    problems = [
        Problem(
            f"training.{split}_dataset",
            f"no structure has the target of {name!r}, beside whose head a forest is to be",
            remedy="Choose other structures, or another model.composition.fusion.",
        )
        for name in forests(network)
        for split, part in (("training", train), ("validation", validation))
        if not any(_is_labelled(network.heads[name], item) for item in part)
    ]
    if problems:
        raise DataError(problems=problems)


def fit_forests(
    network: Network,
    train: Sequence[Configuration],
    validation: Sequence[Configuration],
    predicted: Sequence[Mapping[str, NDArray[np.float64]]],
    seed: int,
) -> dict[str, FittedForest]:
    """Fit a forest for each head that has a place for one, on what the head learns, and weigh it beside the network.

    The forests learn from the training set, the weights from the validation set, and neither from anything else. A
    weight minimises the head's own loss: its penalty in units of the spread, or the cross entropy of classes.

    Args:
        network: Trained; it is given the forests.
        train: With targets, of which each head has some (see `check_late_fusion`).
        validation: Likewise.
        predicted: Of each structure of the validation set, what the network alone says, by head, as in
            `kimgnn.evaluation.predict.Prediction.properties`.
        seed: Of the forests.
    """
    options: Any = network.spec.composition
    results = {}
    for name, late in forests(network).items():
        head: Any = network.heads[name]
        learned = [item for item in train if _is_labelled(head, item)]
        unseen = [index for index, item in enumerate(validation) if _is_labelled(head, item)]
        model = _forest(head, options, seed)
        target = _targets(head, learned).numpy()
        model.fit(features_of(late.composition, learned).numpy(), target[:, 0] if target.shape[1] == 1 else target)
        late.forest.set_trees(trees_of(model, late.classes))
        with torch.no_grad():
            of_forest = late.forest(features_of(late.composition, [validation[index] for index in unseen]))
        of_network = torch.from_numpy(np.stack([predicted[index][name] for index in unseen]))
        loss = _loss(head, [validation[index] for index in unseen], of_network, of_forest)
        losses = [loss(weight) for weight in WEIGHTS]
        best = int(np.argmin(losses))
        late.weight.fill_(WEIGHTS[best])
        n_bytes = sum(array.nbytes for array in late.forest.buffers())
        results[name] = FittedForest(
            float(WEIGHTS[best]), losses[0], losses[-1], losses[best], len(late.forest.feature), n_bytes
        )
    return results


def remove_forests(network: Network) -> None:
    """Leave the network alone."""
    for late in forests(network).values():
        late.forest = Forest()
        late.weight.fill_(1.0)


def features_of(features: CompositionFeatures, configurations: Sequence[Configuration]) -> Tensor:
    """Return the features of the composition of structures, ``(n_structures, n_features)``; once a composition."""
    keys = [tuple(sorted(configuration.species)) for configuration in configurations]
    rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    z = torch.tensor([atomic_numbers[symbol] for key in rows for symbol in key])
    node_graph = torch.repeat_interleave(torch.tensor([len(key) for key in rows]))
    with torch.no_grad():
        found: Tensor = features(z, node_graph, len(rows))
    return found[[rows[key] for key in keys]]


def trees_of(model: RandomForestClassifier | RandomForestRegressor, n_classes: int = 0) -> dict[str, Tensor]:
    """Return the arrays of `kimgnn.nn.forest.Forest` of what scikit-learn fitted.

    Args:
        model: The forest.
        n_classes: Of a classifier: classes that it did not see have the probability 0.
    """
    classes: list[int] = [int(name) for name in getattr(model, "classes_", [])]
    parts: dict[str, list[NDArray[Any]]] = {"feature": [], "threshold": [], "child": [], "value": []}
    roots, size = [], 0
    for estimator in model.estimators_:
        tree = estimator.tree_
        order, left = _children_side_by_side(tree.children_left, tree.children_right)
        leaf = left < 0
        values = tree.value[order, 0, :] if classes else tree.value[order, :, 0]
        if classes:
            values, seen = np.zeros((len(order), n_classes)), values
            values[:, classes] = seen / seen.sum(1, keepdims=True)
        parts["feature"].append(np.where(leaf, 0, tree.feature[order]))
        parts["threshold"].append(np.where(leaf, np.inf, tree.threshold[order]))
        parts["child"].append(np.where(leaf, np.arange(len(order)), left) + size)
        parts["value"].append(values)
        roots.append(size)
        size += len(order)
    return {name: torch.from_numpy(np.concatenate(arrays)) for name, arrays in parts.items()} | {
        "roots": torch.tensor(roots)
    }


def _children_side_by_side(
    left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the nodes of a tree in an order in which siblings follow one another, and the left child of each.

    Args:
        left: ``(n_nodes,)``, -1 in leaves.
        right: ``(n_nodes,)``, likewise.
    """
    order, child = [0], []
    for node in order:  # it grows on the way
        if left[node] < 0:
            child.append(-1)
        else:
            child.append(len(order))
            order += [int(left[node]), int(right[node])]
    return np.array(order), np.array(child)


def _forest(head: Any, options: Mapping[str, Any], seed: int) -> Any:
    """Return a forest like those of the literature on such features: a third of them is tried at a node, or the root.

    Breiman (2001) for regression and classification; a class counts what it counts in the head's loss.
    """
    common = {
        "n_estimators": options["n_trees"],
        "max_leaf_nodes": options["max_leaves"],
        "random_state": seed,
        "n_jobs": torch.get_num_threads(),
    }
    if isinstance(head, PropertyHead):
        return RandomForestRegressor(max_features=1 / 3, **common)
    weights = dict(enumerate(head.class_weights.tolist()))
    return RandomForestClassifier(max_features="sqrt", class_weight=weights, **common)


def _is_labelled(head: Any, configuration: Configuration) -> bool:
    return bool(np.isfinite(configuration.metadata[TARGETS][head.options.target]).all())


def _targets(head: Any, configurations: Sequence[Configuration]) -> Tensor:
    """Return what a head learns of structures, ``(n_structures, n_components)``; of classes, their indices."""
    targets = torch.from_numpy(
        np.stack([np.ravel(item.metadata[TARGETS][head.options.target]) for item in configurations])
    )
    if not isinstance(head, PropertyHead):
        return targets
    return apply_transform(targets, head.options.learned, _sizes(configurations))


def _sizes(configurations: Sequence[Configuration]) -> Tensor:
    return torch.tensor([len(item.species) for item in configurations])


def _loss(
    head: Any, configurations: Sequence[Configuration], of_network: Tensor, of_forest: Tensor
) -> Callable[[float], float]:
    """Return the loss as a function of the network's weight.

    Args:
        head: What both are beside.
        configurations: Structures with targets.
        of_network: ``(n_structures, n_components)`` in the property's unit, or the probabilities of the classes.
        of_forest: What a head learns, ``(n_structures, n_components)``, or the probabilities of the classes.
    """
    targets = _targets(head, configurations)
    if not isinstance(head, PropertyHead):
        classes = targets[:, 0].to(torch.int64)
        weights = head.class_weights[classes]

        def cross_entropy(weight: float) -> float:
            likely = (weight * of_network + (1 - weight) * of_forest).gather(1, classes.unsqueeze(1)).squeeze(1)
            # A forest may be sure, and wrong.
            return float(-(weights * torch.log(likely.clamp(min=1e-15))).sum() / weights.sum())

        return cross_entropy
    alone = apply_transform(of_network, head.options.learned, _sizes(configurations))

    def penalty(weight: float) -> float:
        residual = (weight * alone + (1 - weight) * of_forest - targets) / head.spread
        if head.options.loss == "mse":
            return float(residual.square().mean())
        if head.options.loss == "mae":
            return float(residual.abs().mean())
        return float(functional.huber_loss(residual, torch.zeros_like(residual), delta=head.options.huber_delta))

    return penalty
