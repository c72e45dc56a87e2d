"""Calibration: intervals that hold what they are to hold, of values, logarithms, sums and classes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import units
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from kimgnn.errors import DataError
from kimgnn.evaluation.calibrated import (
    Calibration,
    ClassCalibration,
    ValueCalibration,
    at_temperature,
    calibrated,
    softmax,
)
from kimgnn.evaluation.calibration import (
    conformal_quantile,
    fit_calibration,
    residuals,
    shares,
    structures_needed,
)
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.models.tasks import LABEL_TASKS, Task

GAP = Task("gap", "regression", "gap", "eV")
EPSILON = Task("epsilon", "regression", "epsilon", transform="log10")
VOLUME = Task("volume", "regression", "volume", "Å³", extensive=True, transform="per_atom")
METAL = Task("metal", "classification", "metal", classes=("no", "yes"))
KIND = Task("kind", "classification", "kind", classes=("a", "b", "c"))


def regression(
    task: Task, predicted: Any, error: Any, deviation: Any, n_atoms: Any = 1, structure: Any = None
) -> Regression:
    """Return a head's result of which errors and deviations are given."""
    predicted = np.broadcast_to(predicted, np.shape(error)).astype(float)
    n = len(predicted)
    structure = np.arange(n) if structure is None else structure
    return Regression(
        task, predicted - error, predicted, structure, np.zeros(n, int), np.broadcast_to(n_atoms, n), deviation
    )


def noisy(n: int, seed: int = 0, factor: float = 3.0, offset: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return errors of standard deviation ``factor σ + offset``, and σ."""
    rng = np.random.default_rng(seed)
    sigma = rng.gamma(2.0, 0.2, n)
    return (factor * sigma + offset) * rng.standard_normal(n), sigma


def coverage(calibration: Calibration, result: Regression) -> float:
    """Return how many labels are within their intervals, each structure counting the same."""
    name = result.task.name
    held = []
    for index in range(len(result.reference)):
        value, deviation = result.predicted[index : index + 1], result.deviation[index : index + 1]  # type: ignore[index]
        _, (lower, upper) = calibration.interval(result.task, value, deviation, int(result.n_atoms[index]))
        held.append(lower.item() <= result.reference[index] <= upper.item())
    assert name in calibration.values
    return float(shares(result.structure) @ np.array(held))


def test_scaling_finds_what_the_deviations_lack() -> None:
    """The errors' true deviation is 3 σ + 0.2: the estimates of 4,000 labels are that to their sampling errors."""
    error, sigma = noisy(4000)
    own = fit_calibration("scaling", 0.9, {"gap": regression(GAP, 0.0, error, sigma)}).values["gap"]
    assert own.factor == pytest.approx(3.0, abs=0.2)
    assert own.offset == pytest.approx(0.2, abs=0.06)
    assert own.quantile == pytest.approx(norm.ppf(0.95))
    assert own.structures == 4000


@pytest.mark.parametrize("method", ["conformal", "scaling"])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_the_share_of_new_labels_that_was_asked_for(method: Any, level: float) -> None:
    """2,000 labels to fit, 4,000 new ones: the share is the level to four standard errors of both counts."""
    error, sigma = noisy(6000)
    calibration = fit_calibration(method, level, {"gap": regression(GAP, 0.0, error[:2000], sigma[:2000])})
    error = 4 * np.sqrt(level * (1 - level) * (1 / 2000 + 1 / 4000))
    found = coverage(calibration, regression(GAP, 0.0, noisy(6000)[0][2000:], sigma[2000:]))
    assert found == pytest.approx(level, abs=error)


def test_conformal_intervals_hold_also_where_errors_are_not_normal() -> None:
    """Errors of a Cauchy distribution, whose standard deviation is infinite."""
    rng = np.random.default_rng(1)
    error, sigma = rng.standard_cauchy(4000), rng.gamma(2.0, 0.2, 4000)
    fitted, new = (regression(GAP, 0.0, error[part], sigma[part]) for part in (slice(2000), slice(2000, None)))
    found = coverage(fit_calibration("conformal", 0.8, {"gap": fitted}), new)
    assert found == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 1000))
    assert coverage(fit_calibration("scaling", 0.8, {"gap": fitted}), new) > 0.9  # what it would be without


