"""Edges that a network which sees distances alone cannot tell apart: those of one sender, receiver and length.

A small cell has many: images of one atom at one distance. Few crystals have more than a handful of bond lengths.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kimgnn.transforms.structure import Edges

SAME_LENGTH = 1e-10
"""Å. Lengths that symmetry makes equal differ by rounding, 1e-15 of them or a little more."""


class Distinct(NamedTuple):
    """Distinct edges, and their lengths.

    Attributes:
        edges: The first edge of each kind, ascending ``(n_distinct,)`` int64.
        copies: How many edges are of the kind ``(n_distinct,)`` int64.
        of_length: The first distinct edge of each length ``(n_lengths,)`` int64.
        lengths: The length of each distinct edge, as a place in the latter ``(n_distinct,)`` int64.
    """

    edges: NDArray[np.int64]
    copies: NDArray[np.int64]
    of_length: NDArray[np.int64]
    lengths: NDArray[np.int64]


def distinct_edges(edges: Edges, coords: NDArray[np.float64]) -> Distinct:
    """Return the edges that differ in sender, receiver or length (by more than `SAME_LENGTH`)."""
    sender, receiver = edges.edge_index
    vectors = coords[receiver] - coords[sender] + edges.shifts
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    shell = np.empty(len(lengths), dtype=np.int64)
    shell[order] = np.concatenate([[0], (np.diff(lengths[order]) > SAME_LENGTH).cumsum()])[: len(lengths)]
    kind = (receiver * len(coords) + sender) * (len(lengths) + 1) + shell
    _, first, copies = np.unique(kind, return_index=True, return_counts=True)
    ascending = np.argsort(first)
    first = first[ascending]
    _, of_length, length = np.unique(shell[first], return_index=True, return_inverse=True)
    return Distinct(first, copies[ascending], of_length, length.astype(np.int64))
