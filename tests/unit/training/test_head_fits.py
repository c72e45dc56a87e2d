"""What heads take from the training set."""

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.errors import DataError
from kimgnn.training.head_fits import check_logarithms, fit_classification_head, fit_property_head


def structure(symbols, value, identifier="a"):
    coords = np.arange(3.0 * len(symbols)).reshape(-1, 3)
    item = Configuration(np.eye(3) * 20, symbols, coords, [True] * 3, identifier=identifier)
    item.metadata = {"targets": {"gap": np.atleast_1d(np.asarray(value, dtype=float))}}
    return item


def head(**options):
    return {"type": "property", "target": "gap"} | options


def test_mean_and_spread_are_those_of_what_is_learned():
    """Of logarithms here; a missing label does not count."""
    data = [structure(["Si"], value) for value in (10.0, 1000.0, np.nan)]
    fitted = fit_property_head(head(transform="log10"), data)
    assert fitted["mean"] == pytest.approx([2.0])
    assert fitted["spread"] == pytest.approx([1.0])
    assert fitted["reference"] == "none"


def test_reference_values_of_an_extensive_target_take_out_the_composition():
    """Energies that are exactly sums over elements leave a small spread: what the ridge's penalty holds back."""
    truth = {"Si": -5.0, "O": 3.0}
    compositions = [["Si"] * a + ["O"] * b for a in range(1, 12) for b in range(1, 12)]
    data = [structure(symbols, sum(truth[symbol] for symbol in symbols)) for symbols in compositions]
    fitted = fit_property_head(head(extensive=True), data)
    assert fitted["reference"]["Si"] - fitted["reference"]["O"] == pytest.approx(-8.0, rel=0.05)
    # 0.1 of penalty against 121 structures: a few per cent of the spread of 1.6 eV/atom are left.
    assert fitted["spread"][0] < 0.1


def test_value_that_has_no_logarithm_is_told_by_id():
    """Zero and less."""
    data = [
        structure(["Si"], value, name) for value, name in ((1.0, "a"), (0.0, "mp-7"), (np.nan, "b"), (-2.0, "mp-8"))
    ]
    with pytest.raises(DataError, match=r"mp-7 \(gap\): has no logarithm \(got 0\.0\)(.|\n)*mp-8") as told:
        check_logarithms([head(transform="log10")], data)
    assert len(told.value.problems) == 2
    check_logarithms([head(transform="none"), {"type": "energy"}], data)


def test_constant_left_over_is_not_divided_by():
    """One structure has no spread."""
    assert fit_property_head(head(), [structure(["Si"], 2.0)])["spread"] == [1.0]


def test_without_standardisation_and_given_numbers():
    """Origin 0 and unit 1; what is given stays."""
    data = [structure(["Si"], value) for value in (1.0, 3.0)]
    assert fit_property_head(head(standardize=False), data)["mean"] == [0.0]
    assert fit_property_head(head(mean=[7.0]), data)["mean"] == [7.0]


def test_balanced_classes():
    """n / (n_classes · n_class); labels that are missing do not count."""
    data = [structure(["Si"], value) for value in (0.0, 0.0, 0.0, 1.0, np.nan)]
    options = {"type": "classification", "target": "gap", "classes": None, "class_weights": "balanced"}
    assert fit_classification_head(options, data)["class_weights"] == pytest.approx([4 / 6, 4 / 2])
