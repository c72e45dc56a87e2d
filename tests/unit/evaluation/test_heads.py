"""Metrics of heads against scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from hypothesis import given
from hypothesis import strategies as st
from kliff.dataset import Configuration
from sklearn import metrics as sklearn_metrics

from kimgnn.errors import DataError
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.heads import classification, compare_heads, compare_labels, head_metrics, regression
from kimgnn.evaluation.metrics import error_metrics, metrics_table
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.models.tasks import Task

GAP = Task("gap", "regression", "band_gap", "eV")
METAL = Task("metal", "classification", "is_metal", classes=("insulator", "metal"))
KIND = Task("kind", "classification", "kind", classes=("a", "b", "c"))


def structure(n_atoms: int = 2, **targets: object) -> Configuration:
    found = Configuration(np.eye(3) * 9.0, ["Si"] * n_atoms, np.random.rand(n_atoms, 3), [True] * 3)
    found.metadata = {"identifier": f"mp-{n_atoms}", "targets": {k: np.asarray(v, float) for k, v in targets.items()}}
    return found


def scalars(reference: list[float], predicted: list[float], task: Task = GAP, sizes: list[int] | None = None):
    pack = [[np.array([value]) for value in values] for values in (reference, predicted)]
    return regression(task, *pack, sizes or [1] * len(reference))


def binary(reference: list[float], positive: list[float]) -> Classification:
    return classification(METAL, [np.array([c]) for c in reference], [np.array([1 - p, p]) for p in positive])


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30, unique_by=lambda pair: pair[0]
    )
)
def test_scalar_errors_are_those_of_scikit_learn(pairs):
    """MAE, RMSE and R² of one number a structure; 1e-9 of their size for another order of summing."""
    reference, predicted = map(list, zip(*pairs, strict=True))
    found = scalars(reference, predicted).metrics()
    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(reference, predicted), rel=1e-9)
    assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(reference, predicted), rel=1e-9)
    if np.ptp(reference) > 1e-3:
        assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(reference, predicted), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("spread", [5e-324, 1e-200, 4.2404323598704626e-153, 1e-101])
def test_labels_that_differ_by_less_than_a_quotient_can_hold_are_constant(spread):
    """R² of such labels would overflow; it is left out, with the reason."""
    found = scalars([0.0, spread], [0.0, 41.0])
    assert set(found.metrics()) == {"mae", "rmse", "count"}
    assert found.undefined() == dict.fromkeys(("r2", "mad_ratio"), "all labels are the same")


def test_predicting_the_mean_has_a_mad_ratio_of_one_and_no_r2():
    """MAE over the mean absolute deviation is 1, R² is 0: the scale on which a model is judged."""
    found = scalars([0.0, 1.0, 5.0], [2.0, 2.0, 2.0]).metrics()
    assert found["mad_ratio"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(0.0, abs=1e-12)


def test_components_of_a_vector_have_each_their_own_mean():
    """R² over components of means far apart is not flattered by the distance of the means."""
    task = Task("v", "regression", "v", components=2)
    reference = np.array([[0.0, 1000.0], [1.0, 1001.0], [2.0, 1002.0]])
    means = np.array([[1.0, 1001.0]] * 3)
    found = regression(task, list(reference), list(means), [1, 1, 1]).metrics()
    assert found["r2"] == pytest.approx(0.0, abs=1e-12)
    assert found["mad_ratio"] == pytest.approx(1.0)
    assert found["count"] == 6


def test_extensive_errors_are_also_told_by_atom():
    """4 eV in 8 atoms and 1 eV in 2 atoms are both 0.5 eV/atom."""
    task = Task("e", "regression", "e", "eV", extensive=True)
    result = scalars([-80.0, -20.0], [-76.0, -21.0], task, [8, 2])
    assert result.metrics()["mae_per_atom"] == pytest.approx(0.5)
    assert result.metrics()["mae"] == pytest.approx(2.5)
    measure, parity = result.parity()
    assert (measure.unit, parity.reference.tolist()) == ("eV/atom", [-10.0, -10.0])
    assert "mae_per_atom" not in scalars([1.0], [2.0]).metrics()


def test_errors_of_what_is_learned_in_log10():
    """Twice and half the value are 0.301 of log10 each; a prediction below zero has none, and that is said."""
    task = Task("eps", "regression", "eps", transform="log10")
    assert scalars([10.0, 100.0], [20.0, 50.0], task).metrics()["mae_log10"] == pytest.approx(np.log10(2.0))
    broken = scalars([10.0, 100.0], [20.0, -50.0], task)
    assert "mae_log10" not in broken.metrics()
    assert broken.undefined()["mae_log10"] == "not every value is positive"


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_labels_that_are_all_the_same_have_no_r2(value):
    """Also where their mean is not exactly their value (0.1 three times)."""
    result = scalars([value] * 3, [value + 1.0] * 3)
    assert result.metrics().keys() == {"mae", "rmse", "count"}
    assert result.undefined().keys() == {"r2", "mad_ratio"}


def test_missing_labels_are_masked_head_by_head():
    """A structure without one label counts for the other head; a head without labels is not reported."""
    structures = [structure(band_gap=[1.0], is_metal=[np.nan]), structure(band_gap=[np.nan], is_metal=[1.0])]
    predictions = [
        Prediction(properties={"gap": np.array([value]), "metal": np.array([0.2, 0.8]), "kind": np.ones(3) / 3})
        for value in (1.5, 99.0)
    ]
    found = compare_heads([GAP, METAL, KIND], predictions, structures)
    assert list(found) == ["gap", "metal"]
    assert found["gap"].metrics() == {"mae": 0.5, "rmse": 0.5, "count": 1.0}
    assert found["gap"].structure.tolist() == [0]
    assert found["metal"].structure.tolist() == [1]
    assert head_metrics(found)["metal_accuracy"] == 1.0


def test_values_of_atoms_and_their_missing_ones():
    """Structures of different sizes; a NaN leaves out that atom only."""
    task = Task("charge", "regression", "q", "e", per_atom=True)
    structures = [structure(1, q=[[1.0]]), structure(3, q=[[0.0], [np.nan], [2.0]])]
    predictions = [
        Prediction(properties={"charge": np.zeros((n, 1))}, deviations={"charge": np.full((n, 1), 0.1 * n)})
        for n in (1, 3)
    ]
    result = compare_heads([task], predictions, structures)["charge"]
    assert isinstance(result, Regression)
    assert result.reference.tolist() == [1.0, 0.0, 2.0]
    assert result.structure.tolist() == [0, 1, 1]
    assert result.n_atoms.tolist() == [1, 3, 3]
    assert result.deviation is not None
    assert result.deviation.tolist() == pytest.approx([0.1, 0.3, 0.3])
    structures_, places = result.errors_of_structures()
    assert structures_.tolist() == [1, 0]
    assert result.reference[places].tolist() == [2.0, 1.0]


def test_a_prediction_that_is_not_a_number_is_not_hidden():
    """It makes the errors NaN, and its structure is the worst."""
    result = scalars([1.0, 2.0, 3.0], [1.0, np.nan, 9.0])
    assert np.isnan(result.metrics()["mae"])
    assert result.errors_of_structures()[0].tolist() == [1, 2, 0]
    classes = binary([0.0, 1.0, 1.0], [0.1, np.nan, 0.9])
    assert np.isnan(classes.metrics()["auc"])
    assert classes.errors_of_structures()[0][0] == 1
    assert classes.predicted.tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [(GAP, [1.0, 2.0], "another shape"), (METAL, [2.0], "no such class"), (METAL, [0.5], "no such class")],
)
def test_a_target_that_does_not_fit_is_told_by_id(task, target, message):
    """A vector for a scalar head and a class out of range name structure and target."""
    item = structure(**{task.target: target})
    prediction = Prediction(properties={task.name: np.array([0.5, 0.5]) if task is METAL else np.zeros(1)})
    with pytest.raises(DataError, match=f"mp-2 \\({task.target}\\): .*{message}"):
        compare_heads([task], [prediction], [item])


def test_scores_of_two_classes_are_those_of_scikit_learn():
    """AUC of the second class, F1 of it, balanced accuracy, log loss; confusion with the truth in rows."""
    rng = np.random.default_rng(3)
    reference = rng.integers(0, 2, 60)
    positive = np.clip(0.3 * reference + rng.random(60) * 0.7, 0.01, 0.99)
    result = binary(reference.astype(float).tolist(), positive.tolist())
    found = result.metrics()
    taken = positive > 0.5
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(reference, positive))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(reference, taken))
    assert found["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(reference, taken))
    assert found["accuracy"] == pytest.approx(np.mean(reference == taken))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(reference, positive))
    assert result.confusion().tolist() == sklearn_metrics.confusion_matrix(reference, taken).tolist()
    assert result.confusion().sum() == found["count"] == 60


def test_scores_of_three_classes_are_means_over_the_classes():
    """Each class against the rest, as scikit-learn's ``ovr`` and ``macro``."""
    rng = np.random.default_rng(4)
    reference = rng.integers(0, 3, 80)
    probabilities = rng.dirichlet(np.ones(3), 80) * 0.6 + 0.4 * np.eye(3)[reference]
    found = classification(KIND, [np.array([float(c)]) for c in reference], list(probabilities)).metrics()
    taken = probabilities.argmax(axis=1)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(reference, probabilities, multi_class="ovr"))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(reference, taken, average="macro"))


