"""What is told of uncertainties: coverage, miscalibration area, calibration errors, and their pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import units

from kimgnn.evaluation.calibrated import at_temperature
from kimgnn.evaluation.calibration import fit_calibration
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.columns import prediction_columns
from kimgnn.evaluation.heads import compare_heads, compare_labels
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.evaluation.report import write_report
from kimgnn.evaluation.uncertainty import (
    LEVELS,
    bins_of,
    confidence_bins,
    confidence_error,
    interval_coverage,
    judge,
    judge_values,
)
from kimgnn.evaluation.uncertainty_plots import class_plot, value_plot
from kimgnn.models.tasks import Task

GAP = Task("gap", "regression", "gap", "eV")
EPSILON = Task("epsilon", "regression", "epsilon", transform="log10")
METAL = Task("metal", "classification", "metal", classes=("no", "yes"))


def regression(error: Any, deviation: Any, task: Task = GAP) -> Regression:
    """Return a head's result, one value a structure, of which errors and deviations are given."""
    n = len(error)
    ones = np.ones(n, dtype=np.int64)
    return Regression(task, -np.asarray(error), np.zeros(n), np.arange(n), 0 * ones, ones, np.asarray(deviation))


def drawn(n: int, factor: float, seed: int = 0) -> Regression:
    """Return errors whose standard deviation is ``factor`` times what is told."""
    rng = np.random.default_rng(seed)
    sigma = rng.gamma(3.0, 0.3, n)
    return regression(factor * sigma * rng.standard_normal(n), sigma)


def test_true_deviations_have_no_area_and_no_error() -> None:
    """20,000 normal errors: shares are off by 0.004 at most, root mean squares of 2,000 by 0.016 of themselves."""
    found = judge_values(drawn(20000, 1.0), None, None, "none", 0.9)
    assert found.calibrated is None
    assert found.raw.area < 0.01
    assert found.raw.error < 0.05
    assert found.raw.at_level == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(found.raw.coverage, LEVELS, atol=0.015)


def test_the_area_of_deviations_that_are_far_too_small_is_a_half() -> None:
    """No label is within any interval: the mean of the levels themselves."""
    found = judge_values(drawn(2000, 1e6), None, None, "none", 0.9)
    assert found.raw.area == pytest.approx(0.5, abs=1e-3)
    assert found.raw.at_level < 0.01


@pytest.mark.parametrize("method", ["conformal", "scaling"])
def test_calibration_takes_the_area_away(method: Any) -> None:
    fitted, new = drawn(4000, 5.0), drawn(4000, 5.0, seed=1)
    calibration = fit_calibration(method, 0.9, {"gap": fitted})
    found = judge_values(new, fitted, calibration.values["gap"], method, 0.9)
    assert found.calibrated is not None
    assert found.raw.area > 0.3
    assert found.calibrated.area < 0.02
    assert found.calibrated.error < 0.1
    assert found.calibrated.at_level == pytest.approx(0.9, abs=0.03)  # four standard errors of both counts
    assert found.rank > 0.3


def test_no_level_is_told_that_there_are_too_few_structures_for() -> None:
    """Of 19 structures, 95 % is the last."""
    fitted = drawn(19, 2.0)
    calibration = fit_calibration("conformal", 0.9, {"gap": fitted})
    found = judge_values(drawn(50, 2.0, seed=1), fitted, calibration.values["gap"], "conformal", 0.9)
    assert found.calibrated is not None
    assert np.isnan(found.calibrated.coverage[LEVELS > 0.951]).all()
    assert np.isfinite(found.calibrated.coverage[LEVELS < 0.949]).all()
    assert np.isfinite(found.calibrated.area)


def test_bins_hold_equally_many_values() -> None:
    told, found = bins_of(np.repeat(np.arange(1.0, 11.0), 3), np.repeat(np.arange(1.0, 11.0), 3))
    np.testing.assert_allclose(told, np.arange(1.0, 11.0))
    np.testing.assert_allclose(found, told)


