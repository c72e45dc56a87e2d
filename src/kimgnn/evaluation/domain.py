"""What a model was trained on, in short, and how far from that a structure is.

Compositions are vectors of atomic fractions; the distance of two is the share of atoms that would have to be exchanged,
half the sum of the differences of their fractions, 0 to 1. How far is far, the training data say themselves: no farther
than the loneliest of their compositions is from the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase.formula import Formula
from numpy.typing import NDArray

KEPT: Final = 1000
"""Compositions that a summary has at most: of more, evenly many of each part of their sorted list."""

BINS: Final = 20
"""Of the histogram of a label."""

SUMMARY: Final = "training_data"
"""Where a checkpoint's ``data`` and the metadata of an exported file have the summary, there in JSON."""

NOT_KNOWN: Final = (
    "the model is of an older kimgnn, and does not tell what it was trained on: whether the structure is like its "
    "training data is not known"
)
"""Warning of every structure, by a model without a summary."""

ENERGY_PER_ATOM: Final = "energy_per_atom"
"""What the label of a potential is called in it, eV."""

STRUCTURES: Final = "structures"
ELEMENTS: Final = "elements"
COMPOSITIONS: Final = "compositions"
SPACING: Final = "composition_spacing"
LABELS: Final = "labels"
"""Keys of a summary."""


def summary(
    species: Iterable[Sequence[str]], labels: Mapping[str, NDArray[np.float64]], logarithmic: Collection[str] = ()
) -> dict[str, Any]:
    """Return what is kept of training data: plain values.

    Args:
        species: Chemical symbols of each structure.
        labels: Name -> all values of a label; NaN where it is missing.
        logarithmic: Names of those, above 0, of which the logarithm is learned: the bins of their histograms are evenly
            wide in it.

    Returns:
        ``structures``: how many; ``elements``: in how many of them each is; ``compositions``: reduced formulas, `KEPT`
        of them at most; ``composition_spacing``: the largest distance of one of those from the next; ``labels``: count,
        range, mean, standard deviation and histogram of each label.
    """
    elements: Counter[str] = Counter()
    formulas: set[str] = set()
    n_structures = 0
    for symbols in species:
        n_structures += 1
        counts = Counter(symbols)
        elements.update(counts.keys())
        divisor = int(np.gcd.reduce(list(counts.values())))
        formulas.add("".join(f"{symbol}{count // divisor}" for symbol, count in sorted(counts.items())))
    listed = sorted(formulas)
    kept = [listed[place] for place in np.unique(np.linspace(0, len(listed) - 1, min(KEPT, len(listed)), dtype=int))]
    return {
        STRUCTURES: n_structures,
        ELEMENTS: dict(sorted(elements.items())),
        COMPOSITIONS: kept,
        SPACING: _Compositions.of(kept).spacing(),
        LABELS: {
            name: _told_of(values, name in logarithmic) for name, values in labels.items() if np.isfinite(values).any()
        },
    }


class Domain:
    """The training data of a model, as far as a structure can be compared with them.

    Args:
        known: `summary`; of older models it is empty, and that is told of every structure.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._is_known = bool(known)
        self._elements = set(known.get(ELEMENTS, ()))
        self._compositions = _Compositions.of(known.get(COMPOSITIONS, ()))
        self._spacing: float = known.get(SPACING, 1.0)

    def warnings_of(self, symbols: Sequence[str]) -> list[str]:
        """Return why a prediction may be worse for these atoms than the model's errors say, as far as is known."""
        if not self._is_known:
            return [NOT_KNOWN]
        told = []
        unseen = sorted(set(symbols) - self._elements) if self._elements else []
        if unseen:
            told.append(
                f"no structure that the model was trained on has {', '.join(unseen)}: nothing is learned of "
                f"{'it' if len(unseen) == 1 else 'them'}"
            )
        if self._compositions.formulas:
            nearest, distance = self._compositions.nearest(symbols)
            if distance > self._spacing + 1e-9:
                told.append(
                    f"the composition is far from the training data: {distance:.0%} of the atoms differ from "
                    f"{nearest}, the nearest there; among those none is farther than {self._spacing:.0%} from the next"
                )
        return told


@dataclass(frozen=True)
class _Compositions:
    """Formulas and their fractions ``(n_formulas, n_elements)``."""

    formulas: list[str]
    symbols: list[str]
    fractions: NDArray[np.float64]

    @classmethod
    def of(cls, formulas: Sequence[str]) -> _Compositions:
        counts = [Formula(formula).count() for formula in formulas]
        symbols = sorted({symbol for count in counts for symbol in count})
        column = {symbol: place for place, symbol in enumerate(symbols)}
        fractions = np.zeros((len(counts), len(symbols)), order="F")
        for row, count in zip(fractions, counts, strict=True):
            for symbol, number in count.items():
                row[column[symbol]] = number / sum(count.values())
        return cls([f"{Formula(formula):hill}" for formula in formulas], symbols, fractions)

    def nearest(self, symbols: Sequence[str]) -> tuple[str, float]:
        """Return the formula nearest to atoms, and its distance."""
        count = Counter(symbols)
        here = [place for place, symbol in enumerate(self.symbols) if symbol in count]
        fractions = np.array([[count[self.symbols[place]] / len(symbols)] for place in here]).reshape(-1, 1)
        shared = np.minimum(self.fractions.T[here], fractions).sum(axis=0)
        best = int(shared.argmax())
        return self.formulas[best], 1 - float(shared[best])

    def spacing(self) -> float:
        """Return the largest distance of a formula from the nearest other."""
        largest = 0.0
        for place, fractions in enumerate(self.fractions):
            shared = np.minimum(self.fractions, fractions).sum(axis=1)
            shared[place] = -1.0
            if len(shared) > 1:
                largest = max(largest, 1 - float(shared.max()))
        return largest


def _told_of(values: NDArray[np.float64], logarithmic: bool) -> dict[str, Any]:
    there = values[np.isfinite(values)]
    counts, edges = np.histogram(np.log10(there) if logarithmic else there, BINS)
    if logarithmic:
        edges = 10.0**edges
        edges[0], edges[-1] = min(edges[0], there.min()), max(edges[-1], there.max())  # which rounding left outside
    return {
        "count": len(there),
        "min": float(there.min()),
        "max": float(there.max()),
        "mean": float(there.mean()),
        "std": float(there.std()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