def test_a_split_of_one_class_says_what_it_cannot_tell():
    """AUC has no value, and neither F1 where the positive class neither occurs nor is predicted; no warning, no NaN."""
    result = binary([0.0, 0.0], [0.2, 0.3])
    assert result.metrics() == pytest.approx(
        {"balanced_accuracy": 1.0, "accuracy": 1.0, "log_loss": -np.log([0.8, 0.7]).mean(), "count": 2.0}
    )
    assert result.undefined() == {
        "auc": "only class 'insulator' occurs",
        "f1": "class 'metal' neither occurs nor is predicted",
    }
    assert result.roc(1) is None
    wrong = binary([0.0, 0.0], [0.2, 0.9])
    assert wrong.metrics()["f1"] == 0.0
    assert "f1" not in wrong.undefined()


def test_a_class_that_is_absent_does_not_spoil_the_others():
    """The means are over the classes that occur."""
    probabilities = [np.array([0.8, 0.1, 0.1]), np.array([0.2, 0.7, 0.1])]
    found = classification(KIND, [np.array([0.0]), np.array([1.0])], probabilities).metrics()
    assert (found["auc"], found["f1"], found["balanced_accuracy"]) == (1.0, 1.0, 1.0)


def test_labels_of_an_energy_head_are_compared_like_heads():
    """Energy by atom, forces by component, stress in GPa; what is not predicted is left out."""
    item = Configuration(np.eye(3) * 9, ["Si"] * 2, np.zeros((2, 3)), [True] * 3, energy=-10.0, stress=[0.0] * 6)
    item.metadata = {}
    prediction = Prediction(energy=-9.0, stress=np.full(6, units.GPa))
    found = compare_labels([prediction], [item])
    assert list(found) == ["energy", "stress"]
    assert found["energy"].metrics()["mae_per_atom"] == pytest.approx(0.5)
    assert found["stress"].metrics()["mae"] == pytest.approx(1.0)
    assert compare_labels([Prediction()], [item]) == {}


