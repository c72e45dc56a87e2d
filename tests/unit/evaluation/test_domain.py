"""What is kept of training data, and what it says of a structure that is unlike them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kimgnn.evaluation.domain import KEPT, NOT_KNOWN, Domain, summary

PEROVSKITES = [[a, b, "O", "O", "O"] for a in ("Ba", "Sr", "Ca") for b in ("Ti", "Zr")]


def test_a_summary_counts_elements_and_compositions_once() -> None:
    found = summary(
        [*PEROVSKITES, PEROVSKITES[0] * 2], {"gap": np.array([1.0, 3.0, np.nan]), "none": np.array([np.nan])}
    )
    assert found["structures"] == 7
    assert found["elements"] == {"Ba": 3, "Ca": 2, "O": 7, "Sr": 2, "Ti": 4, "Zr": 3}
    assert len(found["compositions"]) == 6  # the supercell is none of its own
    assert found["composition_spacing"] == pytest.approx(0.2)  # one atom of five
    gap = found["labels"]["gap"]
    assert (gap["count"], gap["min"], gap["max"], gap["mean"], gap["std"]) == (2, 1.0, 3.0, 2.0, 1.0)
    assert sum(gap["histogram"]["counts"]) == 2
    assert "none" not in found["labels"]
    assert json.loads(json.dumps(found)) == found


def test_of_a_logarithm_the_bins_are_evenly_wide_in_it() -> None:
    """On a linear axis, one outlier leaves all other values in the first bin."""
    values = np.append(np.geomspace(1.0, 100.0, 200), [1e6, np.nan])
    found = summary(PEROVSKITES, {"modulus": values, "gap": values, "one": np.array([3.0])}, ["modulus", "one"])
    told = found["labels"]["modulus"]
    edges, counts = np.array(told["histogram"]["edges"]), np.array(told["histogram"]["counts"])
    assert np.diff(np.log10(edges)) == pytest.approx(6 / 20)  # decades, in 20 bins
    assert (edges[0], edges[-1], told["min"], told["max"]) == pytest.approx((1.0, 1e6, 1.0, 1e6))
    assert edges[0] <= told["min"]
    assert edges[-1] >= told["max"]
    assert counts.sum() == 201
    assert counts.max() < 40  # 0.3 of two decades with 200 values
    assert max(found["labels"]["gap"]["histogram"]["counts"]) == 200
    one = found["labels"]["one"]["histogram"]["edges"]
    assert one[0] < 3.0 < one[-1]


def test_structures_of_the_training_set_are_not_told_of() -> None:
    domain = Domain(summary(PEROVSKITES, {}))
    for symbols in PEROVSKITES:
        assert domain.warnings_of(symbols) == []
        assert domain.warnings_of(symbols[::-1] * 8) == []


def test_an_element_never_seen_and_a_far_composition_are_told() -> None:
    domain = Domain(summary(PEROVSKITES, {}))
    (unseen,) = domain.warnings_of(["Ba", "Hf", "O", "O", "O"])
    assert "has Hf" in unseen
    (far,) = domain.warnings_of(["Ba", "O"])  # 1/5 + 1/2 of the atoms are those of BaTiO3
    assert "30% of the atoms differ from BaO3Ti" in far
    assert "farther than 20%" in far
    assert len(domain.warnings_of(["He"])) == 2


def test_of_many_compositions_some_are_kept_and_the_scale_is_theirs() -> None:
    """All 1,999 binaries with 1 to 1,999 of 2,000 atoms: those kept lie twice as far apart, and nothing is far."""
    binaries = [["Si"] * count + ["C"] * (2000 - count) for count in range(1, 2000)]
    found = summary(binaries, {})
    assert len(found["compositions"]) == KEPT
    domain = Domain(found)
    assert not any(domain.warnings_of(symbols) for symbols in binaries[::100])


@pytest.mark.parametrize("known", [summary([], {}), summary([["Si"]], {})])
def test_with_little_known(known: dict) -> None:
    assert Domain(known).warnings_of(["Si", "Si"]) == []


def test_a_model_that_does_not_tell_its_training_data_says_so() -> None:
    """Silence would be taken for a structure like the training data."""
    assert Domain({}).warnings_of(["Si", "Si"]) == [NOT_KNOWN]
