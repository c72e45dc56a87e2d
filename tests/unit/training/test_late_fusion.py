"""Forests beside heads: what they learn from, how they are weighed, and how large they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError
from kimgnn.models.build import build_network
from kimgnn.models.fusion import composition_modules, forests
from kimgnn.models.network import NetworkSpec
from kimgnn.training.late_fusion import check_late_fusion, features_of, fit_forests, remove_forests
from kimgnn.training.networks import set_composition

ELEMENTS = ["C", "Si", "Ge"]
HEADS: list[dict[str, Any]] = [
    {"type": "property", "target": "gap", "reference": "none", "mean": [1.0], "spread": [2.0]},
    {"type": "property", "target": "total", "extensive": True, "mean": [0.0], "spread": [1.0], "reference": "none"},
    {"type": "property", "target": "eps", "transform": "log10", "mean": [0.0], "spread": [0.5], "loss": "mae"},
    {"type": "property", "target": "vector", "components": 3, "mean": [0.0] * 3, "spread": [1.0] * 3, "loss": "huber"},
    {"type": "classification", "target": "metal"},
    {"type": "classification", "target": "kind", "classes": ["a", "b", "c"]},
    {"type": "property", "target": "born", "per_atom": True, "reference": "none", "mean": [0.0], "spread": [1.0]},
]
PREDICTED = [head["target"] for head in HEADS[:-1]]


def make_network(**options: Any):
    torch.manual_seed(0)
    composition = {"features": "fractions", "fusion": "late", "n_trees": 30, "max_leaves": 64, "species": ELEMENTS}
    sizes = {"cutoff": 4.0, "hidden_channels": 4, "num_filters": 4, "num_interactions": 1, "num_gaussians": 4}
    return build_network(NetworkSpec("schnet", sizes, HEADS, ELEMENTS, composition=composition | options))


def structures(n: int, seed: int):
    """Labelled with functions of the composition."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        symbols = rng.choice(ELEMENTS, size=rng.integers(2, 9))
        configuration = configuration_from_atoms(Atoms(symbols, rng.normal(size=(len(symbols), 3))))
        silicon, carbon = (float(np.mean(symbols == name)) for name in ("Si", "C"))
        configuration.metadata["targets"] = {
            "gap": np.array([silicon]),
            "total": np.array([len(symbols) * (carbon - silicon)]),
            "eps": np.array([10 ** (1 + silicon)]),
            "vector": np.array([silicon, carbon, 0.0]),
            "metal": np.array([float(silicon > 0.3)]),
            "kind": np.array([float(silicon > carbon)]),  # the third class never occurs
            "born": np.zeros((len(symbols), 1)),
        }
        found.append(configuration)
    return found


def as_predicted(configuration, noise: float, rng) -> dict[str, np.ndarray]:
    """What a network would say that is right but for noise."""
    targets = configuration.metadata["targets"]
    found = {name: targets[name] * np.exp(noise * rng.normal(size=targets[name].shape)) for name in PREDICTED[:4]}
    for name, n_classes in (("metal", 2), ("kind", 3)):
        right = np.eye(n_classes)[int(targets[name].item())]
        found[name] = (1 - noise) * right + noise * rng.dirichlet(np.ones(n_classes))
    return found


def fitted(noise: float, train=None, validation=None):
    network = make_network()
    train, validation = train or structures(80, 0), validation or structures(40, 1)
    set_composition(network, train)
    rng = np.random.default_rng(2)
    results = fit_forests(network, train, validation, [as_predicted(item, noise, rng) for item in validation], seed=0)
    return network, results


def test_a_network_that_is_right_keeps_all_the_weight():
    network, results = fitted(0.0)
    assert list(results) == PREDICTED  # no forest beside a head of atoms
    for name, result in results.items():
        assert result.weight == 1.0
        assert result.loss == pytest.approx(0.0, abs=1e-20), name
        assert result.forest_loss > 0
        assert float(forests(network)[name].weight) == 1.0


def test_a_network_that_knows_nothing_leaves_most_to_the_forest():
    """And what comes out is no worse than either, on the validation set."""
    for name, result in fitted(0.99)[1].items():
        assert result.weight < 0.5, name
        assert result.loss <= min(result.network_loss, result.forest_loss)


def test_forests_learn_the_training_set_alone():
    """Other validation labels change weights, not trees; and the other way around for what is predicted."""
    train, validation = structures(80, 0), structures(40, 1)
    first, _ = fitted(0.3, train, validation)
    for item in validation:
        item.metadata["targets"]["gap"] += 3.0
    second, _ = fitted(0.3, train, validation)
    for name, late in forests(first).items():
        for key, value in late.forest.state_dict().items():
            assert torch.equal(value, forests(second)[name].forest.state_dict()[key])
    features = features_of(composition_modules(first)[0], train)
    np.testing.assert_allclose(features.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(features.std(0, correction=0), 1.0, rtol=1e-12)


def test_a_class_that_was_not_seen_has_no_probability():
    network, _ = fitted(0.5)
    late = forests(network)["kind"]
    probabilities = late.forest(features_of(late.composition, structures(10, 3)))
    assert probabilities.shape == (10, 3)
    assert (probabilities[:, 2] == 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(10, dtype=torch.float64))


def test_features_are_those_of_each_structure():
    network = make_network()
    train = structures(30, 0)
    set_composition(network, train)
    (features, *_) = composition_modules(network)
    found = features_of(features, train)
    for row, configuration in zip(found, train, strict=True):
        z = torch.tensor([{"C": 6, "Si": 14, "Ge": 32}[symbol] for symbol in configuration.species])
        assert torch.equal(row, features(z, None, 1)[0])


def test_the_size_is_bounded_and_told():
    train, validation = structures(80, 0), structures(40, 1)
    network = make_network(max_leaves=4, n_trees=7)
    set_composition(network, train)
    rng = np.random.default_rng(0)
    results = fit_forests(network, train, validation, [as_predicted(item, 0.5, rng) for item in validation], seed=0)
    for result in results.values():
        assert result.n_nodes <= 7 * (2 * 4 - 1)
        assert f"{result.n_nodes} nodes" in str(result)
    remove_forests(network)
    assert not any(late.forest.fitted for late in forests(network).values())


def test_missing_labels_are_left_out_and_too_few_are_told():
    train, validation = structures(80, 0), structures(40, 1)
    for item in [*train[::2], *validation[::2]]:
        item.metadata["targets"]["gap"] = np.array([np.nan])
    check_late_fusion(make_network(), train, validation)
    _, results = fitted(0.5, train, validation)
    assert np.isfinite(results["gap"].loss)
    for item in validation:
        item.metadata["targets"]["gap"] = np.array([np.nan])
    with pytest.raises(DataError, match="no structure has the target of 'gap'"):
        check_late_fusion(make_network(), train, validation)
    check_late_fusion(build_network(NetworkSpec(**make_network().spec.to_dict() | {"composition": None})), [], [])
