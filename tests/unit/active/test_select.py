"""The choice: unsure, new, and no two alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kimgnn.active.select import scaled, select

NONE = np.empty((0, 2))


def test_of_duplicates_one_is_chosen() -> None:
    """Ten copies of the least certain structure, and two others."""
    features = np.array([[0.0, 0.0]] * 10 + [[1.0, 0.0], [0.0, 1.0]])
    deviations = np.array([5.0] * 10 + [1.0, 2.0])
    assert select(deviations, features, NONE, 5) == [0, 11, 10]


def test_what_is_known_is_not_asked_again() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert 0 not in select(np.array([9.0, 1.0, 1.0]), features, features[:1], 3)
    assert select(np.ones(3), features, features, 3) == []


def test_of_equally_unsure_ones_the_farthest_is_chosen() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [10.0, 0.0]])
    assert select(np.ones(4), features, features[:1], 2) == [3, 2]


def test_of_equally_far_ones_the_least_certain_is_chosen() -> None:
    features = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert select(np.array([1.0, 4.0, 2.0, 3.0]), features, np.zeros((1, 2)), 1) == [1]


def test_threshold_and_count() -> None:
    features, deviations = np.eye(4), np.array([0.1, 0.2, 0.3, 0.4])
    assert sorted(select(deviations, features, np.empty((0, 4)), 10, threshold=0.2)) == [2, 3]
    assert select(deviations, features, np.empty((0, 4)), 1) == [3]
    assert select(np.empty(0), np.empty((0, 4)), np.empty((0, 4)), 3) == []


def test_a_single_candidate_is_new_beside_known_ones() -> None:
    assert select(np.ones(1), np.array([[5.0, 1.0]]), np.array([[0.0, 1.0], [0.1, 1.0]]), 3) == [0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.0, 1.5))
def test_none_are_nearer_than_apart(seed: int, count: int, apart: float) -> None:
    """Whatever is chosen: no two of them, and none of them and a known one, are within ``apart``."""
    rng = np.random.default_rng(seed)
    features, known = rng.normal(size=(40, 3)) * [1, 100, 1e-3], rng.normal(size=(4, 3))
    chosen = select(rng.random(40), features, known, count, apart=apart)
    assert len(set(chosen)) == len(chosen) <= count
    places, others = scaled(features, known)
    together = np.concatenate([places[chosen], others])
    distances = np.linalg.norm(together[:, None] - together[None], axis=2)
    assert (distances[: len(chosen)][~np.eye(len(together), dtype=bool)[: len(chosen)]] > apart).all()


def test_the_unit_is_the_spread_whatever_the_features_measure() -> None:
    """Structures are 1 from their mean, in the root mean square; neither constant features nor other units matter."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 3))
    places, known = scaled(features, features[:5])
    everything = np.concatenate([places, known])
    np.testing.assert_allclose((everything**2).sum(1).mean(), 1.0, rtol=1e-12)
    other = np.column_stack([features * [1e3, 1.0, 1e-6], np.full(30, 7.0)])
    np.testing.assert_allclose(scaled(other, other[:5])[0], places, atol=1e-9)
