"""What composition alone predicts: the floor that a network of structures has to be better than."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from kimgnn.evaluation.heads import HeadResult, Values, classification, regression
from kimgnn.models.tasks import Task

if TYPE_CHECKING:
    from kliff.dataset import Configuration

ALPHAS: Final = tuple(10.0**exponent for exponent in range(-6, 3))
"""Strengths of the ridge's penalty, the best of which cross-validation within the training set chooses."""

TREES: Final = 100
"""Trees of a forest."""

SAMPLES: Final = 50_000
"""A tree of a forest sees at most this many rows: more cost minutes and change little."""


def composition_floor(
    task: Task,
    train: Sequence[Configuration],
    train_targets: Values,
    test: Sequence[Configuration],
    test_targets: Values,
    seed: int = 0,
) -> dict[str, HeadResult]:
    """Return model -> its predictions beside the labels of ``test``, learned from element fractions of ``train``.

    The models are a ridge (logistic regression for classes) and a random forest. A target that is extensive, or that a
    head learns per atom, is fitted per atom and multiplied back; one that a head learns in log10 is fitted in log10; of
    a target of atoms, an atom is its own composition. Nothing is returned where nothing can be learned: fewer than two
    labels, or a single class.

    Args:
        task: What is predicted.
        train: Structures to learn from.
        train_targets: Their targets, NaN where missing.
        test: Structures to predict.
        test_targets: Their targets, NaN where missing.
        seed: Of the forest.
    """
    elements = sorted({symbol for configuration in train for symbol in configuration.species})
    features, sizes = _features(train, elements, task)
    unseen, test_sizes = _features(test, elements, task)
    if not len(unseen) or not any(np.isfinite(target).any() for target in test_targets):
        return {}
    learned = _rows(train_targets)
    if task.kind == "classification":
        return _classifiers(task, features, learned[:, 0], unseen, test_targets, seed)
    by_atom = task.extensive or task.transform == "per_atom"
    scale, test_scale = (sizes, test_sizes) if by_atom else (np.ones(len(sizes)), np.ones(len(test_sizes)))
    learned = learned / scale[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        learned = np.log10(learned) if task.transform == "log10" else learned
    predicted: dict[str, NDArray[np.float64]] = {}
    for component in range(task.components):
        known = np.isfinite(learned[:, component])
        if known.sum() < 2:
            return {}
        samples, jobs = SAMPLES if known.sum() > SAMPLES else None, torch.get_num_threads()
        models = {
            "ridge": RidgeCV(alphas=ALPHAS),
            "random forest": RandomForestRegressor(TREES, max_samples=samples, random_state=seed, n_jobs=jobs),
        }
        for name, model in models.items():
            model.fit(features[known], learned[known, component])
            values = _alone(model).predict(unseen)
            values = 10.0**values if task.transform == "log10" else values
            predicted.setdefault(name, np.empty((len(unseen), task.components)))[:, component] = values * test_scale
    atoms = [len(configuration.species) for configuration in test]
    ends = np.cumsum(atoms if task.per_atom else np.ones(len(test), dtype=np.int64))[:-1]
    return {name: regression(task, test_targets, np.split(values, ends), atoms) for name, values in predicted.items()}


def _features(
    configurations: Sequence[Configuration], elements: Sequence[str], task: Task
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fractions of ``elements`` ``(n_rows, n_elements)`` and the atoms ``(n_rows,)`` of each row.

    A row is a structure, or an atom where the target is one of atoms. Elements that were not seen count nothing.
    """
    column = np.full(len(atomic_numbers), -1)
    column[[atomic_numbers[symbol] for symbol in elements]] = np.arange(len(elements))
    rows: list[NDArray[np.float64]] = []
    sizes: list[int] = []
    for configuration in configurations:
        kinds = column[[atomic_numbers[symbol] for symbol in configuration.species]]
        of_atoms = (kinds[:, None] == np.arange(len(elements))).astype(np.float64)
        found = of_atoms if task.per_atom else of_atoms.mean(axis=0, keepdims=True)
        rows.append(found)
        sizes += [len(kinds)] * len(found)
    return np.concatenate([np.empty((0, len(elements))), *rows]), np.array(sizes, dtype=np.float64)


def _rows(targets: Values) -> NDArray[np.float64]:
    """Return targets ``(n_rows, n_components)``, a row a structure or an atom."""
    return np.concatenate([np.atleast_2d(target) for target in targets])


def _classifiers(
    task: Task,
    features: NDArray[np.float64],
    learned: NDArray[np.float64],
    unseen: NDArray[np.float64],
    test_targets: Values,
    seed: int,
) -> dict[str, HeadResult]:
    known = np.isfinite(learned)
    if len(np.unique(learned[known])) < 2:
        return {}
    results: dict[str, HeadResult] = {}
    samples, jobs = SAMPLES if known.sum() > SAMPLES else None, torch.get_num_threads()
    models = {
        # Fractions are small numbers: the usual penalty would hide most of what they tell.
        "logistic regression": LogisticRegression(C=100.0, max_iter=1000),
        "random forest": RandomForestClassifier(TREES, max_samples=samples, random_state=seed, n_jobs=jobs),
    }
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a floor that is a little lower
            model.fit(features[known], learned[known].astype(np.int64))
        probabilities = np.zeros((len(unseen), len(task.classes)))
        probabilities[:, model.classes_] = _alone(model).predict_proba(unseen)
        results[name] = classification(task, test_targets, list(probabilities))
    return results


def _alone(model: Any) -> Any:
    """Return a fitted model that predicts in one thread: several would add up the trees in another order each time."""
    if hasattr(model, "n_jobs"):
        model.n_jobs = 1
    return model
