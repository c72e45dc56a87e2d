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


def distinct_edges(
    edges: Edges, coords: NDArray[np.float64], structure_of_atom: NDArray[np.int64] | None = None
) -> Distinct:
    """Return the edges that differ in sender, receiver or length (by more than `SAME_LENGTH`).

    Args:
        edges: Of one structure, or of several.
        coords: ``(n_atoms, 3)`` Å.
        structure_of_atom: ``(n_atoms,)``, of several: none of them is to say what it would not say alone, as it might
            with the length of another one that differs by rounding.
    """
    sender, receiver = edges.edge_index
    vectors = coords[receiver] - coords[sender] + edges.shifts
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    shell = _shells(lengths, None if structure_of_atom is None else structure_of_atom[receiver])
    kind = (receiver * len(coords) + sender) * (len(shell) + 1) + shell
    _, first, copies = np.unique(kind, return_index=True, return_counts=True)
    ascending = np.argsort(first)
    first = first[ascending]
    _, of_length, length = np.unique(shell[first], return_index=True, return_inverse=True)
    return Distinct(first, copies[ascending], of_length, length.astype(np.int64))


def edges_by_length(lengths: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an edge of each length ``(n_lengths,)`` int64, and the length of each edge as a place in the former.

    Args:
        lengths: ``(n_edges,)`` Å; equal ones differ by no more than `SAME_LENGTH`.
    """
    _, of_length, length = np.unique(_shells(lengths), return_index=True, return_inverse=True)
    return of_length, length.astype(np.int64)


def _shells(lengths: NDArray[np.float64], group: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return a number for each length, the same for equal ones of a group."""
    order = np.argsort(lengths, kind="stable") if group is None else np.lexsort((lengths, group))
    begins = np.diff(lengths[order]) > SAME_LENGTH
    if group is not None:
        begins |= np.diff(group[order]) > 0
    shell = np.empty(len(lengths), dtype=np.int64)
    shell[order] = np.concatenate([[0], begins.cumsum()])[: len(lengths)]
    return shell
