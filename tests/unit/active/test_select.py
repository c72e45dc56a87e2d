"""The choice: unsure, new, and no two alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kimgnn.active.select import scaled, select

NONE = np.empty((0, 2))


def alone(features) -> list[np.ndarray]:
    """Structures of one atom each."""
    return [row[None] for row in np.asarray(features, float)]


def test_of_duplicates_one_is_chosen() -> None:
    """Ten copies of the least certain structure, and two others."""
    features = alone([[0.0, 0.0]] * 10 + [[1.0, 0.0], [0.0, 1.0]])
    deviations = np.array([5.0] * 10 + [1.0, 2.0])
    assert select(deviations, features, NONE, 5) == [0, 11, 10]


def test_what_is_known_is_not_asked_again() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert 0 not in select(np.array([9.0, 1.0, 1.0]), alone(features), features[:1], 3)
    assert select(np.ones(3), alone(features), features, 3) == []


def test_a_single_new_atom_makes_a_structure_new() -> None:
    """A defect in a large cell of known atoms is worth more than a structure whose every atom is a little new."""
    known = np.zeros((5, 2))
    crystal, defect = np.full((8, 2), 0.3), np.concatenate([np.zeros((63, 2)), [[2.0, 0.0]]])
    assert select(np.ones(2), [crystal, defect], known, 1) == [1]


def test_a_supercell_of_what_is_known_or_chosen_is_not_new() -> None:
    rng = np.random.default_rng(0)
    known, other = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    cells = [np.tile(known, (2, 1)), other, np.tile(other, (3, 1))]
    assert select(np.array([3.0, 1.0, 0.5]), cells, known, 3) == [1]


def test_of_equally_unsure_ones_the_farthest_is_chosen() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [10.0, 0.0]])
    assert select(np.ones(4), alone(features), features[:1], 2) == [3, 2]


def test_of_equally_far_ones_the_least_certain_is_chosen() -> None:
    features = alone([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert select(np.array([1.0, 4.0, 2.0, 3.0]), features, np.zeros((1, 2)), 1) == [1]


def test_threshold_and_count() -> None:
    features, deviations = alone(np.eye(4)), np.array([0.1, 0.2, 0.3, 0.4])
    assert sorted(select(deviations, features, np.empty((0, 4)), 10, threshold=0.2)) == [2, 3]
    assert select(deviations, features, np.empty((0, 4)), 1) == [3]
    assert select(np.empty(0), [], np.empty((0, 4)), 3) == []


def test_a_single_candidate_is_new_beside_known_ones() -> None:
    assert select(np.ones(1), alone([[5.0, 1.0]]), np.array([[0.0, 1.0], [0.1, 1.0]]), 3) == [0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.0, 1.5))
def test_whatever_is_chosen_has_an_atom_that_is_apart(seed: int, count: int, apart: float) -> None:
    """Of what is known, and of all that was chosen before; whatever the sizes of structures."""
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(rng.integers(1, 6), 3)) * [1, 100, 1e-3] for _ in range(30)]
    known = rng.normal(size=(4, 3))
    chosen = select(rng.random(30), features, known, count, apart=apart)
    assert len(set(chosen)) == len(chosen) <= count
    atoms, others = scaled(np.concatenate(features), known)
    atoms = np.split(atoms, np.cumsum([len(one) for one in features])[:-1])
    for index in chosen:
        assert np.linalg.norm(atoms[index][:, None] - others[None], axis=2).min(1).max() > apart
        others = np.concatenate([others, atoms[index]])


def test_the_unit_is_the_spread_whatever_the_features_measure() -> None:
    """Atoms are 1 from their mean, in the root mean square; neither constant features nor other units matter."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 3))
    places, known = scaled(features, features[:5])
    everything = np.concatenate([places, known])
    np.testing.assert_allclose((everything**2).sum(1).mean(), 1.0, rtol=1e-12)
    other = np.column_stack([features * [1e3, 1.0, 1e-6], np.full(30, 7.0)])
    np.testing.assert_allclose(scaled(other, other[:5])[0], places, atol=1e-9)
