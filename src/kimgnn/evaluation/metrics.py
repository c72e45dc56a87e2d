"""Errors in the field's units: energies in meV/atom, forces in eV/Å per component, stress in GPa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import NDArray

from kimgnn.evaluation.predict import Prediction
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.transforms.graph import label_of

if TYPE_CHECKING:
    from kliff.dataset import Configuration


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
    """Return label -> parity for each label that at least one of the structures carries.

    Only a missing label is left out; a prediction that is NaN where there is a label stays, and makes the error NaN.
    """
    references: dict[str, list[NDArray[np.float64]]] = {label: [np.empty(0)] for label in LABELS}
    predicteds: dict[str, list[NDArray[np.float64]]] = {label: [np.empty(0)] for label in LABELS}
    for prediction, configuration in zip(predictions, configurations, strict=True):
        factors = {ENERGY: 1.0 / len(configuration.species), FORCES: 1.0, STRESS: 1.0 / units.GPa}
        for label, factor in factors.items():
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


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return split -> metrics as an aligned table, plain text that is also Markdown; a dash where there is no label."""
    labels = [label for label in LABELS if any(f"{label}_mae" in values for values in metrics.values())]
    rows = [["split"]]
    for label in labels:
        rows[0] += [f"{label} MAE ({MEASURES[label].error_unit})", "RMSE", "values"]
    for split, values in metrics.items():
        row = [split]
        for label in labels:
            row += [f"{values[name]:.4g}" if (name := f"{label}_{kind}") in values else "–" for kind in ("mae", "rmse")]
            row.append(str(values.get(f"{label}_count", "–")))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
