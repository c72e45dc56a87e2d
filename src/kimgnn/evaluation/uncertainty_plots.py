"""Pictures of uncertainties: coverage curves, errors against deviations, and how often probabilities come true."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from kimgnn.evaluation.metrics import with_unit
from kimgnn.evaluation.plots import COLOURS, DENSE, GRID
from kimgnn.evaluation.uncertainty import (
    LEVELS,
    ClassUncertainty,
    Deviations,
    ValueUncertainty,
    bins_of,
    confidence_bins,
)

RAW, CALIBRATED = "#999999", COLOURS["test"]

DECADES: Final = 3.0
"""Of errors that are shown: smaller ones, which say nothing, lie on the axis."""


def value_plot(found: ValueUncertainty) -> Figure:
    """Return the coverage of intervals against their level, and errors against deviations, of a head of numbers."""
    figure = Figure(figsize=(9.0, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, colour, told in (("raw", RAW, found.raw), ("calibrated", CALIBRATED, found.calibrated)):
        if told is not None:
            _coverage(left, told, found.level, name, colour)
    left.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, zorder=0)
    left.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    left.set_xlabel("level of the intervals")
    left.set_ylabel("share of the labels within them")
    left.set_title(f"{found.task.name}: {found.structures:,} structures", fontsize=10)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    _errors(right, found, found.calibrated or found.raw, "calibrated" if found.calibrated else "raw")
    for ax in (left, right):
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def class_plot(found: ClassUncertainty) -> Figure:
    """Return how often the most probable class is true against its probability, and how many structures there are."""
    figure = Figure(figsize=(4.8, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    given = [("raw", RAW, found.raw, found.errors[0]), ("calibrated", CALIBRATED, found.calibrated, found.errors[1])]
    lowest = 1.0 / len(found.task.classes)
    for name, colour, probabilities, error in given:
        if probabilities is None:
            continue
        confidence, accuracy, _ = confidence_bins(probabilities, found.reference)
        label = f"{name}: calibration error {error:.3f}"
        top.plot(confidence, accuracy, color=colour, marker="o", markersize=4, linewidth=1.3, label=label)
        bottom.hist(probabilities.max(axis=1), bins=20, range=(lowest, 1), color=colour, histtype="step", linewidth=1.3)
    top.plot([lowest, 1], [lowest, 1], color="#888888", linewidth=0.8, zorder=0)
    top.set(xlim=(lowest - 0.01, 1.01), ylim=(0, 1.02))
    top.set_ylabel("share that is of this class")
    top.set_title(f"{found.task.name}: {len(found.reference):,} structures", fontsize=10)
    top.legend(frameon=False, fontsize=9, loc="lower right")
    bottom.set_xlabel("probability of the most probable class")
    bottom.set_ylabel("structures")
    for ax in (top, bottom):
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _coverage(ax: Axes, told: Deviations, level: float, name: str, colour: str) -> None:
    ax.plot(LEVELS, told.coverage, color=colour, linewidth=1.6, label=f"{name}: miscalibration area {told.area:.3f}")
    ax.fill_between(LEVELS, LEVELS, told.coverage, color=colour, alpha=0.15, linewidth=0)
    label = f"{100 * told.at_level:.1f} % within intervals of {100 * level:g} %"
    ax.plot([level], [told.at_level], "o", color=colour, markersize=5, label=label)


def _errors(ax: Axes, found: ValueUncertainty, told: Deviations, name: str) -> None:
    """Draw absolute errors against deviations, and root mean squares in bins, which should lie on the line."""
    finite = np.isfinite(found.error) & np.isfinite(told.deviation)
    error, deviation = found.error[finite], told.deviation[finite]
    size = np.abs(error)
    seen = deviation > 0
    if not seen.any() or not size.any():
        ax.text(0.5, 0.5, "no errors or deviations above 0", transform=ax.transAxes, ha="center", fontsize=9)
        return
    top = 1.5 * max(float(size.max()), float(deviation.max()))
    bottom = min(top * 10.0**-DECADES, 0.7 * float(deviation[seen].min()))
    shown = np.maximum(size, bottom)
    if len(size) > DENSE:
        ax.hexbin(
            deviation[seen], shown[seen], gridsize=50, bins="log", mincnt=1, cmap="Greys", xscale="log", yscale="log",
            linewidths=0,
        )  # fmt: skip
    else:
        ax.scatter(deviation[seen], shown[seen], s=9, color=CALIBRATED, alpha=0.45, linewidths=0)
    span = np.array([0.7 * deviation[seen].min(), 1.4 * deviation.max()])
    ax.plot(span, span, color="#555555", linewidth=0.9, label="error = deviation")
    ax.plot(*bins_of(error, deviation), "s-", color="#D55E00", markersize=5, linewidth=1.2, label="RMS, ten bins")
    ax.set(xscale="log", yscale="log", xlim=span, ylim=(bottom, top))
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if high < 5 * low:  # within which 1, 2 and 5 are too few, and a logarithmic axis's own ticks too many
            axis.set_major_locator(MaxNLocator(4))
        else:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(with_unit(f"{name} deviation", found.unit))
    ax.set_ylabel(with_unit("error", found.unit))
    rank = f"rank correlation {found.rank:.2f}" if np.isfinite(found.rank) else ""
    ax.set_title(rank, fontsize=10)
    ax.legend(frameon=False, fontsize=9, loc="lower right")
