"""What composition alone predicts, where the right answer is known, and on real data against published floors."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.evaluation.floor import composition_floor
from kimgnn.models.tasks import Task

WORTH = {"Na": -1.0, "Cl": 2.0, "K": 4.0, "Br": 0.5}


def crystals(n: int, seed: int) -> list[Configuration]:
    """Cells of 2 to 12 atoms of four elements."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        species = rng.choice(list(WORTH), rng.integers(2, 13)).tolist()
        found.append(Configuration(np.eye(3) * 9.0, species, rng.random((len(species), 3)), [True] * 3))
    return found


def worth(item: Configuration) -> float:
    return sum(WORTH[symbol] for symbol in item.species)


TRAIN, TEST = crystals(150, 0), crystals(40, 1)


def floor(task: Task, value):
    return composition_floor(task, TRAIN, [value(item) for item in TRAIN], TEST, [value(item) for item in TEST])


def test_a_sum_over_atoms_is_fitted_per_atom_and_multiplied_back():
    """What each element adds is found exactly (but for the ridge's penalty, 1e-3), in cells of any size."""
    found = floor(Task("e", "regression", "e", "eV", extensive=True), lambda item: np.array([worth(item)]))
    assert found["ridge"].metrics()["mae"] < 1e-3
    # The same target taken for an intensive one cannot be a sum over atoms.
    wrong = floor(Task("e", "regression", "e", "eV"), lambda item: np.array([worth(item)]))
    assert wrong["ridge"].metrics()["mae"] > 1.0
    assert found["random forest"].metrics()["mad_ratio"] < 0.5
    # A head that learns the share of an atom knows that it is one, and so must what it is compared with.
    shared = floor(Task("e", "regression", "e", "eV", transform="per_atom"), lambda item: np.array([worth(item)]))
    assert shared["ridge"].metrics()["mae"] < 1e-3


def test_a_logarithm_is_fitted_as_such():
    """Ten to the power of a mean over the atoms is found exactly in log10."""
    task = Task("eps", "regression", "eps", transform="log10")
    found = floor(task, lambda item: np.array([10.0 ** (worth(item) / len(item.species))]))
    assert found["ridge"].metrics()["mae_log10"] < 1e-3


def test_vectors_and_missing_labels():
    """Each component by itself; structures without a label neither teach nor count."""

    def value(item: Configuration) -> np.ndarray:
        mean = worth(item) / len(item.species)
        return np.array([mean, np.nan if "K" in item.species else -mean])

    found = floor(Task("v", "regression", "v", components=2), value)["ridge"]
    assert found.metrics()["mae"] < 1e-3
    assert found.metrics()["count"] == 40 + sum("K" not in item.species for item in TEST)


def test_of_a_property_of_atoms_an_atom_is_its_own_composition():
    """The element's value is found."""
    task = Task("q", "regression", "q", per_atom=True)
    found = floor(task, lambda item: np.array([[WORTH[symbol]] for symbol in item.species]))["ridge"]
    assert found.metrics()["mae"] < 1e-3
    assert found.metrics()["count"] == sum(len(item.species) for item in TEST)


def test_classes_that_composition_tells_are_told():
    """With more of sodium than of chlorine or not; probabilities of all classes, also of one never seen."""
    task = Task("c", "classification", "c", classes=("no", "yes", "never"))
    found = floor(task, lambda item: np.array([float(item.species.count("Na") > item.species.count("Cl"))]))
    assert list(found) == ["logistic regression", "random forest"]
    for result in found.values():
        assert result.metrics()["auc"] > 0.9
        assert result.probabilities.shape == (40, 3)
        assert not result.probabilities[:, 2].any()


def test_nothing_is_learned_where_there_is_nothing_to_learn():
    """One class only, one label only, no test label: no floor, and no error."""
    classes = Task("c", "classification", "c", classes=("no", "yes"))
    assert floor(classes, lambda item: np.array([1.0])) == {}
    numbers = Task("n", "regression", "n")
    one = [np.array([1.0])] + [np.array([np.nan])] * (len(TRAIN) - 1)
    known = [np.array([worth(item)]) for item in TEST]
    assert composition_floor(numbers, TRAIN, one, TEST, known) == {}
    unknown = [np.array([np.nan])] * len(TEST)
    assert composition_floor(numbers, TRAIN, [np.array([worth(item)]) for item in TRAIN], TEST, unknown) == {}


def test_elements_that_were_not_trained_on_are_no_error():
    """A test crystal of another element is predicted from the elements that are known."""
    foreign = Configuration(np.eye(3) * 9.0, ["Xe", "Na"], np.random.rand(2, 3), [True] * 3)
    targets = [np.array([worth(item)]) for item in TRAIN]
    found = composition_floor(Task("n", "regression", "n"), TRAIN, targets, [foreign], [np.array([1.0])])
    assert np.isfinite(found["ridge"].predicted).all()


def test_the_same_seed_gives_the_same_floor():
    """Bit by bit, the forest too, which is trained in several threads."""
    task = Task("n", "regression", "n")
    once, again = (floor(task, lambda item: np.array([worth(item)])) for _ in range(2))
    for name in once:
        assert once[name].predicted.tolist() == again[name].predicted.tolist()


def test_the_floor_of_real_perovskites_is_the_published_one(shared_data: Path):
    """heat_all of perov_5: a ridge on element fractions has an MAE of 0.441 eV a cell, the mean 0.565."""
    parts = []
    for name in ("train", "test"):
        with gzip.open(shared_data / "crystals" / f"perov_5_{name}.csv.gz", "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        species = [
            [symbol for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*)", row["formula"]) for _ in range(int(n or 1))]
            for row in rows
        ]
        structures = [Configuration(np.eye(3), item, np.zeros((len(item), 3)), [True] * 3) for item in species]
        parts += [structures, [np.array([float(row["heat_all"])]) for row in rows]]
    found = composition_floor(Task("heat", "regression", "heat_all", "eV"), *parts)["ridge"].metrics()
    assert found["mae"] == pytest.approx(0.441, abs=0.0005)
    assert found["mae"] / found["mad_ratio"] == pytest.approx(0.565, abs=0.001)
