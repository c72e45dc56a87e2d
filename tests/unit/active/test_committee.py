"""What the committee says of structures: deviations and features."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from kimgnn.active.committee import judge
from kimgnn.calculator import KimgnnCalculator
from kimgnn.models.checkpoint import Checkpoint


def structures() -> list[Atoms]:
    rng = np.random.default_rng(0)
    found = [
        bulk("Si"),
        bulk("Si", cubic=True),
        bulk("Si", cubic=True).repeat((2, 1, 1)),
        Atoms("Si2", np.eye(3)[:2] * 2),
    ]
    for atoms in found:
        atoms.rattle(0.1, rng=rng)
    return found


def test_deviations_are_those_of_the_calculator(committee: Checkpoint, run: Path) -> None:
    """In batches as one by one, to rounding."""
    calculator = KimgnnCalculator(run)
    judged = judge(committee, structures(), batch_size=2)
    for atoms, found in zip(structures(), judged.deviations, strict=True):
        expected = np.linalg.norm(calculator.get_property("forces_deviation", atoms), axis=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    largest, mean = judged.of_structures("max"), judged.of_structures("mean")
    assert (largest >= mean).all()
    assert largest[1] == pytest.approx(judged.deviations[1].max())


def test_a_supercell_looks_like_its_cell(committee: Checkpoint) -> None:
    """Its atoms are those of the cell, and the largest deviation is too."""
    cell = structures()[1]
    judged = judge(committee, [cell, cell.repeat((2, 1, 2))])
    atoms, of_supercell = judged.features
    nearest = np.linalg.norm(of_supercell[:, None] - atoms[None], axis=2).min(1)
    np.testing.assert_allclose(nearest, 0.0, atol=1e-10)
    np.testing.assert_allclose(*judged.of_structures("max"), rtol=0, atol=1e-10)


def test_features_tell_environments_apart(committee: Checkpoint) -> None:
    found = judge(committee, structures()).features
    assert [one.shape for one in found] == [(len(atoms), 8) for atoms in structures()]
    for one, other in itertools.combinations(found, 2):
        assert np.linalg.norm(one[:, None] - other[None], axis=2).min() > 1e-4


def test_of_nothing(committee: Checkpoint) -> None:
    assert len(judge(committee, []).of_structures("max")) == 0