@pytest.mark.parametrize(("n", "place"), [(9, 9), (19, 18), (99, 90)])
def test_the_quantile_is_the_one_of_a_finite_sample(n: int, place: int) -> None:
    """Of n scores, the ⌈0.9 (n + 1)⌉-th smallest."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, np.arange(n), 0.9) == place


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.floats(0.01, 0.99))
def test_a_quantile_is_finite_where_there_are_structures_enough(n: int, level: float) -> None:
    found = conformal_quantile(np.arange(1.0, n + 1), np.arange(n), level)
    assert np.isfinite(found) == (n >= structures_needed(level) or np.ceil((n + 1) * level - 1e-9) <= n)
    if np.isfinite(found):
        assert (found - 1) / (n + 1) < level <= found / (n + 1) + 1e-9


def test_values_of_one_structure_count_their_share() -> None:
    """Nine structures with one small score each, and one with a thousand large ones, which is a tenth of them."""
    scores = np.concatenate([np.arange(1.0, 10.0), np.full(1000, 50.0)])
    structure = np.concatenate([np.arange(9), np.full(1000, 9)])
    assert conformal_quantile(scores, structure, 0.8) == 9.0
    assert conformal_quantile(scores, structure, 0.85) == 50.0
    assert np.isinf(conformal_quantile(scores, structure, 0.95))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_too_few_labels_are_named(level: float) -> None:
    needed = structures_needed(level)
    error, sigma = noisy(needed)
    fit_calibration("conformal", level, {"gap": regression(GAP, 0.0, error, sigma)})
    with pytest.raises(DataError, match=f"label of 'gap' .*got {needed - 1}.*{needed} or more"):
        fit_calibration("conformal", level, {"gap": regression(GAP, 0.0, error[1:], sigma[1:])})


def test_a_prediction_that_is_not_a_number_is_named() -> None:
    error, sigma = noisy(30)
    sigma[3] = np.nan
    with pytest.raises(DataError, match="'gap' for 1 of the structures are not numbers"):
        fit_calibration("conformal", 0.9, {"gap": regression(GAP, 0.0, error, sigma)})


def test_a_head_without_deviations_is_left_out() -> None:
    error, sigma = noisy(30)
    results = {"gap": regression(GAP, 0.0, error, None), "volume": regression(VOLUME, 10.0, error, sigma)}
    assert list(fit_calibration("conformal", 0.9, results).values) == ["volume"]


@pytest.mark.parametrize("method", ["conformal", "scaling"])
def test_members_that_agree_everywhere_get_intervals_of_one_width(method: Any) -> None:
    error, _ = noisy(200)
    calibration = fit_calibration(method, 0.9, {"gap": regression(GAP, 0.0, error, np.zeros(200))})
    own = calibration.values["gap"]
    assert (own.factor, own.offset) == (0.0, pytest.approx(np.sqrt(np.mean(error**2))))


def test_no_error_leaves_the_deviations_alone() -> None:
    own = fit_calibration("conformal", 0.9, {"gap": regression(GAP, 0.0, np.zeros(20), np.ones(20))}).values["gap"]
    assert (own.factor, own.offset, own.quantile) == (1.0, 0.0, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 1e4), st.floats(1e-3, 0.5), st.integers(1, 300))
def test_the_interval_of_a_logarithm_is_positive_and_around_the_value(value: float, sigma: float, n_atoms: int) -> None:
    """A factor either way; the deviation of the value is ``ln 10 · y · σ``, as the head has it."""
    calibration = Calibration("conformal", 0.9, {"epsilon": ValueCalibration(2.0, 0.1, 1.5, 50)})
    raw = np.array([np.log(10) * value * sigma])
    deviation, (lower, upper) = calibration.interval(EPSILON, np.array([value]), raw, n_atoms)
    step = 1.5 * (2.0 * sigma + 0.1)
    assert 0 < lower[0] < value < upper[0]
    np.testing.assert_allclose(np.log10([lower[0], upper[0]]), np.log10(value) + [-step, step], atol=1e-12)
    np.testing.assert_allclose(deviation, np.log(10) * value * (2.0 * sigma + 0.1))


def test_the_interval_of_a_sum_grows_with_the_cell() -> None:
    """Both numbers are of an atom: a supercell has the same relative interval."""
    calibration = Calibration("conformal", 0.9, {"volume": ValueCalibration(2.0, 0.3, 1.5, 50)})
    one = calibration.interval(VOLUME, np.array([20.0]), np.array([0.5]), 1)
    many = calibration.interval(VOLUME, np.array([160.0]), np.array([4.0]), 8)
    np.testing.assert_allclose(8 * one[0], many[0])
    np.testing.assert_allclose(8 * one[1], many[1])


def test_energies_are_calibrated_per_atom_and_forces_by_component() -> None:
    values = {"energy": ValueCalibration(2.0, 0.01, 1.0, 50), "forces": ValueCalibration(3.0, 0.0, 2.0, 50)}
    raw = Prediction(
        energy=-8.0, forces=np.zeros((2, 3)), atomic_energies=np.full(2, -4.0), energy_deviation=0.2,
        forces_deviation=np.full((2, 3), 0.1),
    )  # fmt: skip
    told = Calibration("conformal", 0.9, values).apply(raw, [], 2)
    assert told.energy_deviation == pytest.approx(2 * (2 * 0.1 + 0.01))
    np.testing.assert_allclose(told.intervals["energy"], [-8.42, -7.58])
    np.testing.assert_allclose(told.forces_deviation, 0.3)
    np.testing.assert_allclose(told.intervals["forces"], np.stack([np.full((2, 3), -0.6), np.full((2, 3), 0.6)]))
    assert raw.energy_deviation == 0.2  # it is not changed


def test_stress_is_calibrated_in_gpa_and_told_in_ours() -> None:
    """The offset is fitted beside errors in GPa; a molecule's stress, which it has not, stays NaN."""
    calibration = Calibration("conformal", 0.9, {"stress": ValueCalibration(2.0, 0.5, 3.0, 50)})
    stress, raw = np.arange(6.0) * units.GPa, np.full(6, 0.25 * units.GPa)
    told = calibration.apply(Prediction(energy=0.0, stress=stress, stress_deviation=raw), [], 2)
    np.testing.assert_allclose(told.stress_deviation / units.GPa, 1.0)  # type: ignore[operator]
    np.testing.assert_allclose(told.intervals["stress"] / units.GPa, [np.arange(6) - 3.0, np.arange(6) + 3.0])
    missing = calibration.apply(Prediction(stress=np.full(6, np.nan), stress_deviation=np.full(6, np.nan)), [], 2)
    assert np.isnan(missing.intervals["stress"]).all()