def test_the_table_has_a_row_for_each_head_and_split_and_a_dash_for_what_is_undefined():
    """Units stand with the head's name; regression and classification are tables of their own."""
    metrics = {
        "train": head_metrics({"gap": scalars([0.0, 1.0], [0.5, 0.5]), "metal": binary([0.0, 1.0], [0.1, 0.9])}),
        "test": head_metrics({"gap": scalars([1.0], [0.5]), "metal": binary([1.0], [0.9])}),
    }
    numbers, classes = metrics_table(metrics, [GAP, METAL]).split("\n\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in numbers.splitlines()]
    assert rows[0] == ["head", "split", "MAE", "RMSE", "R²", "MAE/MAD", "values"]
    assert rows[2] == ["gap (eV)", "train", "0.5", "0.5", "0", "1", "2"]
    assert rows[3] == ["gap (eV)", "test", "0.5", "0.5", "–", "–", "1"]
    assert [cell.strip() for cell in classes.splitlines()[3].split("|")[1:4]] == ["metal", "test", "–"]
    assert len({len(line) for line in classes.splitlines()}) == 1
    assert "gap" not in metrics_table({"train": error_metrics({})}, [GAP])


def test_size_of_a_cell_explains_nothing_of_an_extensive_property() -> None:
    """R² and MAD ratio compare values per atom: totals of 5 and 50 atoms differ whatever the network says."""
    sizes = [5, 50, 5, 50]
    labels = [np.array([-1.0 * n]) for n in sizes[:2]] + [np.array([-1.2 * n]) for n in sizes[2:]]
    mean = [np.array([-1.1 * n]) for n in sizes]
    metrics = regression(Task("energy", "regression", "energy", "eV", extensive=True), labels, mean, sizes).metrics()
    assert metrics["r2"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["mad_ratio"] == pytest.approx(1.0)
