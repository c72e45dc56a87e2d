"""Pictures of a comparison: errors with their spreads, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from kimgnn.evaluation.comparison import Criterion, RunRow, labels_of, values_of
from kimgnn.evaluation.plots import COLUMNS, GRID

SHADES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
"""Colours of the networks, told apart by colour-blind readers (Okabe and Ito)."""

MARKERS: Final = "osD^vP*X"


def bar_plot(rows: Sequence[RunRow], found: Sequence[Criterion]) -> Figure:
    """Return a panel for each criterion: a bar a network, its standard deviation over seeds, and each seed as a dot."""
    labels = labels_of(rows)
    figure, axes = _panels(found, width=max(3.6, 1.2 + 0.75 * len(labels)), height=3.6)
    for ax, criterion in zip(axes, found, strict=True):
        for index, label in enumerate(labels):
            values = values_of(rows, label, criterion.metric)
            values = values[np.isfinite(values)]
            if not len(values):
                ax.text(index, 0.0, "–", ha="center", va="bottom")
                continue
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            ax.bar(index, np.mean(values), 0.65, color=_shade(index), yerr=deviation, capsize=5, alpha=0.85)
            places = index + np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [index]
            ax.scatter(places, values, s=14, color="white", edgecolors="#222222", linewidths=0.8, zorder=3)
        ax.set_xticks(range(len(labels)), labels, rotation=25, ha="right", fontsize=9)
        ax.set_xlim(-0.6, len(labels) - 0.4)
        ax.set_title(criterion.title, fontsize=10)
        ax.set_ylabel("more is better" if criterion.rising else "less is better", fontsize=9)
        ax.grid(True, axis="y", color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def time_plot(rows: Sequence[RunRow], found: Sequence[Criterion]) -> Figure:
    """Return a panel for each criterion: what each network reaches against the time that it was trained."""
    labels = labels_of(rows)
    figure, axes = _panels(found, width=4.2, height=3.6)
    for ax, criterion in zip(axes, found, strict=True):
        for index, label in enumerate(labels):
            own = [row for row in rows if row.label == label and criterion.metric in row.metrics]
            points = np.array([[row.seconds, row.metrics[criterion.metric]] for row in own]).reshape(-1, 2)
            points = points[np.isfinite(points).all(axis=1)]
            if not len(points):
                continue
            colour, marker = _shade(index), MARKERS[index % len(MARKERS)]
            ax.scatter(points[:, 0], points[:, 1], s=14, color=colour, marker=marker, alpha=0.5, linewidths=0)
            seconds, metric = points.mean(axis=0)
            of_seconds, of_metric = points.std(axis=0, ddof=1) if len(points) > 1 else (None, None)
            ax.errorbar(
                seconds, metric, xerr=of_seconds, yerr=of_metric, fmt=marker, color=colour, capsize=3, label=label
            )
        _time_axis(ax, [row.seconds for row in rows])
        ax.set_ylabel(criterion.title, fontsize=9)
        ax.set_title(f"{criterion.head}, {'more' if criterion.rising else 'less'} is better", fontsize=10)
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _panels(found: Sequence[Criterion], width: float, height: float) -> tuple[Figure, list[Axes]]:
    n_columns = min(len(found), COLUMNS)
    n_rows = -(-len(found) // n_columns)
    figure = Figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for ax in axes[len(found) :]:
        ax.remove()
    return figure, axes[: len(found)]


def _time_axis(ax: Axes, seconds: Sequence[float]) -> None:
    """Take a unit that suits, and a logarithmic axis where times differ by much."""
    known = [value for value in seconds if math.isfinite(value) and value > 0]
    units = {"h": 3600.0, "min": 60.0, "s": 1.0}
    unit = next((name for name, length in units.items() if known and max(known) >= 2 * length), "s")
    if known and max(known) > 4 * min(known):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / units[unit]:g}")
    ax.set_xlabel(f"training time ({unit})")


def _shade(index: int) -> str:
    return SHADES[index % len(SHADES)]
