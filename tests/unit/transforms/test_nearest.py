"""The nearest neighbours in many structures at once are those in each."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kimgnn.errors import DataError
from kimgnn.transforms.nearest import Ties, find_nearest, find_nearest_of_all
from kimgnn.transforms.structure import Structure


def structure(atoms: Atoms, name: str = "") -> Structure:
    return Structure(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc, name)


def crystals() -> list[Structure]:
    """With ties, without; skewed, flat, a molecule, and a lone atom that has no neighbour."""
    rattled = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    rattled.rattle(0.2, seed=0)
    skewed = bulk("Ti", "hcp")
    skewed.set_cell(skewed.cell.array + [[0, 0, 0], [4, 0, 0], [0, -3, 0]], scale_atoms=True)
    slab = bulk("Si", cubic=True)
    slab.pbc = [True, True, False]
    found = [bulk("Si"), rattled, Atoms("He"), skewed, bulk("CsCl", "cesiumchloride", a=4.1), slab, molecule("C2H6")]
    return [structure(atoms) for atoms in found]


@pytest.mark.parametrize("ties", ["break", "keep"])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_together_as_alone(count: int, ties: Ties) -> None:
    """The same edges in the same order, bit for bit."""
    together = find_nearest_of_all(crystals(), 6.0, count, ties)
    first_atom = first_edge = 0
    for one in crystals():
        alone = find_nearest(one, 6.0, count, ties)
        edges = slice(first_edge, first_edge + len(alone.shifts))
        np.testing.assert_array_equal(together.edge_index[:, edges] - first_atom, alone.edge_index)
        np.testing.assert_array_equal(together.shifts[edges], alone.shifts)
        first_atom, first_edge = first_atom + len(one.z), edges.stop
    assert first_edge == len(together.shifts)


def test_the_one_that_is_bad_is_named() -> None:
    bad = structure(Atoms("He2", positions=np.zeros((2, 3))), "the bad one")
    with pytest.raises(DataError, match="the bad one"):
        find_nearest_of_all([*crystals(), bad], 6.0, 3, "break")
