"""Pictures and tables of what composition and structure count for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kimgnn.evaluation.importance import PARTS, WAYS, AttentionShare, Importance
from kimgnn.evaluation.metrics import with_unit
from kimgnn.evaluation.plots import GRID
from kimgnn.evaluation.tables import aligned

COLOURS: Final = {"composition": "#0072B2", "structure": "#D55E00"}
"""Told apart by colour-blind readers (Okabe and Ito)."""

HATCHES: Final = {"permuted": "", "zeroed": "///"}

COLUMNS: Final = 4
"""Panels beside one another."""


def importance_table(found: Sequence[Importance]) -> str:
    """Return a line for each head, part and way."""
    header = ["head", "part", "taken away by", "error before", "it grows by", "95 % interval"]
    rows = [
        [
            with_unit(f"{item.head}, {item.error}", item.unit),
            item.part,
            item.way,
            f"{item.base:.4g}",
            f"{item.growth:+.4g}",
            f"{item.low:+.3g} to {item.high:+.3g}",
        ]
        for item in found
    ]
    return aligned([header, *rows], left=3)


def attention_table(shares: Sequence[AttentionShare]) -> str:
    """Return a line for each element and each crystal system."""
    header = ["kind", "name", "structures", "weight of the structure", "spread"]
    rows = [[item.kind, item.name, str(item.count), f"{item.weight:.3f}", f"{item.spread:.3f}"] for item in shares]
    return aligned([header, *rows], left=2)


def importance_plot(found: Sequence[Importance]) -> Figure:
    """Return bars of the growth of each head's error with its interval, a panel a head; 0 is not important."""
    heads = list(dict.fromkeys(item.head for item in found))
    n_columns = min(len(heads), COLUMNS)
    n_rows = -(-len(heads) // n_columns)
    figure = Figure(figsize=(3.6 * n_columns, 3.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in axes[len(heads) :]:
        ax.remove()
    for ax, head in zip(axes, heads, strict=False):
        bars = [item for item in found if item.head == head]
        for item in bars:
            place = PARTS.index(item.part) + 0.38 * (WAYS.index(item.way) - 0.5)
            ends = [[max(0.0, item.growth - item.low)], [max(0.0, item.high - item.growth)]]
            ax.bar(place, item.growth, width=0.36, color=COLOURS[item.part], alpha=0.85, hatch=HATCHES[item.way],
                   edgecolor="white", yerr=ends, ecolor="#222222", capsize=3)  # fmt: skip
        first = bars[0]
        ax.axhline(0.0, color="#222222", linewidth=0.8)
        ax.set_title(f"{head}\n{' '.join([first.error, f'{first.base:.3g}', first.unit]).rstrip()} before", fontsize=10)
        ax.set_ylabel(with_unit(f"growth of the {first.error}", first.unit), fontsize=9)
        ax.set_xticks(range(len(PARTS)), PARTS)
        _plain(ax)
    handles = [
        axes[0].bar(0, 0, color="#888888", hatch=HATCHES[way], edgecolor="white", label=f"{way}{told}")
        for way, told in (("permuted", " among structures"), ("zeroed", ": set to the mean"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def attention_plot(shares: Sequence[AttentionShare]) -> Figure:
    """Return the mean weight of the structure by element, and by crystal system, with the spread over structures."""
    kinds = {kind: [item for item in shares if item.kind == kind] for kind in ("element", "crystal system")}
    widths = [max(len(kinds["element"]), 6) * 0.24, max(len(kinds["crystal system"]), 3) * 0.55]
    figure = Figure(figsize=(sum(widths) + 1.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=widths, sharey=True)
    for ax, (kind, items) in zip(axes, kinds.items(), strict=True):
        places = range(len(items))
        ax.bar(places, [item.weight for item in items], color=COLOURS["structure"], width=0.8)
        ax.errorbar(places, [item.weight for item in items], [item.spread for item in items], fmt="none",
                    ecolor="#222222", elinewidth=0.8)  # fmt: skip
        turned = kind != "element"
        ax.set_xticks(places, [item.name for item in items], rotation=45 if turned else 0,
                      ha="right" if turned else "center", fontsize=7 if not turned else 9)  # fmt: skip
        ax.set_title(f"by {kind}", fontsize=10)
        ax.set_xlim(-0.7, len(items) - 0.3)
        _plain(ax)
    axes[0].set(ylim=(0.0, 1.0), ylabel="weight of the structure")
    return figure


def _plain(ax: Axes) -> None:
    ax.grid(True, axis="y", color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
