"""Values of a structure as named columns with units: for CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kimgnn.evaluation.metrics import with_unit
from kimgnn.evaluation.predict import Prediction
from kimgnn.fields import ATOMIC_ENERGIES, ENERGY, FORCES, STRESS
from kimgnn.models.tasks import Task

UNITS = {ENERGY: "eV", FORCES: "eV/Å", STRESS: "eV/Å³", ATOMIC_ENERGIES: "eV"}
"""Of what an energy head gives."""

ENDS = ("lower", "upper")
"""Of an interval, as `kimgnn.evaluation.predict.Prediction.intervals` has them."""

ATTENTION = "attention (structure)"
"""Column of the weight of the structure beside its composition."""


def prediction_columns(prediction: Prediction, tasks: Sequence[Task], arrays: bool = True) -> dict[str, Any]:
    """Return ``name (unit)`` -> value of everything that was predicted, in plain values.

    Stress and vectors are columns ``name[0] (unit)``; values of atoms are lists; a class is its name, and its
    probabilities are columns ``name P(class)``. A head's standard deviation is ``name deviation (unit)``, the ends of
    its interval are ``name lower (unit)`` and ``name upper (unit)``; of classes, the deviations of the probabilities
    are ``name deviation P(class)``, and those that are told are a list, ``name set``.

    Args:
        prediction: Of one structure.
        tasks: What its property and classification heads predict.
        arrays: Also forces and atomic energies, lists as long as the structure is large.
    """
    columns: dict[str, Any] = {}
    if prediction.energy is not None:
        columns[with_unit(ENERGY, UNITS[ENERGY])] = float(prediction.energy)
        columns |= label_uncertainty_columns(ENERGY, prediction)
    if prediction.stress is not None:
        columns |= value_columns(STRESS, UNITS[STRESS], prediction.stress)
        columns |= label_uncertainty_columns(STRESS, prediction)
    for name in (FORCES, ATOMIC_ENERGIES):
        value = getattr(prediction, name)
        if value is not None and arrays:
            columns[with_unit(name, UNITS[name])] = value.tolist()
    if arrays:
        columns |= label_uncertainty_columns(FORCES, prediction)
    for task in tasks:
        value = prediction.properties[task.name]
        if task.kind == "classification":
            columns |= class_columns(task.name, task, value)
        else:
            columns |= value_columns(task.name, task.unit, value)
        columns |= uncertainty_columns(task.name, task, prediction)
    if prediction.attention is not None:
        columns[ATTENTION] = prediction.attention
    return columns


def value_columns(name: str, unit: str, value: NDArray[np.float64]) -> dict[str, Any]:
    """Return a number, a vector or values of atoms ``(n_atoms, n_components)`` as columns; NaN becomes ``None``."""
    if value.ndim == 2:
        return {with_unit(name, unit): [[_plain(number) for number in row] for row in value]}
    if len(value) == 1:
        return {with_unit(name, unit): _plain(value[0])}
    return {with_unit(f"{name}[{index}]", unit): _plain(number) for index, number in enumerate(value)}


def class_columns(name: str, task: Task, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return the most probable class and the probability of each; ``None`` where they are NaN."""
    known = not np.isnan(probabilities).any()
    best = task.classes[int(np.argmax(probabilities))] if known else None
    shares = {f"{name} P({kind})": _plain(share) for kind, share in zip(task.classes, probabilities, strict=True)}
    return {name: best} | shares


def label_uncertainty_columns(name: str, prediction: Prediction) -> dict[str, Any]:
    """Return standard deviation and interval of ``energy``, ``forces`` or ``stress``, those that there are."""
    found = {f"{name} deviation": getattr(prediction, f"{name}_deviation")}
    if name in prediction.intervals:
        found |= {f"{name} {end}": value for end, value in zip(ENDS, prediction.intervals[name], strict=True)}
    columns: dict[str, Any] = {}
    for called, value in found.items():
        if value is not None:
            columns |= value_columns(called, UNITS[name], np.atleast_1d(value))
    return columns


def uncertainty_columns(name: str, task: Task, prediction: Prediction) -> dict[str, Any]:
    """Return standard deviation, and interval or set of classes, of a head, those that there are, as columns."""
    columns: dict[str, Any] = {}
    deviation = prediction.deviations.get(task.name)
    if task.kind == "classification":
        if deviation is not None:
            pairs = zip(task.classes, deviation, strict=True)
            columns = {f"{name} deviation P({kind})": _plain(value) for kind, value in pairs}
        if task.name in prediction.sets:
            pairs = zip(task.classes, prediction.sets[task.name], strict=True)
            columns[f"{name} set"] = [kind for kind, told in pairs if told]
        return columns
    if deviation is not None:
        columns |= value_columns(f"{name} deviation", task.unit, deviation)
    if task.name in prediction.intervals:
        for end, value in zip(ENDS, prediction.intervals[task.name], strict=True):
            columns |= value_columns(f"{name} {end}", task.unit, value)
    return columns


def csv_cells(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns as a CSV file holds them: lists in JSON, nothing for ``None``."""
    return {
        name: json.dumps(value) if isinstance(value, list) else "" if value is None else value
        for name, value in columns.items()
    }


def _plain(number: float | np.float64) -> float | None:
    return None if np.isnan(number) else float(number)
