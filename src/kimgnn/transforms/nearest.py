"""The nearest of an atom's neighbours, told from one another by what does not depend on the order of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kimgnn.transforms.neighbors import Neighbors, both_ways, complete_box, find_neighbors, find_pairs
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


def find_nearest_of_all(structures: Sequence[Structure], cutoff: float, count: int, ties: Ties) -> Edges:
    """Return the edges of `find_nearest` of each structure, whose atoms are counted along all of them.

    Calls of NumPy take longer than what they do for a small crystal; so they are called once for many.

    Raises:
        DataError: Of the first structure that `find_nearest` refuses.
    """
    pairs, shifts = [], []
    first = 0
    for _, coords, cell, pbc, name in structures:
        there, shift = find_pairs(coords, cell, pbc, cutoff + SAME, name)
        pairs.append(there + first)
        shifts.append(shift)
        first += len(coords)
    neighbors = both_ways(np.concatenate(pairs, axis=1), np.concatenate(shifts))
    nearest = _nearest(neighbors, structures, count, ties)
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
    return _nearest(neighbors, [structure], count, ties)


def _nearest(
    neighbors: Neighbors | Edges, structures: Sequence[Structure], count: int, ties: Ties
) -> NDArray[np.int64]:
    """Return `nearest_edges` of structures whose atoms are counted along all of them."""
    sender, receiver = neighbors.edge_index
    if not len(receiver):
        return np.empty(0, dtype=np.int64)
    z, coords = (np.concatenate([structure[part] for structure in structures]) for part in (0, 1))
    to_neighbor = coords[sender] - coords[receiver] - neighbors.shifts
    distance = np.sqrt(np.square(to_neighbor).sum(axis=1))
    ends = np.bincount(receiver, minlength=len(z)).cumsum()
    starts = np.concatenate([[0], ends[:-1]])
    order = _by_distance(receiver, distance)
    shell = _starts_of_groups(receiver, distance[order]).cumsum()
    last_shell = shell[np.minimum(starts + count, ends) - 1]  # of an atom without neighbours: any, it is not asked for
    # Of some hundred neighbours the nearest are some ten.
    near = np.flatnonzero(shell <= last_shell[receiver])
    order, shell = order[near], shell[near]
    order = order[np.lexsort((order, shell))]  # as given, in a shell
    owner = receiver[order]
    kept = np.ones(len(order), dtype=bool)
    if ties == "break":
        surplus = np.bincount(owner, minlength=len(ends)) - count
        cut = np.flatnonzero((surplus[owner] > 0) & (shell == last_shell[owner]))
        if len(cut):
            boxes = np.stack([complete_box(cell, pbc, name) for _, _, cell, pbc, name in structures])
            axes = np.linalg.inv(boxes) * np.linalg.norm(boxes, axis=2)[:, None, :]
            of_structure = np.repeat(np.arange(len(structures)), [len(structure.z) for structure in structures])
            along = np.einsum("ni,nij->nj", to_neighbor[order[cut]], axes[of_structure[owner[cut]]])
            group = shell[cut]
            for values in (z[sender[order[cut]]], *along.T):
                group = _subdivide(group, values)
            cut = cut[np.argsort(group, kind="stable")]
            shell_ends = np.searchsorted(shell[cut], shell[cut], side="right")
            kept[cut] = np.arange(len(cut)) < shell_ends - surplus[owner[cut]]
    return order[kept]


def _by_distance(receiver: NDArray[np.int64], distance: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order by receiver, as which the edges are sorted already, and by distance.

    Both are one number, for numbers are sorted several times as fast as pairs. Among a million atoms, distances that
    differ by less than 1e-8 Å may so change places: they are one shell.
    """
    return np.argsort(receiver * (1.0 + distance.max()) + distance)


def _starts_of_groups(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where, of sorted ones, another group begins or the gap between values is wider than `SAME`."""
    starts = np.zeros(len(group), dtype=bool)
    starts[1:] = (group[1:] > group[:-1]) | (values[1:] - values[:-1] > SAME)
    return starts


def _subdivide(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return finer groups, numbered in order of the groups and in them of ``values``, of which one holds close ones.

    Gaps are looked for, where rounding to a grid would part two values that lie on either side of a step.
    """
    order = np.lexsort((values, group))
    finer = np.empty(len(group), dtype=np.int64)
    finer[order] = _starts_of_groups(group[order], values[order]).cumsum()
    return finer
