"""Errors of a regression head, in its own unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kimgnn.evaluation.metrics import Measure, Parity, with_unit

if TYPE_CHECKING:
    from kimgnn.models.tasks import Task

SAME = 1e-100
"""Labels this close are the same in any unit: errors divided by the square of a smaller spread overflow."""


@dataclass(frozen=True)
class Regression:
    """Labels beside predictions of one head on one split, one entry a labelled value, missing labels left out.

    Attributes:
        task: What the head predicts.
        reference: Labels ``(n,)``, in ``task.unit``.
        predicted: Predictions ``(n,)``, in ``task.unit``.
        structure: ``(n,)`` int64, which structure of the split a value belongs to.
        component: ``(n,)`` int64, which component of a vector it is; 0 for a scalar.
        n_atoms: ``(n,)`` int64, atoms of that structure.
        deviation: Standard deviations ``(n,)`` that the head itself predicts, in ``task.unit``, or ``None``.
    """

    task: Task
    reference: NDArray[np.float64]
    predicted: NDArray[np.float64]
    structure: NDArray[np.int64]
    component: NDArray[np.int64]
    n_atoms: NDArray[np.int64]
    deviation: NDArray[np.float64] | None = None

    @property
    def error(self) -> NDArray[np.float64]:
        """Prediction minus label ``(n,)``, in ``task.unit``."""
        return self.predicted - self.reference

    @property
    def divisor(self) -> NDArray[np.float64]:
        """What makes values of an extensive property comparable, ``(n,)``: the atoms of the structure; 1 otherwise."""
        return np.where(self.task.extensive, self.n_atoms, 1).astype(np.float64)

    def parity(self) -> tuple[Measure, Parity]:
        """Return what is drawn, and its labels and predictions; see `drawn`."""
        name, unit = drawn_as(self.task)
        reference, predicted = (drawn(self.task, values, self.n_atoms) for values in (self.reference, self.predicted))
        known = np.isfinite(reference)
        return Measure(name, unit, unit), Parity(reference[known], predicted[known])

    def metrics(self) -> dict[str, float]:
        """Return every error that is defined; a prediction that is NaN makes them NaN.

        ``mae`` and ``rmse`` in ``task.unit``; ``mae_per_atom`` of an extensive property; ``mae_log10`` of a head that
        learns the decadic logarithm; ``r2`` and ``mad_ratio``, the MAE over the mean absolute deviation of the labels
        from their mean (of each component): 1 is as good as predicting the mean; ``count``, how many values. Of an
        extensive property, these two compare values per atom: a cell's size alone says most of a total.
        """
        error = self.error
        metrics = {"mae": _mean(np.abs(error)), "rmse": float(np.sqrt(_mean(error**2)))}
        if self.task.extensive:
            metrics["mae_per_atom"] = _mean(np.abs(error) / self.n_atoms)
        if self.task.transform == "log10" and not self._not_positive():
            metrics["mae_log10"] = _mean(np.abs(np.log10(self.predicted) - np.log10(self.reference)))
        if not self._constant():
            error, spread = error / self.divisor, self._compared - self._centre()
            metrics["r2"] = 1.0 - float(np.sum(error**2) / np.sum(spread**2))
            metrics["mad_ratio"] = _mean(np.abs(error)) / _mean(np.abs(spread))
        return metrics | {"count": float(len(error))}

    def undefined(self) -> dict[str, str]:
        """Return metric -> why it has no value here."""
        reasons: dict[str, str] = {}
        if self._constant():
            reasons |= dict.fromkeys(("r2", "mad_ratio"), "all labels are the same")
        if self.task.transform == "log10" and self._not_positive():
            reasons["mae_log10"] = "not every value is positive"
        return reasons

    def errors_of_structures(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the structures that have a label, and for each the value that is worst, compared as `drawn`.

        Returns:
            Structures ``(m,)``, and positions ``(m,)`` in the arrays of this object, the largest error first; a
            prediction that is NaN counts as the largest.
        """
        reference, predicted = (drawn(self.task, values, self.n_atoms) for values in (self.reference, self.predicted))
        with np.errstate(invalid="ignore"):  # infinite minus infinite
            size = np.abs(predicted - reference)
        order = np.argsort(np.where(np.isnan(size), -np.inf, -size), kind="stable")
        structures, first = np.unique(self.structure[order], return_index=True)
        ranked = np.argsort(first, kind="stable")
        return structures[ranked], order[first[ranked]]

    @property
    def _compared(self) -> NDArray[np.float64]:
        """Labels ``(n,)``, of an extensive property per atom."""
        return self.reference / self.divisor

    def _centre(self) -> NDArray[np.float64]:
        """Return the mean of each value's component ``(n,)``, of what is `_compared`."""
        counts = np.bincount(self.component)
        sums = np.bincount(self.component, weights=self._compared)
        return sums[self.component] / counts[self.component]

    def _constant(self) -> bool:
        """Whether the labels of every component are all the same, or differ by less than `SAME`."""
        spans = (np.ptp(self._compared[self.component == index]) for index in np.unique(self.component))
        return all(span <= SAME for span in spans)

    def _not_positive(self) -> bool:
        return bool((self.reference <= 0).any() or (self.predicted <= 0).any())


def drawn_as(task: Task) -> tuple[str, str]:
    """Return name and unit of what `drawn` returns."""
    unit = f"{task.unit}/atom" if task.extensive else task.unit
    return (f"log10 of {with_unit(task.name, unit)}", "") if task.transform == "log10" else (task.name, unit)


def drawn(task: Task, values: NDArray[np.float64], n_atoms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return values as a picture shows them: an extensive property by atom, and in log10 what is learned so.

    Args:
        task: What the values are.
        values: ``(n,)``, in ``task.unit``; those that have no logarithm become NaN or infinite.
        n_atoms: Atoms ``(n,)`` of each value's structure.
    """
    values = values / n_atoms if task.extensive else values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values) if task.transform == "log10" else values


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values))
