"""Pictures of a classification head: ROC curves and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from kimgnn.evaluation.plots import COLOURS, GRID

if TYPE_CHECKING:
    from kimgnn.evaluation.classification import Classification


def roc_plot(results: Mapping[str, Classification]) -> Figure:
    """Return ROC curves: of the positive class, a line a split; of more classes, a line a class of the last split.

    Args:
        results: Split -> labels and probabilities; at least one, the one that matters last.
    """
    figure = Figure(figsize=(4.8, 4.9), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, zorder=0)
    last_split, last = list(results.items())[-1]
    if last.binary:
        positive = last.task.classes[1]
        curves = [(split, result, 1, COLOURS.get(split, "#555555")) for split, result in results.items()]
        ax.set_title(f"{last.task.name}: {positive!r} against {last.task.classes[0]!r}", fontsize=10)
    else:
        curves = [(name, last, index, f"C{index}") for index, name in enumerate(last.task.classes)]
        ax.set_title(f"{last.task.name}, {last_split}: each class against the rest", fontsize=10)
    for name, result, index, colour in curves:
        curve = result.roc(index)
        if curve is None:
            ax.plot([], [], color=colour, label=f"{name}: not defined")
            continue
        area = result.area(index)
        ax.plot(*curve, color=colour, linewidth=1.5, label=f"{name}: AUC {area:.3f}")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def confusion_plot(results: Mapping[str, Classification]) -> Figure:
    """Return one matrix a split: how many of each class (rows) were taken for each (columns), shaded by their share.

    Args:
        results: Split -> labels and probabilities; at least one.
    """
    classes = next(iter(results.values())).task.classes
    side = max(3.2, 0.7 * len(classes) + 1.4)
    figure = Figure(figsize=(side * len(results) + 0.8, side + 0.7), layout="compressed")
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    for ax, (split, result) in zip(axes, results.items(), strict=True):
        counts = result.confusion()
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        for row, column in ((row, column) for row in range(len(classes)) for column in range(len(classes))):
            share = shares[row, column]
            text = f"{counts[row, column]:,}\n{100 * share:.0f} %" if counts[row].sum() else "0"
            ax.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if share > 0.6 else "black")
        ax.set_title(split)
        ax.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) <= 3 else 45, fontsize=9)
        ax.set_yticks(range(len(classes)), classes, rotation=90 if len(classes) <= 3 else 0, va="center", fontsize=9)
        ax.set_xlabel("predicted class")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("true class")
    return figure
