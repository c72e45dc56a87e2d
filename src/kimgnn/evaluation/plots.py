"""Pictures of a run: how it learned, and its predictions against the labels. Nothing global is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from kimgnn.evaluation.history import History
from kimgnn.evaluation.metrics import HEAD_METRICS, MEASURES, Measure, Parity, with_unit
from kimgnn.fields import LABELS

if TYPE_CHECKING:
    from kimgnn.models.tasks import Task

SPLITS: Final = ("train", "val", "test")
COLOURS: Final = {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"}
"""Colours of the splits, told apart by colour-blind readers (Okabe and Ito)."""

DENSE: Final = 2000
"""More values than this are drawn as a density: single points would hide one another."""

GRID: Final = "#D9D9D9"

COLUMNS: Final = 3
"""Panels of learning curves beside one another."""

FALLING: Final = ("loss", "mae", "rmse", "mae_per_atom", "mae_log10", "mad_ratio")
"""Quantities that fall by orders of magnitude while a network learns; scores rise to 1."""


def learning_curves(history: History, tasks: Sequence[Task] = ()) -> Figure:
    """Return the loss and the metrics of each label and head against the epoch, errors on logarithmic axes.

    A dotted line marks the epoch with the lowest validation loss, or training loss where there is no validation.
    """
    panels = {"loss": "loss"}
    for label in LABELS:
        panels[f"{label}_mae"] = f"{label} MAE ({MEASURES[label].error_unit})"
    for task in tasks:
        for metric, title in HEAD_METRICS[task.kind].items():
            unit = task.unit if metric in ("mae", "rmse") else ""
            panels[f"{task.name}_{metric}"] = with_unit(f"{task.name} {title}", unit)
    panels = {key: title for key, title in panels.items() if any(f"{split}_{key}" in history for split in SPLITS)}
    n_columns = min(len(panels), COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(4.2 * n_columns, 3.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    best = _best_epoch(history)
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (quantity, title) in zip(axes, panels.items(), strict=False):
        for split in SPLITS:
            if f"{split}_{quantity}" in history:
                epochs, values = history[f"{split}_{quantity}"]
                marker = "o" if len(epochs) < 30 else None
                ax.plot(epochs, values, color=COLOURS[split], label=split, marker=marker, markersize=3, linewidth=1.4)
        if quantity.endswith(FALLING):
            _logarithmic(ax)
        if best is not None:
            ax.axvline(best, color="#555555", linestyle=":", linewidth=1.2, label=f"best (epoch {best})")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.grid(True, which="major", color=GRID, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers, unless a value forbids it."""
    if any(np.any(np.asarray(line.get_ydata()) <= 0) for line in ax.lines):
        return
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _best_epoch(history: History) -> int | None:
    for name in ("val_loss", "train_loss"):
        if name in history:
            epochs, values = history[name]
            return None if np.all(np.isnan(values)) else int(epochs[np.nanargmin(values)])
    return None


def parity_plot(measure: Measure, parities: Mapping[str, Parity]) -> Figure:
    """Return predictions against labels, one square panel a split, all on the same equal axes.

    Args:
        measure: What is compared, and its units.
        parities: Split -> labels and predictions; at least one.
    """
    limits = _limits(parities)
    figure = Figure(figsize=(4.1 * len(parities) + 0.5, 4.3), layout="compressed")
    axes = figure.subplots(1, len(parities), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (split, parity) in zip(axes, parities.items(), strict=True):
        colour = COLOURS.get(split, "#555555")
        ax.plot(limits, limits, color="#888888", linewidth=0.8, zorder=0)
        if parity.reference.size > DENSE:
            _density(ax, parity, limits, colour)
        else:
            ax.scatter(parity.reference, parity.predicted, s=12, color=colour, alpha=0.6, linewidths=0)
        mae, rmse = parity.mae() * measure.error_scale, parity.rmse() * measure.error_scale
        text = (
            f"MAE {mae:.3g} {measure.error_unit}\nRMSE {rmse:.3g} {measure.error_unit}\nn = {parity.reference.size:,}"
        )
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=9)
        _error_histogram(ax, parity, measure, colour)
        ax.set(xlim=limits, ylim=limits, aspect="equal", title=split)
        ax.set_xlabel(with_unit(f"reference {measure.quantity}", measure.unit))
        ax.locator_params(nbins=6)
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    axes[0].set_ylabel(with_unit(f"predicted {measure.quantity}", measure.unit))
    return figure


