"""The nearest of an atom's neighbours, told from one another by what does not depend on the order of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.transforms.near_images import Near, NearImages
from kimgnn.transforms.neighbors import Neighbors, check_finite, complete_box, find_neighbors, find_pairs, have_volume
from kimgnn.transforms.structure import Edges, Structure

SAME = 1e-3
"""Å. Distances that differ by less are one shell: a CIF with fractions to four digits (0.3333) moves atoms by 5e-4 Å in
a cell of 10 Å, and so differ distances that are equal by symmetry."""

LIKELY = 2.5
"""How many times as many atoms as there are nearest neighbours are looked at, in the mean, before all within the cutoff
are: with those of a shell that is cut, and the next shell."""

MOST_LOOKED_AT = 20_000
"""Images that are looked at in a crystal, by all of its atoms: with more of them, vesin is faster, which sorts them."""

Ties = Literal["break", "keep"]


def find_nearest(structure: Structure, cutoff: float, count: int, ties: Ties) -> Edges:
    """Return the edges to each atom's ``count`` nearest neighbours within ``cutoff`` (Å); see `nearest_edges`.

    Raises:
        DataError: As `kimgnn.transforms.neighbors.find_neighbors` does.
    """
    return find_nearest_of_all([structure], cutoff, count, ties)


def find_nearest_of_all(structures: Sequence[Structure], cutoff: float, count: int, ties: Ties) -> Edges:
    """Return the edges of `find_nearest` of each structure, whose atoms are counted along all of them.

    No farther is looked than the nearest are likely to be; where an atom has too few neighbours there, to the cutoff.

    Raises:
        DataError: Of the first structure that `find_nearest` refuses.
    """
    try:
        return _find_nearest(_Structures(structures), cutoff + SAME, count, ties)  # a shell at the cutoff is not cut
    except DataError:
        for _, coords, cell, pbc, name in structures:
            find_pairs(coords, cell, pbc, cutoff + SAME, name)
        raise


def _find_nearest(structures: _Structures, cutoff: float, count: int, ties: Ties) -> Edges:
    reach = np.minimum(structures.likely_reach(count), cutoff)
    near = structures.neighbors(reach, np.ones(len(reach), dtype=bool))
    nearest, is_known = _nearest(near, structures, count, ties)
    again = np.bincount(structures.owner, ~is_known, minlength=len(reach)).astype(bool) & (reach < cutoff)
    if again.any():
        kept = ~again[structures.owner[near.edge_index[1]]]
        others = Near(near.edge_index[:, kept], near.shifts[kept])
        near = _together([others, structures.neighbors(np.full(len(reach), cutoff), again)])
        nearest, _ = _nearest(near, structures, count, ties)
    return Edges(near.edge_index[:, nearest], near.shifts[nearest], None)


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
    nearest, _ = _nearest(neighbors, _Structures([structure]), count, ties)
    return nearest


class _Structures:
    """Structures whose atoms are counted along all of them.

    Attributes:
        z, coords: Of all ``(n_atoms,)`` and ``(n_atoms, 3)``.
        boxes: ``(n_structures, 3, 3)``, as `complete_box` returns them.
        owner: The structure of each atom ``(n_atoms,)``.

    Raises:
        DataError: A position or a cell is not finite, or a periodic cell has no volume; it is not said which.
    """

    def __init__(self, structures: Sequence[Structure]) -> None:
        self._structures = structures
        self.z, self.coords, cells = (
            np.concatenate([structure[part] for structure in structures]) for part in range(3)
        )
        check_finite(self.coords, cells)
        self.boxes = cells.reshape(-1, 3, 3)
        self._periodic = np.stack([structure.pbc for structure in structures]).all(axis=1)
        for index in np.flatnonzero(~self._periodic):
            _, _, cell, pbc, name = structures[index]
            self.boxes[index] = complete_box(cell, pbc, name)
        if not have_volume(self.boxes).all():
            raise DataError("the periodic cell has no volume")
        self._atom_counts = np.array([len(structure.z) for structure in structures])
        self.owner = np.repeat(np.arange(len(structures)), self._atom_counts)

    @cached_property
    def _images(self) -> NearImages:
        return NearImages(self.coords, self.boxes, self._atom_counts)

    def likely_reach(self, count: int) -> NDArray[np.float64]:
        """Return within which distance (Å) an atom likely has so many neighbours and a farther one ``(n_structures,)``.

        In a crystal it is the radius of a sphere that holds `LIKELY` times as many atoms at the mean density.
        """
        volumes = np.abs(np.linalg.det(self.boxes)) / self._atom_counts
        return np.where(self._periodic, np.cbrt(3 / (4 * np.pi) * LIKELY * count * volumes), np.inf)

    def neighbors(self, reach: NDArray[np.float64], which: NDArray[np.bool_]) -> Near:
        """Return who is within reach (Å) of whom in some of the structures, sorted by receiver.

        Calls of NumPy take longer than what they do for a small crystal; so they are called once for many.

        Raises:
            DataError: Two atoms are at one place.
        """
        small = which & self._periodic & (self._images.looked_at(reach) <= MOST_LOOKED_AT)
        found = [self._images.within(reach, small)] if small.any() else []
        for index in np.flatnonzero(which & ~small):
            _, coords, cell, pbc, name = self._structures[index]
            edge_index, shifts, _ = find_neighbors(coords, cell, pbc, float(reach[index]), name)
            found.append(Near(edge_index + self._images.starts[index], shifts))
        return _together(found)


def _together(parts: Sequence[Near]) -> Near:
    """Return edges of some structures and of others, sorted by receiver."""
    if len(parts) == 1:
        return parts[0]
    edge_index = np.concatenate([part.edge_index for part in parts], axis=1)
    order = np.argsort(edge_index[1], kind="stable")
    return Near(edge_index[:, order], np.concatenate([part.shifts for part in parts])[order])


def _nearest(
    neighbors: Neighbors | Edges | Near, structures: _Structures, count: int, ties: Ties
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return `nearest_edges` of structures, and of each atom whether a farther neighbour is known than those."""
    sender, receiver = neighbors.edge_index
    if not len(receiver):
        return np.empty(0, dtype=np.int64), np.zeros(len(structures.z), dtype=bool)
    z, coords = structures.z, structures.coords
    to_neighbor = coords[sender] - coords[receiver] - neighbors.shifts
    distance = np.sqrt(np.square(to_neighbor).sum(axis=1))
    ends = np.bincount(receiver, minlength=len(z)).cumsum()
    starts = np.concatenate([[0], ends[:-1]])
    order = _by_distance(receiver, distance)
    shell = _starts_of_groups(receiver, distance[order]).cumsum()
    last_shell = shell[np.minimum(starts + count, ends) - 1]  # of an atom without neighbours: any, it is not asked for
    is_known = (ends > starts) & (last_shell < shell[ends - 1])
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
            boxes = structures.boxes
            axes = np.linalg.inv(boxes) * np.linalg.norm(boxes, axis=2)[:, None, :]
            along = np.einsum("ni,nij->nj", to_neighbor[order[cut]], axes[structures.owner[owner[cut]]])
            group = shell[cut]
            for values in (z[sender[order[cut]]], *along.T):
                group = _subdivide(group, values)
            cut = cut[np.argsort(group, kind="stable")]
            shell_ends = np.searchsorted(shell[cut], shell[cut], side="right")
            kept[cut] = np.arange(len(cut)) < shell_ends - surplus[owner[cut]]
    return order[kept], is_known


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
