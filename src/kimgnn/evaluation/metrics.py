"""Errors in the field's units: energies in meV/atom, forces in eV/Å per component, stress in GPa, heads in theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from ase import units
from numpy.typing import NDArray

from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.tables import Table, aligned
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.transforms.graph import label_of

if TYPE_CHECKING:
    from kliff.dataset import Configuration

    from kimgnn.models.tasks import Task


@dataclass(frozen=True)
class Measure:
    """How a label is compared.

    Attributes:
        quantity: What one compared value is.
        unit: Unit of the values.
        error_unit: Unit of their errors.
        error_scale: ``unit`` in ``error_unit``.
    """

    quantity: str
    unit: str
    error_unit: str
    error_scale: float = 1.0


MEASURES = {
    ENERGY: Measure("energy", "eV/atom", "meV/atom", 1000.0),
    FORCES: Measure("force component", "eV/Å", "eV/Å"),
    STRESS: Measure("stress component", "GPa", "GPa"),
}

HEAD_METRICS: Final = {
    "regression": {
        "mae": "MAE",
        "rmse": "RMSE",
        "mae_per_atom": "MAE per atom",
        "mae_log10": "MAE of log10",
        "r2": "R²",
        "mad_ratio": "MAE/MAD",
        "count": "values",
    },
    "classification": {
        "auc": "AUC",
        "f1": "F1",
        "balanced_accuracy": "balanced accuracy",
        "accuracy": "accuracy",
        "log_loss": "log loss",
        "count": "structures",
    },
}
"""Kind of a head -> metric -> what a reader calls it."""


@dataclass(frozen=True)
class Parity:
    """Labels beside predictions: two arrays ``(n,)`` in the label's `Measure.unit`, missing labels left out."""

    reference: NDArray[np.float64]
    predicted: NDArray[np.float64]

    def mae(self) -> float:
        """Mean absolute error, in ``unit``."""
        return float(np.mean(np.abs(self.predicted - self.reference)))

    def rmse(self) -> float:
        """Root mean square error, in ``unit``."""
        return float(np.sqrt(np.mean((self.predicted - self.reference) ** 2)))


def compare(predictions: Sequence[Prediction], configurations: Sequence[Configuration]) -> dict[str, Parity]:
    """Return label -> parity for each label that is predicted and that at least one of the structures carries.

    Only a missing label is left out; a prediction that is NaN where there is a label stays, and makes the error NaN.
    """
    references: dict[str, list[NDArray[np.float64]]] = {label: [np.empty(0)] for label in LABELS}
    predicteds: dict[str, list[NDArray[np.float64]]] = {label: [np.empty(0)] for label in LABELS}
    for prediction, configuration in zip(predictions, configurations, strict=True):
        factors = {ENERGY: 1.0 / len(configuration.species), FORCES: 1.0, STRESS: 1.0 / units.GPa}
        for label, factor in factors.items():
            if getattr(prediction, label) is None:
                continue
            predicted = np.ravel(getattr(prediction, label)) * factor
            reference = np.broadcast_to(np.ravel(label_of(configuration, label)) * factor, predicted.shape)
            labelled = ~np.isnan(reference)
            references[label].append(reference[labelled])
            predicteds[label].append(predicted[labelled])
    parities = {label: Parity(np.concatenate(references[label]), np.concatenate(predicteds[label])) for label in LABELS}
    return {label: parity for label, parity in parities.items() if parity.reference.size}


def error_metrics(parities: Mapping[str, Parity]) -> dict[str, float]:
    """Return ``{label}_mae`` and ``{label}_rmse`` in the label's error unit, and ``{label}_count``, how many values."""
    metrics: dict[str, float] = {}
    for label, parity in parities.items():
        scale = MEASURES[label].error_scale
        metrics[f"{label}_mae"] = parity.mae() * scale
        metrics[f"{label}_rmse"] = parity.rmse() * scale
        metrics[f"{label}_count"] = parity.reference.size
    return metrics


def metrics_table(metrics: Mapping[str, Mapping[str, float]], tasks: Sequence[Task] = ()) -> str:
    """Return split -> metrics as aligned tables, plain text that is also Markdown; a dash where there is no value.

    Args:
        metrics: Split -> `error_metrics` and `kimgnn.evaluation.heads.head_metrics` together.
        tasks: The heads to tell of besides energy, forces and stress.
    """
    return "\n\n".join(aligned(table.rows, table.left) for table in metrics_tables(metrics, tasks))


def metrics_tables(metrics: Mapping[str, Mapping[str, float]], tasks: Sequence[Task] = ()) -> list[Table]:
    """Return the tables of `metrics_table`: one for energy, forces and stress, and one for each kind of head."""
    tables = [_heads_table(metrics, [task for task in tasks if task.kind == kind]) for kind in HEAD_METRICS]
    labels = [label for label in LABELS if any(f"{label}_mae" in values for values in metrics.values())]
    if labels or not any(tables):
        tables.insert(0, _labels_table(metrics, labels))
    return [table for table in tables if table is not None]


def _labels_table(metrics: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> Table:
    rows = [["split"]]
    for label in labels:
        rows[0] += [f"{label} MAE ({MEASURES[label].error_unit})", "RMSE", "values"]
    for split, values in metrics.items():
        row = [split]
        for label in labels:
            row += [f"{values[name]:.4g}" if (name := f"{label}_{kind}") in values else "–" for kind in ("mae", "rmse")]
            row.append(str(values.get(f"{label}_count", "–")))
        rows.append(row)
    return Table(rows)


def _heads_table(metrics: Mapping[str, Mapping[str, float]], tasks: Sequence[Task]) -> Table | None:
    """Return a row for each head and split, a column for each metric that one of them has; all of one kind."""
    told = [(task, split) for task in tasks for split in metrics if f"{task.name}_count" in metrics[split]]
    if not told:
        return None
    columns = {
        metric: title
        for metric, title in HEAD_METRICS[tasks[0].kind].items()
        if any(f"{task.name}_{metric}" in metrics[split] for task, split in told)
    }
    rows = [["head", "split", *columns.values()]]
    for task, split in told:
        cells = [metrics[split].get(f"{task.name}_{metric}") for metric in columns]
        rows.append([with_unit(task.name, task.unit), split, *map(format_metric, cells)])
    return Table(rows, left=2)


def format_metric(value: float | None) -> str:
    """Return a number for a reader: four digits, a count as it is, a dash for what is not defined."""
    if value is None:
        return "–"
    return str(int(value)) if 1 <= value < 1e12 and value == int(value) else f"{value:.4g}"


def with_unit(name: str, unit: str) -> str:
    """Return ``name (unit)``, or the name alone of what has no unit."""
    return f"{name} ({unit})" if unit else name
