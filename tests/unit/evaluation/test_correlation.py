"""Correlations with missing labels, on numbers known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.evaluation.correlation import correlate, correlation_plot, scalar_labels, scalar_predictions, titles
from kimgnn.evaluation.predict import Prediction
from kimgnn.fields import ENERGY
from kimgnn.models.tasks import LABEL_TASKS, Task

TASKS = [
    LABEL_TASKS[ENERGY],
    Task("gap", "regression", "gap", "eV"),
    Task("eps", "regression", "eps", transform="log10"),
    Task("metal", "classification", "metal", classes=("no", "yes")),
    Task("phase", "classification", "phase", classes=("a", "b", "c")),
    Task("dipole", "regression", "dipole", components=3),
    Task("charge", "regression", "charge", per_atom=True),
]


def structure(**targets: float) -> Configuration:
    found = Configuration(cell=np.eye(3), species=["Si", "Si"], coords=np.zeros((2, 3)), PBC=[True] * 3, energy=-3.0)
    found.metadata = {"targets": {name: np.array([value]) for name, value in targets.items()}}
    return found


def test_what_is_one_number_a_structure() -> None:
    """Energies by atom, logarithms, classes as 0 or 1; no vectors, atoms or third classes."""
    structures = [structure(gap=1.5, eps=100.0, metal=1.0), structure(gap=0.5)]
    labels = scalar_labels(TASKS, structures)
    assert list(labels) == ["energy", "gap", "eps", "metal"]
    np.testing.assert_array_equal(labels["energy"], [-1.5, -1.5])
    np.testing.assert_array_equal(labels["eps"], [2.0, np.nan])
    np.testing.assert_array_equal(labels["metal"], [1.0, np.nan])
    said = Prediction(-4.0, properties={"gap": np.array([1.0]), "eps": np.array([10.0]), "metal": np.array([0.2, 0.8])})
    predicted = scalar_predictions(TASKS, [said, said], structures)
    assert {name: values[0] for name, values in predicted.items()} == {"energy": -2, "gap": 1, "eps": 1, "metal": 0.8}
    assert titles(TASKS) == {"energy": "energy", "gap": "gap", "eps": "log10 of eps", "metal": "metal: yes"}


def test_only_structures_with_both_count() -> None:
    """Of x = 0, 1, 2 and y = 0, 0, 3: r = 3 / sqrt(2 · 6); the structures that have one of them change nothing."""
    nan = np.nan
    values = {
        "x": np.array([0.0, 1.0, 2.0, 9.0, nan]),
        "y": np.array([0.0, 0.0, 3.0, nan, 9.0]),
        "few": np.array([1.0, 2.0, nan, nan, nan]),
        "same": np.ones(5),
    }
    found = correlate(values, enough=3)
    assert found.values[0, 1] == found.values[1, 0] == pytest.approx(3 / np.sqrt(12), rel=1e-12)
    assert found.counts[0].tolist() == [4, 3, 2, 4]
    assert np.isnan(found.values[2]).all()  # too few
    assert np.isnan(found.values[3]).all()  # does not vary
    assert found.values[0, 0] == pytest.approx(1.0)
    table = found.table().rows
    assert table[1] == ["x", "1.00 (n = 4)", "0.87 (n = 3)", "–", "–"]


def test_ten_structures_are_enough() -> None:
    x = np.arange(10.0)
    assert correlate({"x": x, "y": -x}).values[0, 1] == pytest.approx(-1.0)
    assert np.isnan(correlate({"x": x[:9], "y": -x[:9]}).values).all()


def test_the_picture_says_how_many_have_both() -> None:
    x = np.arange(12.0)
    found = correlate({"x": x, "y": np.where(x < 5, x, np.nan)})
    figure = correlation_plot({"labels, all": found, "errors": found})
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["1.00\nn = 12", "n = 5", "n = 5", "n = 5"]
    assert figure.axes[0].get_title() == "labels\nall"
