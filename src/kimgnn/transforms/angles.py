"""The triplets of a structure's edges, without KLIFF: exported files run without it."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.nn.triplets import count_triplets, find_triplets
from kimgnn.transforms.nearest import Ties, nearest_edges
from kimgnn.transforms.structure import Edges, Structure

MAX_TRIPLETS: Final = 2000
"""Triplets an atom that are thought to be meant: a cutoff that is a little too long has many more."""


def find_line_graph(
    structure: Structure,
    edges: Edges,
    ties: Ties,
    angle_neighbors: int | None,
    angle_cutoff: float | None,
    max_triplets: int,
) -> Edges:
    """Return ``edges`` with the triplets that they form.

    Args:
        structure: What they are found in.
        edges: Sorted by receiver.
        ties: How `kimgnn.transforms.nearest` treats equally near neighbours.
        angle_neighbors: Only edges from so many nearest neighbours form triplets; ``None`` for all.
        angle_cutoff: Å; only edges up to this length do; ``None`` for all.
        max_triplets: Triplets an atom, averaged over the structure, that are allowed.

    Raises:
        DataError: There are more; told before memory is taken for them.
    """
    inner = torch.from_numpy(_inner_edges(structure, edges, ties, angle_neighbors, angle_cutoff))
    edge_index, n_atoms = torch.from_numpy(edges.edge_index), len(structure.z)
    count = count_triplets(edge_index, inner, n_atoms)
    if count > max_triplets * n_atoms:
        raise DataError(
            "the structure has too many triplets of bonds",
            where=structure.name,
            value=f"{count / n_atoms:.0f} an atom, {16e-6 * count:.0f} MB of indices alone",
            allowed=f"{max_triplets} an atom (max_triplets)",
            remedy="Give a shorter cutoff, or fewer bonds that form angles (angle_cutoff, angle_neighbors).",
        )
    n_edges = len(inner)
    first, second, _ = find_triplets(edge_index, inner, n_atoms, [n_edges, n_edges])
    return edges._replace(triplets=torch.stack([first, second]).numpy())


def _inner_edges(
    structure: Structure, edges: Edges, ties: Ties, angle_neighbors: int | None, angle_cutoff: float | None
) -> NDArray[np.bool_]:
    n_edges = edges.edge_index.shape[1]
    inner = np.ones(n_edges, dtype=bool)
    if angle_neighbors is not None:
        nearest = nearest_edges(edges, structure, angle_neighbors, ties)
        inner = np.isin(np.arange(n_edges), nearest)
    if angle_cutoff is not None:
        sender, receiver = edges.edge_index
        vectors = structure.coords[receiver] - structure.coords[sender] + edges.shifts
        inner &= np.linalg.norm(vectors, axis=1) < angle_cutoff
    return inner