def test_residuals_are_of_what_is_learned() -> None:
    log = regression(EPSILON, 100.0, np.array([90.0]), np.array([np.log(10) * 100.0 * 0.2]))
    np.testing.assert_allclose(residuals(log), [[1.0], [0.2]])
    energy = regression(LABEL_TASKS["energy"], -8.0, np.array([0.4]), np.array([0.2]), 4)
    np.testing.assert_allclose(residuals(energy), [[0.1], [0.05]])


def overconfident(task: Task, n: int, seed: int = 0) -> Classification:
    """Return probabilities whose logits are three times those that the classes were drawn by."""
    rng = np.random.default_rng(seed)
    true = at_temperature(rng.dirichlet(np.ones(len(task.classes)), n), 1.0)
    classes = (rng.random((n, 1)) > np.cumsum(true, axis=1)).sum(axis=1)
    return Classification(task, classes, at_temperature(true, 1 / 3), np.arange(n))


@pytest.mark.parametrize("task", [METAL, KIND])
def test_a_temperature_makes_probabilities_true(task: Task) -> None:
    """Logits are three times too large: to the sampling error of 4,000 classes."""
    result = overconfident(task, 4000)
    own = fit_calibration("scaling", 0.9, {task.name: result}).classes[task.name]
    assert own.temperature == pytest.approx(3.0, rel=0.1)
    np.testing.assert_allclose(at_temperature(result.probabilities, own.temperature).sum(axis=1), 1.0)


def ensemble_of(task: Task, n: int, temperature: float, k: int = 4) -> Classification:
    """Return members whose logits are ``temperature`` times those of which the mean probability drew the classes."""
    rng = np.random.default_rng(3)
    logits = 1.5 * rng.standard_normal((n, 1, len(task.classes))) + rng.standard_normal((n, k, len(task.classes)))
    true = softmax(logits).mean(axis=1)
    classes = (rng.random((n, 1)) > np.cumsum(true, axis=1)).sum(axis=1)
    told = softmax(temperature * logits)
    return Classification(task, classes, told.mean(axis=1), np.arange(n), np.log(told))