def _limits(parities: Mapping[str, Parity]) -> tuple[float, float]:
    """Return the range of all values with a margin; one single value gets a range of its own."""
    values = np.concatenate([np.concatenate([parity.reference, parity.predicted]) for parity in parities.values()])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def _density(ax: Axes, parity: Parity, limits: tuple[float, float], colour: str) -> None:
    """Draw the number of values in each hexagon, on a logarithmic scale from pale to the split's colour."""
    shades = LinearSegmentedColormap.from_list("density", ["#D0D0D0", colour, "#101010"])
    cells = ax.hexbin(
        parity.reference, parity.predicted, gridsize=70, bins="log", mincnt=1, extent=(*limits, *limits), cmap=shades,
        linewidths=0,
    )  # fmt: skip
    bar = ax.figure.colorbar(cells, ax=ax, shrink=0.75, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    bar.set_label("values in a hexagon", fontsize=8)


def _error_histogram(ax: Axes, parity: Parity, measure: Measure, colour: str) -> None:
    """Draw the errors themselves in the lower right corner, which a parity plot leaves empty."""
    errors = (parity.predicted - parity.reference) * measure.error_scale
    errors = errors[np.isfinite(errors)]
    width = 3.0 * float(np.sqrt(np.mean(errors**2))) if errors.size else 0.0
    if width == 0.0:
        return
    inset = ax.inset_axes((0.60, 0.15, 0.37, 0.24))
    inset.hist(errors, bins=int(np.clip(np.sqrt(errors.size), 7, 31)), range=(-width, width), color=colour)
    inset.axvline(0.0, color="#555555", linewidth=0.6)
    inset.set(yticks=[], xlim=(-width, width), facecolor="none")
    inset.spines[["top", "left", "right"]].set_visible(False)
    inset.tick_params(labelsize=7)
    inset.locator_params(axis="x", nbins=4)
    inset.set_xlabel(with_unit("error", measure.error_unit), fontsize=7, labelpad=1)


def label_plot(targets: Mapping[str, tuple[Task, Mapping[str, NDArray[np.float64]]]]) -> Figure:
    """Return how the labels are distributed in each split: shares of the values, or of the classes.

    Args:
        targets: Name with its unit -> task, and split -> labels ``(n_values,)``, NaN where missing, as
            `kimgnn.evaluation.regression.drawn` returns them.
    """
    n_columns = min(len(targets), COLUMNS)
    n_rows = -(-len(targets) // n_columns)
    figure = Figure(figsize=(4.2 * n_columns, 3.2 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in axes[len(targets) :]:
        ax.remove()
    for ax, (title, (task, by_split)) in zip(axes, targets.items(), strict=False):
        known = {split: values[np.isfinite(values)] for split, values in by_split.items()}
        known = {split: values for split, values in known.items() if values.size}
        if task.kind == "classification":
            ax.set_xticks(range(len(task.classes)), task.classes, fontsize=9)
        else:
            edges = np.histogram_bin_edges(np.concatenate(list(known.values())), bins=40)
            ax.set_xlabel(title)
        width = 0.8 / max(len(known), 1)
        for index, (split, values) in enumerate(known.items()):
            style = {"color": COLOURS.get(split, "#555555"), "label": f"{split} ({len(values):,})"}
            if task.kind == "classification":
                shares = np.bincount(values.astype(np.int64), minlength=len(task.classes)) / len(values)
                ax.bar(np.arange(len(shares)) + (index - (len(known) - 1) / 2) * width, shares, width, **style)
            else:
                shares = np.histogram(values, edges)[0] / len(values)
                ax.stairs(shares, edges, linewidth=1.3, **style)
        ax.set_ylabel("share")
        ax.set_ylim(bottom=0)
        ax.set_title(task.name, fontsize=10)
        ax.grid(True, axis="y", color=GRID, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    return figure


def dimer_plot(
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]],
    cutoffs: Sequence[float] = (),
) -> Figure:
    """Return the energy of two atoms and its slope against their distance, a line a pair, scaled to show the wells.

    Args:
        curves: Name of a pair -> distances (Å), energies relative to the atoms apart (eV), slopes dE/dr (eV/Å).
        cutoffs: Distances to mark, Å.
    """
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for index, (name, (distances, energies, slopes)) in enumerate(curves.items()):
        for ax, values in zip(axes, (energies, slopes), strict=True):
            ax.plot(distances, values, label=name, color=f"C{index}", linewidth=1.4)
    for ax, quantity in zip(axes, ("energy (eV)", "slope dE/dr (eV/Å)"), strict=True):
        for index, cutoff in enumerate(cutoffs):
            ax.axvline(cutoff, color="#555555", linestyle=":", linewidth=1.2, label=None if index else "cutoff")
        ax.axhline(0.0, color="#888888", linewidth=0.8, zorder=0)
        ax.set_xlabel("distance (Å)")
        ax.set_ylabel(quantity)
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    depth = _attraction([-energies for _, energies, _ in curves.values()])
    axes[0].set_ylim(-1.2 * depth, 1.8 * depth)
    steepest = _attraction([slopes for _, _, slopes in curves.values()])
    axes[1].set_ylim(-1.8 * steepest, 1.2 * steepest)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _attraction(curves: Sequence[NDArray[np.float64]]) -> float:
    """The largest attraction, or where there is none the middle of the repulsion."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values) & (values != 0.0)]
    if values.size == 0:
        return 1.0
    return float(values.max()) if values.max() > 0.0 else float(np.median(-values))