def test_the_calibration_error_of_classes_is_guos() -> None:
    """Two bins: sure of 0.9 and right 1 time of 2, sure of 0.6 and right each of 2 times."""
    probabilities = np.array([[0.1, 0.9], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    reference = np.array([1, 0, 0, 0])
    confidence, accuracy, counts = confidence_bins(probabilities, reference)
    np.testing.assert_allclose(confidence, [0.6, 0.9])
    np.testing.assert_allclose(accuracy, [1.0, 0.5])
    np.testing.assert_array_equal(counts, [2, 2])
    assert confidence_error(probabilities, reference) == pytest.approx(0.4)


def structure(index: int, gap: float, metal: float) -> Any:
    """Return a structure with labels, as far as evaluation looks at it."""
    return SimpleNamespace(
        species=["Si", "Si"], coords=np.zeros((2, 3)), energy=-8.0, forces=np.zeros((2, 3)), stress=np.zeros(6),
        metadata={"targets": {"gap": np.array([gap]), "metal": np.array([metal])}}, identifier=str(index),
    )  # fmt: skip


def predictions(n: int, seed: int) -> tuple[list[Prediction], list[Any]]:
    """Return an ensemble's predictions with deviations that are too small, and structures; some labels missing."""
    rng = np.random.default_rng(seed)
    found, structures = [], []
    for index in range(n):
        share = rng.random()
        structures.append(
            structure(index, np.nan if index % 7 == 0 else rng.standard_normal(), float(rng.random() < share))
        )
        yes = at_temperature(np.array([1 - share, share]), 0.4)
        found.append(
            Prediction(
                energy=-8.0 + 0.2 * rng.standard_normal(),
                forces=0.3 * rng.standard_normal((2, 3)),
                properties={"gap": np.zeros(1), "metal": yes},
                deviations={"gap": np.array([0.1]), "metal": np.array([0.05, 0.05])},
                energy_deviation=0.02,
                forces_deviation=np.full((2, 3), 0.05),
                stress=0.7 * units.GPa * rng.standard_normal(6),
                stress_deviation=np.full(6, 0.1 * units.GPa),
            )
        )
    return found, structures


@pytest.fixture(scope="module")
def judged() -> Any:
    """Raw predictions of both sets, the structures, calibration, and what is told."""
    raw, there = {}, {}
    for seed, split in enumerate(("val", "test")):
        raw[split], there[split] = predictions(600, seed)
    tasks = [GAP, METAL]
    results = {**compare_labels(raw["val"], there["val"]), **compare_heads(tasks, raw["val"], there["val"])}
    calibration = fit_calibration("conformal", 0.9, results)
    return raw, there, calibration, judge(raw, there, tasks, calibration, 0.9)


def test_every_head_energy_forces_and_stress_are_judged(judged: Any) -> None:
    """The same coverage comes out of intervals as they are told. Four standard errors of both counts of 514 labels."""
    raw, there, calibration, told = judged
    assert list(told.values) == ["energy", "forces", "stress", "gap"]
    assert list(told.classes) == ["metal"]
    calibrated = [calibration.apply(found, [GAP, METAL], 2) for found in raw["test"]]
    coverage = interval_coverage(calibrated, there["test"], [GAP, METAL])
    for name, found in told.values.items():
        assert found.raw.at_level < 0.5
        assert found.calibrated.at_level == pytest.approx(0.9, abs=4 * np.sqrt(2 * 0.09 / 514))
        assert coverage[f"{name}_coverage"] == pytest.approx(found.calibrated.at_level, abs=1e-12)
    assert coverage["metal_coverage"] == told.classes["metal"].coverage > 0.85
    assert told.metrics().keys() >= {"gap_coverage", "gap_miscalibration_area", "metal_calibration_error"}
    before, after = told.classes["metal"].errors
    assert after < before / 2


def test_the_report_tells_and_draws_them(judged: Any, tmp_path: Any) -> None:
    raw, there, _, told = judged
    tasks = [GAP, METAL]
    heads = {"test": compare_heads(tasks, raw["test"], there["test"])}
    report = write_report(tmp_path, {"test": {}}, {}, {}, heads, told)
    text = report.path.read_text(encoding="utf-8")
    assert "## Uncertainty" in text
    assert report.metrics["test"]["gap_coverage"] == told.values["gap"].calibrated.at_level
    for name in ("energy", "forces", "stress", "gap", "metal"):
        assert f"| {name}" in text
        assert (tmp_path / f"uncertainty_{name}.png").stat().st_size > 10_000


def test_without_calibration_raw_deviations_are_told(judged: Any) -> None:
    raw, there, _, _ = judged
    told = judge(raw, there, [GAP, METAL], None, 0.8)
    assert (told.method, told.level) == ("none", 0.8)
    assert all(found.calibrated is None for found in told.values.values())
    assert "not calibrated" in told.notes()[0]
    for found in told.values.values():
        value_plot(found)
    class_plot(told.classes["metal"])


def test_nothing_is_told_without_a_test_set_or_deviations(judged: Any) -> None:
    raw, there, calibration, _ = judged
    assert judge({"val": raw["val"]}, {"val": there["val"]}, [GAP, METAL], calibration, 0.9) is None
    plain = [Prediction(properties=found.properties) for found in raw["test"]]
    assert judge({"test": plain}, {"test": there["test"]}, [GAP, METAL], None, 0.9) is None


@pytest.mark.parametrize("deviation", [np.zeros(30), np.full(30, 0.2), np.r_[np.zeros(15), np.ones(15)]])
@pytest.mark.parametrize("error", [np.zeros(30), np.linspace(-1, 1, 30)])
def test_pictures_of_odd_deviations_are_drawn(error: Any, deviation: Any, tmp_path: Any) -> None:
    from kimgnn.evaluation.report import save_figure

    found = judge_values(regression(error, deviation), None, None, "none", 0.9)
    save_figure(value_plot(found), tmp_path / "odd.png")
    assert found.unit == "eV"


def test_columns_name_deviations_ends_and_sets(judged: Any) -> None:
    raw, _, calibration, _ = judged
    columns = prediction_columns(calibration.apply(raw["test"][0], [GAP, METAL], 2), [GAP, METAL])
    assert columns["gap lower (eV)"] < columns["gap (eV)"] < columns["gap upper (eV)"]
    assert columns["energy lower (eV)"] < columns["energy (eV)"] < columns["energy upper (eV)"]
    assert columns["energy deviation (eV)"] > 0.02
    for index in range(6):
        lower, value, upper = (columns[f"stress{end}[{index}] (eV/Å³)"] for end in (" lower", "", " upper"))
        assert lower < value < upper
        assert columns[f"stress deviation[{index}] (eV/Å³)"] > 0.1 * units.GPa
    assert (np.array(columns["forces lower (eV/Å)"]) < columns["forces upper (eV/Å)"]).all()
    assert np.shape(columns["forces deviation (eV/Å)"]) == (2, 3)
    assert columns["metal deviation P(yes)"] == 0.05
    assert set(columns["metal set"]) <= {"no", "yes"}


def test_a_label_without_deviation_has_none() -> None:
    """Nothing is told of what is not known: the labels are there, and the model says none."""
    found, structures = predictions(3, 0)
    for item in structures:
        item.stress = np.full(6, units.GPa)
    told = [Prediction(energy=one.energy, forces=one.forces, stress=np.zeros(6), energy_deviation=0.1) for one in found]
    results = compare_labels(told, structures)
    assert results["stress"].deviation is None
    assert results["forces"].deviation is None
    np.testing.assert_allclose(results["energy"].deviation, 0.1)  # type: ignore[arg-type]


def test_probabilities_alone_are_not_judged_where_nobody_asked() -> None:
    result = Classification(METAL, np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), np.arange(2))
    found = [Prediction(properties={"metal": one}) for one in result.probabilities]
    there = [structure(0, np.nan, 0.0), structure(1, np.nan, 1.0)]
    assert judge({"test": found}, {"test": there}, [METAL], None, 0.9) is None
