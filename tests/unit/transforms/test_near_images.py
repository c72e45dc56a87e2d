"""What one pass of NumPy finds in many crystals is what vesin finds in each."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.transforms.near_images import NearImages
from kimgnn.transforms.neighbors import find_neighbors

Rows = set[tuple[float, ...]]


def crystal(seed: int) -> Atoms:
    """Up to eight atoms anywhere, also outside of a cell that may be flat, long and skewed."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2.0, 7.0, 3)) + rng.normal(0.0, rng.choice([0.0, 0.3, 1.0]), (3, 3))
    places = rng.permutation(8)[: rng.integers(1, 9)]
    fractional = (np.stack([places // 4, places // 2 % 2, places % 2], axis=1) + rng.uniform(0.1, 0.4, 3)) / 2
    atoms = Atoms(f"H{len(places)}", scaled_positions=fractional, cell=cell, pbc=True)
    atoms.rattle(0.1, seed=seed)
    atoms.positions += rng.integers(-1, 2, (len(places), 3)) @ cell + rng.normal(0.0, 5.0, 3)
    return atoms


def images(structures: list[Atoms]) -> NearImages:
    return NearImages(
        np.concatenate([atoms.positions for atoms in structures]),
        np.stack([atoms.cell.array for atoms in structures]),
        np.array([len(atoms) for atoms in structures]),
    )


def rows(edge_index: NDArray[np.int64], shifts: NDArray[np.float64]) -> Rows:
    """Edges, whatever their order; 1e-6 Å is far below what tells shifts apart, and above their rounding."""
    rounded = (shifts.round(6) + 0.0).tolist()
    return {(*ends, *shift) for ends, shift in zip(edge_index.T.tolist(), rounded, strict=True)}


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.data())
def test_they_are_those_that_vesin_finds(seeds: list[int], data: st.DataObject) -> None:
    structures = [crystal(seed) for seed in seeds]
    reach = np.array([data.draw(st.floats(1.0, 6.0)) for _ in seeds])
    which = np.array([data.draw(st.booleans()) for _ in seeds])
    near = images(structures).within(reach, which)
    assert (np.diff(near.edge_index[1]) >= 0).all()
    expected: Rows = set()
    first = 0
    for atoms, distance, is_chosen in zip(structures, reach.tolist(), which, strict=True):
        if is_chosen:
            found = find_neighbors(atoms.positions, atoms.cell.array, atoms.pbc, distance)
            expected |= rows(found.edge_index + first, found.shifts)
        first += len(atoms)
    assert rows(*near) == expected
    assert near.edge_index.shape[1] == len(expected)


def test_their_order_does_not_depend_on_other_crystals() -> None:
    """Nor does a bit of their shifts."""
    structures = [crystal(seed) for seed in range(20)]
    reach = np.full(20, 5.0)
    together = images(structures).within(reach, reach > 0)
    edges = atoms_before = 0
    for atoms in structures:
        alone = images([atoms]).within(reach[:1], reach[:1] > 0)
        own = slice(edges, edges + len(alone.shifts))
        np.testing.assert_array_equal(together.edge_index[:, own] - atoms_before, alone.edge_index)
        np.testing.assert_array_equal(together.shifts[own], alone.shifts)
        edges, atoms_before = own.stop, atoms_before + len(atoms)
    assert edges == len(together.shifts)


def test_how_many_are_looked_at_is_no_fewer_than_there_are() -> None:
    crystals = images([bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6, cubic=True)])
    reach = np.array([6.0, 6.0])
    edges = crystals.within(reach, reach > 0).edge_index
    assert (crystals.looked_at(reach) >= np.bincount(crystals.owner[edges[1]])).all()
    assert (crystals.looked_at(reach) < crystals.looked_at(2 * reach)).all()


@pytest.mark.parametrize("place", [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 8.0, -4.0005]])
def test_two_atoms_at_one_place_are_refused(place: list[float]) -> None:
    """An image of one at the place of the other, too."""
    atoms = Atoms("He2", positions=[[0.0, 0.0, 0.0], place], cell=[4.0, 4.0, 4.0], pbc=True)
    crystals = images([bulk("Cu"), atoms])
    with pytest.raises(DataError, match="at one place"):
        crystals.within(np.array([3.0, 3.0]), np.array([True, True]))
    crystals.within(np.array([3.0, 3.0]), np.array([True, False]))
