"""What active learning came to, for people: tables, and test error against the number of labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kimgnn.evaluation.plots import GRID
from kimgnn.evaluation.tables import aligned
from kimgnn.files import atomic_write

NAME: Final = "active"
"""Of the files: ``active.csv``, ``active.md`` and ``active.png``."""

COMPARED: Final = "forces_rmse"
"""The error by which arms are compared."""

ERRORS: Final = {
    "energy_rmse": "energy RMSE (meV/atom)",
    "forces_mae": "forces MAE (eV/Å)",
    "forces_rmse": "forces RMSE (eV/Å)",
    "stress_rmse": "stress RMSE (GPa)",
}
"""Metric -> what a reader calls it."""

COLOURS: Final = ("#D55E00", "#0072B2")


@dataclass(frozen=True)
class ArmRow:
    """One training of one arm.

    Attributes:
        arm: How its structures were chosen: ``active`` or ``random``.
        round: From 0.
        labels: It has learned from, besides the data set's own.
        n_train: Structures trained on, those of the data set included.
        metrics: Metric -> error.
        pool: Structures to choose the next ones from; ``None`` where none were looked for.
        unsure: How many had a deviation above the threshold.
        largest: Largest deviation, eV/Å.
        median: Median deviation, eV/Å.
        chosen: Structures that were chosen.
    """

    arm: str
    round: int
    labels: int
    n_train: int
    metrics: Mapping[str, float]
    pool: int | None = None
    unsure: int | None = None
    largest: float | None = None
    median: float | None = None
    chosen: int = 0


def labels_needed(labels: Sequence[int], errors: Sequence[float], error: float) -> float | None:
    """Return how many labels a curve needs to come down to an error; ``None`` if it does not.

    Between two trainings, the logarithm of the error is taken to fall evenly. An error that rises again does not count
    back.

    Args:
        labels: Ascending.
        errors: Of as many labels, above 0.
        error: To come down to.
    """
    best = np.minimum.accumulate(np.asarray(errors, dtype=float))
    below = np.flatnonzero(best <= error)
    if not len(below):
        return None
    last = int(below[0])
    if last == 0 or best[last] == best[last - 1]:
        return float(labels[last])
    share = np.log(best[last - 1] / error) / np.log(best[last - 1] / best[last])
    return float(labels[last - 1] + share * (labels[last] - labels[last - 1]))


def compared(rows: Sequence[ArmRow], metric: str = COMPARED) -> str:
    """Return in words how many labels each arm needs for the best error of random selection; or an empty text."""
    curves = _curves(rows, metric)
    if set(curves) != {"active", "random"} or min(map(len, curves.values())) < 2:
        return ""
    (labels, errors), (random_labels, random_errors) = (zip(*curves[arm], strict=True) for arm in ("active", "random"))
    error = min(random_errors)
    beside = labels_needed(random_labels, random_errors, error)
    told = f"Random selection comes down to a {ERRORS[metric]} of {error:.4g} with {beside:.0f} labels"
    needed = labels_needed(labels, errors, error)
    if needed is None:
        return f"{told}; active selection with {labels[-1]} labels to {min(errors):.4g}."
    share = f", {100 * needed / beside:.0f} % of them" if beside else ""
    return f"{told}, active selection with {needed:.0f}{share}."


def write_curves(folder: Path, rows: Sequence[ArmRow], threshold: float) -> str:
    """Write ``active.csv``, ``active.md`` and ``active.png``, and return the second.

    Args:
        folder: Where to.
        rows: All trainings until now.
        threshold: eV/Å, below which a deviation is small enough.
    """
    names = [name for name in ERRORS if any(name in row.metrics for row in rows)]
    header = ["arm", "round", "labels", "trained on", *(ERRORS[name] for name in names), "pool", "above the threshold",
              "largest deviation (eV/Å)", "median deviation (eV/Å)", "chosen"]  # fmt: skip
    cells = [
        [row.arm, row.round, row.labels, row.n_train, *(row.metrics.get(name) for name in names), row.pool, row.unsure,
         row.largest, row.median, row.chosen]
        for row in rows
    ]  # fmt: skip
    with atomic_write(folder / f"{NAME}.csv") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in cells)
    text = aligned([header, *([_cell(cell) for cell in row] for row in cells)])
    if told := compared(rows):
        text += f"\n\n{told}"
    with atomic_write(folder / f"{NAME}.md") as file:
        file.write(text + "\n")
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_errors(left, rows)
    _draw_deviations(right, rows, threshold)
    with atomic_write(folder / f"{NAME}.png", "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=150)
    return text


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curves(rows: Sequence[ArmRow], metric: str) -> dict[str, list[tuple[int, float]]]:
    """Return arm -> labels and error of each training."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if metric in row.metrics:
            curves.setdefault(row.arm, []).append((row.labels, row.metrics[metric]))
    return curves


def _draw_errors(ax: Axes, rows: Sequence[ArmRow]) -> None:
    for colour, (arm, points) in zip(COLOURS, _curves(rows, COMPARED).items(), strict=False):
        ax.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, linewidth=1.4, label=f"{arm} selection")
    _finish(ax, "error against labels", "labels", f"test {ERRORS[COMPARED]}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_deviations(ax: Axes, rows: Sequence[ArmRow], threshold: float) -> None:
    shown = [(row.round, row.largest, row.median) for row in rows if row.arm == "active" and row.largest is not None]
    if shown:
        rounds, largest, median = zip(*shown, strict=True)
        ax.plot(rounds, largest, "o-", color=COLOURS[0], markersize=4, linewidth=1.4, label="largest")
        ax.plot(rounds, median, "s-", color="#009E73", markersize=4, linewidth=1.4, label="median")
    if threshold and shown:
        ax.axhline(threshold, color="#555555", linewidth=0.9, linestyle="--", label="threshold")
    _finish(ax, "force deviation of the structures explored", "round", "deviation (eV/Å)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _finish(ax: Axes, title: str, x: str, y: str) -> None:
    values = [value for line in ax.get_lines() for value in np.ravel(line.get_ydata())]
    if values and min(values) > 0:
        ax.set_yscale("log")
    ax.set_title(title, fontsize=10)
    ax.set(xlabel=x, ylabel=y)
    ax.grid(True, which="both", color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if values:
        ax.legend(frameon=False, fontsize=9)
