"""Strained and rattled seeds, and atoms that are too close."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from kimgnn.active.guards import too_close
from kimgnn.active.perturb import rattled, strained


def test_a_strain_alone_keeps_fractional_places() -> None:
    seed = bulk("Si", cubic=True)
    changed = strained(seed, 0.05, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(changed.get_scaled_positions(), seed.get_scaled_positions(), atol=1e-12)
    strain = np.linalg.solve(seed.cell.array, changed.cell.array) - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 0 < np.abs(strain).max() <= 0.05


def test_what_is_not_periodic_is_not_strained() -> None:
    slab = fcc111("Si", (2, 2, 2), a=4.4, vacuum=5.0)
    slab.pbc = (True, True, False)
    changed = strained(slab, 0.05, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(changed.cell[2], slab.cell[2])
    assert (changed.cell[0] != slab.cell[0]).any()
    free = molecule("H2O")
    np.testing.assert_array_equal(strained(free, 0.05, 0.0, np.random.default_rng(0)).positions, free.positions)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.2))
def test_a_rattle_moves_by_its_size(seed: int, size: float) -> None:
    """A standard deviation of up to ``size``; five of them are passed by none of 192 coordinates in 10,000 draws."""
    atoms = bulk("Si", cubic=True).repeat(2)
    moved = rattled(atoms, size, np.random.default_rng(seed)).positions - atoms.positions
    assert 0 < np.abs(moved).max() < 5 * size


def test_seeds_are_left_as_they_are() -> None:
    seed = bulk("Si", cubic=True)
    before = seed.copy()
    strained(seed, 0.05, 0.1, np.random.default_rng(0)), rattled(seed, 0.1, np.random.default_rng(0))
    assert seed == before


@pytest.mark.parametrize("symbols", ["Si2", "H2", "SiH"])
def test_how_close_depends_on_the_elements(symbols: str) -> None:
    """Just within the fraction of the sum of covalent radii, and just beyond it."""
    atoms = Atoms(symbols, np.zeros((2, 3)))
    sum_of_radii = covalent_radii[atoms.numbers].sum()
    for factor, close in ((0.59, True), (0.61, False)):
        atoms.positions[1] = [0, 0, factor * sum_of_radii]
        assert too_close(atoms, 0.6) is close


def test_images_and_broken_positions_are_too_close() -> None:
    assert too_close(Atoms("Si", cell=[1.0, 5, 5], pbc=True), 0.6)
    assert not too_close(Atoms("Si", cell=[1.0, 5, 5], pbc=False), 0.6)
    assert too_close(Atoms("Si2", np.zeros((2, 3))), 0.6)
    assert too_close(Atoms("Si2", [[0, 0, 0], [0, 0, np.nan]]), 0.6)