@pytest.mark.parametrize("task", [METAL, KIND])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_members_get_the_temperature_before_their_mean_and_deviation_are_taken(task: Task, temperature: float) -> None:
    """Found to the sampling error of 6,000 classes; mean and deviation are those of the members that drew them."""
    result, name = ensemble_of(task, 6000, temperature), task.name
    calibration = fit_calibration("scaling", 0.9, {name: result})
    own = calibration.classes[name]
    assert own.of_members
    assert own.temperature == pytest.approx(temperature, rel=0.1)
    exact = replace(calibration, classes={name: replace(own, temperature=temperature)})
    of_each = np.exp(ensemble_of(task, 6000, 1.0).members)  # type: ignore[arg-type]
    raw = Prediction(
        properties={name: result.probabilities[0]},
        deviations={name: np.exp(result.members[0]).std(0, ddof=1)},  # type: ignore[index]
        members={name: result.members[0]},  # type: ignore[index]
    )
    told = exact.apply(raw, [task], 2)
    np.testing.assert_allclose(told.properties[name], of_each[0].mean(0), rtol=1e-9)
    np.testing.assert_allclose(told.deviations[name], of_each[0].std(0, ddof=1), rtol=1e-9)
    assert told.members == {}


def test_older_calibrations_of_ensembles_temper_the_mean() -> None:
    """As they were fitted; the deviation is that of members at the temperature all the same."""
    result = ensemble_of(KIND, 1, 3.0)
    older = Calibration.from_dict(
        {
            **{"method": "scaling", "level": 0.9, "values": {}},
            "classes": {"kind": {"temperature": 3.0, "threshold": None, "structures": 9}},
        }
    )
    raw = Prediction(properties={"kind": result.probabilities[0]}, members={"kind": result.members[0]})  # type: ignore[index]
    told = older.apply(raw, [KIND], 2)  # type: ignore[union-attr]
    np.testing.assert_allclose(told.properties["kind"], at_temperature(result.probabilities[0], 3.0))
    of_each = np.exp(ensemble_of(KIND, 1, 1.0).members[0])  # type: ignore[index]
    np.testing.assert_allclose(told.deviations["kind"], of_each.std(0, ddof=1), rtol=1e-9)


def test_members_are_left_out_where_nothing_is_calibrated() -> None:
    """They are no answer to a user."""
    raw = Prediction(properties={"kind": np.full(3, 1 / 3)}, members={"kind": np.zeros((2, 3))})
    assert calibrated([raw], [KIND], [2], {})[0].members == {}


@pytest.mark.parametrize("method", ["conformal", "scaling"])
@pytest.mark.parametrize("task", [METAL, KIND])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_asked(method: Any, task: Task, level: float) -> None:
    """At least: of two classes, the most probable one alone may be right more often. Four standard errors."""
    calibration = fit_calibration(method, level, {task.name: overconfident(task, 2000)})
    new = overconfident(task, 4000, seed=1)
    _, spread, told = calibration.classes_of(task.name, new.probabilities)
    assert spread is None
    held = told[np.arange(4000), new.reference].mean()
    assert held > level - 4 * np.sqrt(level * (1 - level) * (1 / 2000 + 1 / 4000))
    assert told.any(axis=1).all()
    best = new.probabilities.argmax(axis=1)
    assert told[np.arange(4000), best].all()
    if task is KIND and method == "conformal" and level == 0.95:
        assert held < level + 4 * np.sqrt(level * (1 - level) * (1 / 2000 + 1 / 4000))


def test_a_class_is_told_with_its_set() -> None:
    calibration = Calibration("conformal", 0.9, {}, {"kind": ClassCalibration(1.0, 0.25, 50)})
    (told,) = calibrated(
        [Prediction(properties={"kind": np.array([0.3, 0.6, 0.1])})], [KIND], [2], calibration.to_dict()
    )
    np.testing.assert_array_equal(told.sets["kind"], [True, True, False])
    unknown = calibration.apply(Prediction(properties={"kind": np.full(3, np.nan)}), [KIND], 2)
    assert unknown.sets["kind"].all()  # nothing is known of a structure with an element never seen


def test_what_a_file_carries_is_the_same_calibration() -> None:
    error, sigma = noisy(50)
    results = {"gap": regression(GAP, 0.0, error, sigma), "kind": overconfident(KIND, 50)}
    calibration = fit_calibration("conformal", 0.9, results)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert Calibration.from_dict({}) is None
