"""The nearest of an atom's neighbours, told from one another by what does not depend on the order of atoms."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kimgnn.transforms.neighbors import Neighbors, complete_box, find_neighbors
from kimgnn.transforms.structure import Edges, Structure

SAME = 1e-3
"""Å. Distances that differ by less are one shell: a CIF with fractions to four digits (0.3333) moves atoms by 5e-4 Å in
a cell of 10 Å, and so differ distances that are equal by symmetry."""

Ties = Literal["break", "keep"]


def find_nearest(structure: Structure, cutoff: float, count: int, ties: Ties) -> Edges:
    """Return the edges to each atom's ``count`` nearest neighbours within ``cutoff`` (Å); see `nearest_edges`.

    Raises:
        DataError: As `kimgnn.transforms.neighbors.find_neighbors` does.
    """
    _, coords, cell, pbc, name = structure
    # A shell at the cutoff itself is not cut either.
    neighbors = find_neighbors(coords, cell, pbc, cutoff + SAME, name)
    nearest = nearest_edges(neighbors, structure, count, ties)
    return Edges(neighbors.edge_index[:, nearest], neighbors.shifts[nearest], None)


def nearest_edges(neighbors: Neighbors | Edges, structure: Structure, count: int, ties: Ties) -> NDArray[np.int64]:
    """Return which edges lead to the ``count`` nearest neighbours of each atom, sorted by receiver, nearest first.

    The neighbours of an atom form shells: a new one begins where the distance grows by more than `SAME`. Where the last
    shell is too large, all of it is kept, or those of its neighbours that come first by atomic number, then by
    displacement along the first, second and third cell vector. Neither depends on the order of the atoms, their images,
    the origin, or on how the crystal is turned. (Where there is no cell, displacements are along x, y, z.)

    Args:
        neighbors: All within the cutoff.
        structure: What they are found in.
        count: Neighbours an atom, at least one; fewer where there are not so many.
        ties: ``break`` for exactly so many, ``keep`` for the whole of the last shell.
    """
    sender, receiver = neighbors.edge_index
    if not len(receiver):
        return np.empty(0, dtype=np.int64)
    to_neighbor = structure.coords[sender] - structure.coords[receiver] - neighbors.shifts
    shell = _subdivide(receiver, np.sqrt(np.square(to_neighbor).sum(axis=1)))
    order = np.argsort(shell, kind="stable")  # by receiver still, and nearest first
    owner, shell = receiver[order], shell[order]
    ends = np.bincount(owner, minlength=len(structure.z)).cumsum()
    starts = np.concatenate([[0], ends[:-1]])
    last_shell = shell[np.minimum(starts + count, ends) - 1]  # of an atom without neighbours: any, it is not asked for
    kept = shell <= last_shell[owner]
    if ties == "break":
        surplus = np.bincount(owner[kept], minlength=len(ends)) - count
        cut = np.flatnonzero((surplus[owner] > 0) & (shell == last_shell[owner]))
        if len(cut):
            box = complete_box(structure.cell, structure.pbc, structure.name)
            along = to_neighbor[order[cut]] @ np.linalg.inv(box) * np.linalg.norm(box, axis=1)
            group = shell[cut]
            for values in (structure.z[sender[order[cut]]], *along.T):
                group = _subdivide(group, values)
            cut = cut[np.argsort(group, kind="stable")]
            shell_ends = np.searchsorted(shell[cut], shell[cut], side="right")
            kept[cut] = np.arange(len(cut)) < shell_ends - surplus[owner[cut]]
    return order[kept]


def _subdivide(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return finer groups, numbered in order of the groups and in them of ``values``, of which one holds close ones.

    Gaps are looked for, where rounding to a grid would part two values that lie on either side of a step.
    """
    order = np.lexsort((values, group))
    begins = (np.diff(group[order]) > 0) | (np.diff(values[order]) > SAME)
    finer = np.empty(len(group), dtype=np.int64)
    finer[order] = np.concatenate([[0], begins.cumsum()])
    return finer
