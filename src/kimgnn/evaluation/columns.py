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


ATTENTION = "attention (structure)"
"""Column of the weight of the structure beside its composition."""


def prediction_columns(prediction: Prediction, tasks: Sequence[Task], arrays: bool = True) -> dict[str, Any]:
    """Return ``name (unit)`` -> value of everything that was predicted, in plain values.

    Stress and vectors are columns ``name[0] (unit)``; values of atoms are lists; a class is its name, and its
    probabilities are columns ``name P(class)``. A head's standard deviation is ``name deviation (unit)``.

    Args:
        prediction: Of one structure.
        tasks: What its property and classification heads predict.
        arrays: Also forces and atomic energies, lists as long as the structure is large.
    """
    columns: dict[str, Any] = {}
    if prediction.energy is not None:
        columns[with_unit(ENERGY, UNITS[ENERGY])] = float(prediction.energy)
    if prediction.stress is not None:
        columns |= value_columns(STRESS, UNITS[STRESS], prediction.stress)
    for name in (FORCES, ATOMIC_ENERGIES):
        value = getattr(prediction, name)
        if value is not None and arrays:
            columns[with_unit(name, UNITS[name])] = value.tolist()
    for task in tasks:
        value = prediction.properties[task.name]
        if task.kind == "classification":
            columns |= class_columns(task.name, task, value)
            continue
        columns |= value_columns(task.name, task.unit, value)
        if task.name in prediction.deviations:
            columns |= value_columns(f"{task.name} deviation", task.unit, prediction.deviations[task.name])
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


def csv_cells(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns as a CSV file holds them: lists in JSON, nothing for ``None``."""
    return {
        name: json.dumps(value) if isinstance(value, list) else "" if value is None else value
        for name, value in columns.items()
    }


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
