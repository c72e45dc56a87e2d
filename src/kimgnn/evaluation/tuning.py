"""What a search found, for people: a table of the trials, and a picture of their course and of what mattered."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kimgnn.evaluation.plots import GRID
from kimgnn.files import atomic_write

BEST, POINT, PRUNED = "#D55E00", "#0072B2", "#999999"


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search.

    Attributes:
        number: Counted from 0.
        state: ``complete``, ``pruned`` or ``fail``.
        value: The metric's best, of a pruned trial until it ended; ``None`` where there is none.
        values: Dotted path in the manifest -> value that was tried.
        seconds: How long it took.
        note: Its run directory, or why it failed.
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, Any]
    seconds: float
    note: str


def write_trials(path: Path, rows: Sequence[TrialRow], metric: str) -> None:
    """Write a table with a row for each trial."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", metric, *names, "seconds", "note"])
        for row in rows:
            tried = [row.values.get(name, "") for name in names]
            value = "" if row.value is None else row.value
            writer.writerow([row.number, row.state, value, *tried, f"{row.seconds:.1f}", row.note])


def write_importance(
    path: Path, importances: Mapping[str, float], rows: Sequence[TrialRow], metric: str, minimize: bool
) -> None:
    """Write a PNG: how much of the metric's variation each value explains, and how the search went.

    Args:
        path: The file.
        importances: Dotted path -> its share, 0 to 1; may be empty, where too few trials tell.
        rows: The trials.
        metric: Its name.
        minimize: Lower is better.
    """
    figure = Figure(figsize=(10.5, max(3.2, 1.6 + 0.45 * len(importances))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.1))
    _draw_importances(left, importances, metric)
    _draw_course(right, rows, metric, minimize)
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=150)


def _draw_importances(ax: Axes, importances: Mapping[str, float], metric: str) -> None:
    ax.set_title(f"importance for {metric}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    if not importances:
        ax.text(0.5, 0.5, "too few complete trials tell", transform=ax.transAxes, ha="center", color="#555555")
        ax.set(xticks=[], yticks=[])
        return
    names = sorted(importances, key=lambda name: importances[name])
    shares = [importances[name] for name in names]
    bars = ax.barh([_short(name) for name in names], shares, color=POINT, height=0.6)
    ax.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)
    ax.set_xlim(0.0, 1.12 * max(*shares, 1e-3))
    ax.set_xlabel("share of the variation")
    ax.tick_params(axis="y", labelsize=9)


def _short(name: str) -> str:
    """A dotted path in two lines, so that it leaves room for the bars."""
    parents, _, last = name.rpartition(".")
    return f"{last}\n({parents})" if parents else last


def _draw_course(ax: Axes, rows: Sequence[TrialRow], metric: str, minimize: bool) -> None:
    for state, colour, marker in (("complete", POINT, "o"), ("pruned", PRUNED, "x")):
        shown = [(row.number, row.value) for row in rows if row.state == state and row.value is not None]
        if shown:
            numbers, values = zip(*shown, strict=True)
            ax.scatter(numbers, values, s=24, color=colour, marker=marker, label=state, zorder=2)
    done = [(row.number, row.value) for row in rows if row.state == "complete" and row.value is not None]
    if done:
        numbers, values = zip(*done, strict=True)
        best = (np.minimum if minimize else np.maximum).accumulate(np.asarray(values, dtype=float))
        ax.step(numbers, best, where="post", color=BEST, linewidth=1.4, label="best so far", zorder=1)
    shown_values = [row.value for row in rows if row.value is not None]
    if shown_values and min(shown_values) > 0 and max(shown_values) > 10 * min(shown_values):
        ax.set_yscale("log")
    ax.set_title("course of the search", fontsize=10)
    ax.set(xlabel="trial", ylabel=metric)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if shown_values:
        ax.legend(frameon=False, fontsize=9)
