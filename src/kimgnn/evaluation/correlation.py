"""How labels, and what a network gets wrong about them, go together: one number a structure, many of them missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kimgnn.evaluation.heads import target_of
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import drawn, drawn_as
from kimgnn.evaluation.tables import Table
from kimgnn.fields import ENERGY
from kimgnn.models.tasks import LABEL_TASKS, Task
from kimgnn.transforms.graph import label_of

if TYPE_CHECKING:
    from kliff.dataset import Configuration

ENOUGH: Final = 10
"""Structures with both labels below which no correlation is told: of ten, unrelated labels exceed 0.63 once in 20."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of every pair.

    Attributes:
        names: What is correlated.
        values: ``(n, n)``, NaN where too few structures have both, or one does not vary among them.
        counts: ``(n, n)``, structures that have both.
    """

    names: list[str]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def table(self) -> Table:
        """Return the matrix with the number of structures; a dash where it is missing."""
        rows = [["", *self.names]]
        for name, values, counts in zip(self.names, self.values, self.counts, strict=True):
            cells = zip(values, counts, strict=True)
            rows.append([name, *("–" if np.isnan(r) else f"{r:.2f} (n = {count:,})" for r, count in cells)])
        return Table(rows)


def is_scalar(task: Task) -> bool:
    """Whether a structure has one number of it: no vectors, no atoms, no more than two classes."""
    if task.kind == "classification":
        return len(task.classes) == 2
    return task.components == 1 and not task.per_atom


def scalar_labels(tasks: Sequence[Task], configurations: Sequence[Configuration]) -> dict[str, NDArray[np.float64]]:
    """Return name -> labels ``(n,)`` of what `is_scalar`, as pictures show them; NaN where missing.

    That is per atom what is extensive, in log10 what is learned so, and 0 or 1 for the second of two classes.
    """
    sizes = _sizes(configurations)
    labels = {}
    for task in filter(is_scalar, tasks):
        if task == LABEL_TASKS[ENERGY]:
            raw = [label_of(item, ENERGY) for item in configurations]
        else:
            raw = [target_of(item, task).item() for item in configurations]
        labels[task.name] = drawn(task, np.array(raw, dtype=np.float64), sizes)
    return labels


def scalar_predictions(
    tasks: Sequence[Task], predictions: Sequence[Prediction], configurations: Sequence[Configuration]
) -> dict[str, NDArray[np.float64]]:
    """Return name -> predictions ``(n,)`` beside `scalar_labels`; of two classes, the probability of the second."""
    sizes = _sizes(configurations)
    found = {}
    for task in filter(is_scalar, tasks):
        if task == LABEL_TASKS[ENERGY]:
            raw = [prediction.energy for prediction in predictions]
        else:
            raw = [prediction.properties[task.name].ravel()[-1] for prediction in predictions]
        found[task.name] = drawn(task, np.array(raw, dtype=np.float64), sizes)
    return found


def titles(tasks: Sequence[Task]) -> dict[str, str]:
    """Return name -> what its values are called in pictures and tables."""
    return {
        task.name: drawn_as(task)[0] if task.kind == "regression" else f"{task.name}: {task.classes[1]}"
        for task in filter(is_scalar, tasks)
    }


def correlate(values: Mapping[str, NDArray[np.float64]], enough: int = ENOUGH) -> Correlation:
    """Return Pearson's correlation of every pair, over the structures that have both.

    Args:
        values: Name -> ``(n_structures,)``, NaN where missing.
        enough: Structures below which a pair's correlation is missing.
    """
    names = list(values)
    matrix = np.full((len(names), len(names)), np.nan)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for row, one in enumerate(values.values()):
        for column, other in enumerate(values.values()):
            both = np.isfinite(one) & np.isfinite(other)
            counts[row, column] = both.sum()
            x, y = one[both], other[both]
            if both.sum() >= enough and np.ptp(x) > 0 and np.ptp(y) > 0:
                matrix[row, column] = np.corrcoef(x, y)[0, 1]
    return Correlation(names, matrix, counts)


def correlation_plot(panels: Mapping[str, Correlation]) -> Figure:
    """Return one matrix a panel, from -1 in red to 1 in blue; a pair that is missing is hatched.

    Args:
        panels: Title -> correlations.
    """
    side = max(3.4, 0.95 * max(len(panel.names) for panel in panels.values()) + 1.8)
    figure = Figure(figsize=(side * len(panels) + 0.9, side), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(panel.values, cmap="RdBu", vmin=-1.0, vmax=1.0)
        ax.patch.set(hatch="////", edgecolor="#BBBBBB", facecolor="white")
        for row, column in np.ndindex(panel.values.shape):
            value, count = panel.values[row, column], panel.counts[row, column]
            missing = np.isnan(value)
            text = f"n = {count:,}" if missing else f"{value:.2f}\nn = {count:,}"
            colour = "white" if not missing and abs(value) > 0.6 else "black"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if missing else None
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, bbox=box)
        ax.set_title(title.replace(", ", "\n", 1), fontsize=10)
        ax.set_xticks(range(len(panel.names)), panel.names, rotation=30, ha="right", fontsize=8)
        ax.set_yticks(range(len(panel.names)), panel.names, fontsize=8)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("correlation", fontsize=9)
    bar.outline.set_visible(False)
    return figure


def _sizes(configurations: Sequence[Configuration]) -> NDArray[np.int64]:
    return np.array([len(item.species) for item in configurations], dtype=np.int64)
