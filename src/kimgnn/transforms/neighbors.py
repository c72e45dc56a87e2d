"""The neighbours of atoms in a periodic cell: who is within the cutoff of whom, and through which side of the cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray
from vesin import NeighborList

from kimgnn.errors import DataError

COINCIDENT = 1e-3
"""Å. Two atoms nearer than this are one atom entered twice."""

FLAT_CELL = 1e-6
"""Periodic cell vectors spanning less than this fraction of the product of their lengths are not independent."""


class Neighbors(NamedTuple):
    """The edges of a structure, each pair of neighbours in both directions, sorted by receiver.

    Attributes:
        edge_index: (2, n_edges) int64, sender and receiver.
        shifts: (n_edges, 3) Å, added to the receiver's position minus the sender's.
        reverse_edge: (n_edges,) int64, the edge between the same two atoms that runs back.
    """

    edge_index: NDArray[np.int64]
    shifts: NDArray[np.float64]
    reverse_edge: NDArray[np.int64]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first edge of each pair, ascending ``(n_pairs,)``, and the pair of each edge ``(n_edges,)``."""
        edges = np.arange(len(self.reverse_edge))
        is_first = edges < self.reverse_edge
        return np.flatnonzero(is_first), (is_first.cumsum() - 1)[np.minimum(edges, self.reverse_edge)]


def find_neighbors(
    coords: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float, where: str = ""
) -> Neighbors:
    """Return every pair of atoms nearer than ``cutoff``, once for each lattice translation that makes it so.

    An atom and its own images are pairs too. Cells may be smaller than the cutoff, skewed, periodic along any of their
    vectors or none; atoms may lie outside the cell.

    Args:
        coords: (n_atoms, 3) Å.
        cell: (3, 3) Å, cell vectors in rows; those along which the structure is not periodic do not matter.
        pbc: (3,) whether it is periodic along each.
        cutoff: Å.
        where: What messages call the structure.

    Raises:
        DataError: A position or cell is not finite, the periodic cell has no volume, or two atoms are at one place.
    """
    return both_ways(*find_pairs(coords, cell, pbc, cutoff, where))


def find_pairs(
    coords: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float, where: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return sender and receiver ``(2, n_pairs)`` and shift ``(n_pairs, 3)``, Å, of each pair in one direction.

    Arguments and errors are those of `find_neighbors`.
    """
    check_finite(coords, cell, where)
    box = complete_box(cell, pbc, where)
    # One thread: the order of edges, and with it every sum over them, is the same in each run.
    search = NeighborList(cutoff=cutoff, full_list=False, sorted=True, n_threads=1)
    pairs, lattice_shifts, distances = search.compute(coords, box, pbc, "PSd", copy=False)
    if len(distances) and distances.min() < COINCIDENT:
        first, second = pairs[distances.argmin()]
        raise DataError(
            "two atoms are at one place",
            where=where,
            value=f"atoms {first} and {second}, {distances.min():.1e} Å apart",
            remedy="Remove one of them; atoms are counted from 0.",
        )
    # vesin's vector runs from a pair's first atom to its second.
    return pairs.T.astype(np.int64), lattice_shifts @ box


def both_ways(there: NDArray[np.int64], shifts: NDArray[np.float64]) -> Neighbors:
    """Return pairs as edges in both directions, sorted by receiver: first the pairs as they are, then reversed."""
    edge_index = np.concatenate([there, there[::-1]], axis=1)
    # Numbers of 16 bits are sorted by their digits.
    narrow = np.uint16 if edge_index.max(initial=0) < 1 << 16 else np.int64
    order = np.argsort(edge_index[1].astype(narrow), kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return Neighbors(
        np.ascontiguousarray(edge_index[:, order]),
        np.concatenate([shifts, -shifts])[order],
        np.roll(position, there.shape[1])[order],
    )


def complete_box(cell: NDArray[np.float64], pbc: NDArray[np.bool_], where: str) -> NDArray[np.float64]:
    """Return the cell, its vectors along which the structure is not periodic replaced by orthogonal ones.

    Raises:
        DataError: The periodic cell has no volume.
    """
    if not pbc.any():
        return np.eye(3)
    periodic = cell[pbc]
    if not have_volume(periodic):
        raise DataError(
            "the periodic cell has no volume",
            where=where,
            value=cell.tolist(),
            remedy="Give independent cell vectors, or set pbc to false where the structure is not periodic.",
        )
    return cell if pbc.all() else np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))


def have_volume(vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return of which cells, ``(..., n, 3)`` vectors in rows, those are independent."""
    gram = vectors @ np.swapaxes(vectors, -1, -2)
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    return np.asarray(np.linalg.det(gram) > FLAT_CELL**2 * squares.prod(axis=-1))


def check_finite(coords: NDArray[np.float64], cell: NDArray[np.float64], where: str = "") -> None:
    """Do nothing if positions and cell vectors are numbers.

    Raises:
        DataError: One is NaN or infinite.
    """
    for what, values in (("position", coords), ("cell vector", cell)):
        if not np.isfinite(values).all():
            raise DataError(f"a {what} is NaN or infinite", where=where)
