"""Tables and a picture of what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from kimgnn.data.stats import DataStatistics, ValueStatistics
from kimgnn.evaluation.tables import aligned

MOST: Final = 15
"""Space groups, classes and so on that are told by themselves."""

WIDE: Final = 100
"""Positive values of which the largest is so many times the median have a logarithmic axis."""

COLUMNS: Final = 3
"""Panels beside one another."""

BAR: Final = "#0072B2"


def statistics_table(statistics: DataStatistics) -> str:
    """Return a data set's statistics as aligned tables, plain text that is also Markdown."""
    n, sizes = len(statistics.n_atoms), statistics.n_atoms
    summary = [
        ["structures", str(n)],
        ["atoms", f"{sizes.sum()}; {sizes.min()} to {sizes.max()} a structure, median {np.median(sizes):g}"],
        ["elements", str(len(statistics.elements))],
        ["space groups", f"{len(statistics.space_groups)}; {statistics.n_without_symmetry} structures without"],
    ]
    tables = [aligned([["", "in all"], *summary], left=2)]
    tables.append(_counts("element", statistics.elements, n))
    if statistics.space_groups:
        tables.append(_counts("crystal system", statistics.crystal_systems, n))
        tables.append(_counts("space group", statistics.space_groups, n))
    numbers = [value for value in statistics.values if len(value.numbers) and not _is_text(value)]
    if numbers:
        header = ["value", "labelled", "missing", "mean", "std", "min", "median", "max"]
        tables.append(aligned([header, *map(_row, numbers)], left=1))
    for value in statistics.values:
        if value.classes:
            title = f"{value.name} ({value.n_missing} missing)"
            tables.append(_counts(title, value.classes, n))
    return "\n\n".join(tables)


def statistics_plot(statistics: DataStatistics) -> Figure:
    """Return a picture: elements in the periodic table, sizes, symmetry, and the distribution of each value."""
    values = [value for value in statistics.values if len(value.classes) <= MOST]
    n_panels = 1 + 2 * bool(statistics.space_groups) + len(values)
    n_rows = -(-n_panels // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 4.6 + 3.2 * n_rows), layout="constrained")
    grid = figure.add_gridspec(1 + n_rows, COLUMNS, height_ratios=[1.45] + [1.0] * n_rows)
    _periodic_table(figure.add_subplot(grid[0, :]), statistics.elements)
    axes = iter(figure.add_subplot(grid[1 + panel // COLUMNS, panel % COLUMNS]) for panel in range(n_panels))
    _histogram(next(axes), statistics.n_atoms.astype(float), "atoms in a structure", "structures")
    if statistics.space_groups:
        _bars(next(axes), statistics.crystal_systems, "crystal system")
        _bars(next(axes), statistics.space_groups, "space group")
    for ax, value in zip(axes, values, strict=True):
        title = f"{value.name}\n{value.n_labelled} labelled, {value.n_missing} missing"
        if value.classes:
            _bars(ax, value.classes, title)
        else:
            counted = "structures" if len(value.numbers) == value.n_labelled else "numbers"
            _histogram(ax, value.numbers, title, counted)
    return figure


def _is_text(value: ValueStatistics) -> bool:
    return bool(value.classes) and len(value.numbers) < value.n_labelled


def _row(value: ValueStatistics) -> list[str]:
    numbers = value.numbers
    measures = numbers.mean(), numbers.std(), numbers.min(), np.median(numbers), numbers.max()
    return [value.name, str(value.n_labelled), str(value.n_missing), *(f"{measure:.4g}" for measure in measures)]


def _counts(name: str, counts: Mapping[str, int], n: int) -> str:
    rows = [[_cut(key), str(count), f"{100 * count / n:.1f}"] for key, count in islice(counts.items(), MOST)]
    if len(counts) > MOST and max(counts.values()) == 1:
        rows = [[f"{len(counts)} different ones", str(len(counts)), f"{100 * len(counts) / n:.1f}"]]
    elif len(counts) > MOST:
        rows.append([f"and {len(counts) - MOST} more", "", ""])
    return aligned([[name, "structures", "%"], *rows], left=1)


def _cut(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _periodic_table(ax: Axes, elements: Mapping[str, int]) -> None:
    """Draw a square for each element, coloured by the structures that have it."""
    table = np.full((10, 18), np.nan)
    for element in Element:
        row, column = _place(element)
        if element.symbol in elements:
            table[row, column] = elements[element.symbol]
        ax.text(column, row - 0.14, element.symbol, ha="center", va="center", fontsize=8, color=_ink(element, elements))
        if element.symbol in elements:
            count = str(elements[element.symbol])
            ax.text(column, row + 0.24, count, ha="center", va="center", fontsize=6, color=_ink(element, elements))
    most = max(elements.values())
    image = ax.imshow(table, cmap="viridis_r", norm=LogNorm(1, max(most, 2)), aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="structures", fraction=0.03, pad=0.01)
    ax.set_title(f"{len(elements)} element{'s' if len(elements) > 1 else ''}", fontsize=10)
    ax.set_axis_off()


def _place(element: Element) -> tuple[int, int]:
    """Return row and column; lanthanides and actinides stand below the others."""
    if element.is_lanthanoid:
        return 8, element.Z - 57 + 2
    if element.is_actinoid:
        return 9, element.Z - 89 + 2
    return element.row - 1, element.group - 1


def _ink(element: Element, elements: Mapping[str, int]) -> str:
    """Return the colour of letters that can be read on the element's square."""
    if element.symbol not in elements:
        return "#999999"
    is_dark = elements[element.symbol] ** 2 > max(elements.values())
    return "white" if is_dark else "black"


def _histogram(ax: Axes, numbers: NDArray[np.float64], title: str, counted: str) -> None:
    n_bins = min(40, max(len(np.unique(numbers)), 1))
    if len(numbers) and numbers.min() > 0 and numbers.max() > WIDE * np.median(numbers):
        ax.set_xscale("log")
        ax.hist(numbers, bins=np.geomspace(numbers.min(), numbers.max(), n_bins + 1).tolist(), color=BAR)
    else:
        ax.hist(numbers, bins=n_bins, color=BAR)
    _finish(ax, title, counted)


def _bars(ax: Axes, counts: Mapping[str, int], title: str) -> None:
    shown = dict(islice(counts.items(), MOST))
    ax.bar(range(len(shown)), list(shown.values()), color=BAR)
    labels = [_cut(name, 20) for name in shown]
    if len(shown) > 3:
        ax.set_xticks(range(len(shown)), labels, fontsize=8, rotation=45, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(range(len(shown)), labels, fontsize=8)
    more = f", the first {MOST} of {len(counts)}" if len(counts) > MOST else ""
    _finish(ax, title + more, "structures")


def _finish(ax: Axes, title: str, counted: str) -> None:
    ax.set_title(title, fontsize=10)
    ax.set_ylabel(counted)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
