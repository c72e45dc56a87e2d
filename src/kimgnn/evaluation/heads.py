"""Predictions of a network's heads beside the labels of the structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from ase import units
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.fields import STRESS
from kimgnn.models.tasks import LABEL_TASKS, Task
from kimgnn.transforms.graph import configuration_name, label_of

if TYPE_CHECKING:
    from kliff.dataset import Configuration

HeadResult: TypeAlias = Regression | Classification
Values: TypeAlias = Sequence[NDArray[np.float64]]
"""One array a structure."""


def compare_heads(
    tasks: Sequence[Task], predictions: Sequence[Prediction], configurations: Sequence[Configuration]
) -> dict[str, HeadResult]:
    """Return head -> labels and predictions, for each head whose target at least one of the structures carries.

    Args:
        tasks: What the heads predict.
        predictions: One a structure.
        configurations: Structures with ``metadata["targets"]``.

    Raises:
        DataError: A target has another shape than the head predicts, or a class that the head does not have.
    """
    results: dict[str, HeadResult] = {}
    for task in tasks:
        targets = [target_of(configuration, task) for configuration in configurations]
        if all(np.isnan(target).all() for target in targets):
            continue
        predicted = [prediction.properties[task.name] for prediction in predictions]
        if task.kind == "classification":
            members = [prediction.members[task.name] for prediction in predictions if task.name in prediction.members]
            results[task.name] = classification(task, targets, predicted, members or None)
        else:
            deviations = [
                prediction.deviations.get(task.name, np.full_like(value, np.nan))
                for prediction, value in zip(predictions, predicted, strict=True)
            ]
            with_deviations = any(task.name in prediction.deviations for prediction in predictions)
            sizes = [len(configuration.species) for configuration in configurations]
            results[task.name] = regression(task, targets, predicted, sizes, deviations if with_deviations else None)
    return results


def compare_labels(predictions: Sequence[Prediction], configurations: Sequence[Configuration]) -> dict[str, Regression]:
    """Return energy, forces and stress (in GPa) like heads, those of them that are predicted and labelled.

    Deviations are those of an ensemble, or of samples.
    """
    results: dict[str, Regression] = {}
    sizes = [len(configuration.species) for configuration in configurations]
    for label, task in LABEL_TASKS.items():
        if any(getattr(prediction, label) is None for prediction in predictions):
            continue
        factor = 1.0 / units.GPa if label == STRESS else 1.0
        predicted = [np.atleast_1d(getattr(prediction, label)) * factor for prediction in predictions]
        labels = [
            np.broadcast_to(np.asarray(label_of(configuration, label), dtype=np.float64) * factor, value.shape)
            for configuration, value in zip(configurations, predicted, strict=True)
        ]
        if any(not np.isnan(found).all() for found in labels):
            said = [getattr(prediction, f"{label}_deviation") for prediction in predictions]
            deviations = [np.atleast_1d(found) * factor for found in said if found is not None]
            results[label] = regression(task, labels, predicted, sizes, deviations or None)
    return results


def head_metrics(results: Mapping[str, HeadResult]) -> dict[str, float]:
    """Return ``{head}_{metric}`` for every metric that is defined; see the results' ``metrics``."""
    return {f"{name}_{metric}": value for name, result in results.items() for metric, value in result.metrics().items()}


def target_of(configuration: Configuration, task: Task) -> NDArray[np.float64]:
    """Return a structure's target, ``(n_components,)`` or ``(n_atoms, n_components)``; NaN where it is missing.

    Raises:
        DataError: It has another shape, or is a class that the head does not have.
    """
    width = 1 if task.kind == "classification" else task.components
    shape = (len(configuration.species), width) if task.per_atom else (width,)
    target = configuration.metadata.get("targets", {}).get(task.target)
    if target is None:
        return np.full(shape, np.nan)
    target = np.asarray(target, dtype=np.float64)
    where = f"{configuration_name(configuration)} ({task.target})"
    if target.shape != shape:
        raise DataError("the label has another shape than the head predicts", where=where, value=target.shape,
                        allowed=str(shape))  # fmt: skip
    indices = range(len(task.classes))
    if task.kind == "classification" and not np.isnan(target).any() and target.item() not in indices:
        raise DataError("no such class", where=where, value=target.item(), allowed=f"0 to {indices[-1]}, an index")
    return target


def regression(
    task: Task, targets: Values, predicted: Values, sizes: Sequence[int], deviations: Values | None = None
) -> Regression:
    """Return labels and predictions of one head, value by value.

    Args:
        task: What the head predicts.
        targets: Labels of each structure; NaN where missing.
        predicted: Predictions of each structure, of the same shapes.
        sizes: Atoms of each structure.
        deviations: Standard deviations that the head predicts.
    """
    reference = _joined(targets)
    known = ~np.isnan(reference)
    counts = [target.size for target in targets]
    structure = np.repeat(np.arange(len(targets)), counts)
    component = np.concatenate([np.arange(count) for count in counts]) % task.components
    return Regression(
        task,
        reference[known],
        _joined(predicted)[known],
        structure[known],
        component[known],
        np.asarray(sizes, dtype=np.int64)[structure][known],
        None if deviations is None else _joined(deviations)[known],
    )


def classification(task: Task, targets: Values, probabilities: Values, members: Values | None = None) -> Classification:
    """Return labels and probabilities of one head, and of an ensemble's members; structures with NaN are left out."""
    reference = _joined(targets)
    known = ~np.isnan(reference)
    return Classification(
        task,
        reference[known].astype(np.int64),
        np.stack(probabilities)[known],
        np.flatnonzero(known),
        None if members is None else np.stack(members)[known],
    )


def _joined(arrays: Values) -> NDArray[np.float64]:
    return np.concatenate([np.ravel(array) for array in arrays])
