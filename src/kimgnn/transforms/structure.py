"""A structure in NumPy and the edges found in it, without KLIFF: exported files run without it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kimgnn.transforms.neighbors import Neighbors


class Structure(NamedTuple):
    """A configuration in NumPy, checked: ``(n_atoms,)``, ``(n_atoms, 3)`` Å, ``(3, 3)`` Å, ``(3,)``, and its name."""

    z: NDArray[np.int64]
    coords: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    name: str


class Edges(NamedTuple):
    """Sender and receiver ``(2, n_edges)``, sorted by receiver, shifts ``(n_edges, 3)`` Å, and pairs where they form.

    Attributes:
        pairs: The first edge of each pair ``(n_pairs,)`` and the pair of each edge ``(n_edges,)``, where every edge has
            its reverse.
        triplets: An edge, and one that begins where it ends, ``(2, n_triplets)`` int64, sorted by the latter.
    """

    edge_index: NDArray[np.int64]
    shifts: NDArray[np.float64]
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    triplets: NDArray[np.int64] | None = None

    @classmethod
    def of_all(cls, neighbors: Neighbors) -> Edges:
        """Return the edges of all neighbours, in pairs."""
        return cls(neighbors.edge_index, neighbors.shifts, neighbors.pairs())
