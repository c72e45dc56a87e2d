"""An ensemble is the mean of its members, exactly, and their spread; dropout makes members of one network."""

from dataclasses import replace

import ase.build
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration

from kimgnn.errors import ModelError
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.heads.members import MeanClass, class_spread
from kimgnn.models.build import build_network
from kimgnn.models.ensemble import Ensemble, with_dropout
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

CUTOFF = 4.0
HEADS = [
    {"type": "energy", "reference_energies": {"Si": -5.0, "C": -7.0}, "scale": 0.7, "dropout": 0.2},
    {"type": "property", "target": "gap", "mean": [1.5], "spread": [0.4], "reference": "none", "dropout": 0.1},
    {"type": "property", "target": "modulus", "transform": "log10", "mean": [2.0], "spread": [0.3], "reference": "none",
     "loss": "nll"},
    {"type": "classification", "target": "metal", "classes": [False, True]},
    {"type": "classification", "target": "family", "classes": ["a", "b", "c"]},
]  # fmt: skip
OPTIONS = {"cutoff": CUTOFF, "hidden_channels": 12, "num_interactions": 2, "num_gaussians": 8}
SPEC = NetworkSpec("schnet", OPTIONS, HEADS, ["C", "Si"])
K = 3


def ensemble() -> Network:
    torch.manual_seed(3)
    network = build_network(replace(SPEC, members=K))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def structures() -> list[Configuration]:
    random = np.random.default_rng(1)
    found = []
    for atoms in (ase.build.bulk("Si", cubic=True), ase.build.bulk("SiC", "zincblende", a=4.4)):
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        found.append(Configuration.from_ase_atoms(atoms))
    return found


def predictions(network: Network) -> list[Prediction]:
    return predict(Potential(network), structures(), PeriodicGraph(cutoff=CUTOFF, species=["C", "Si"]))


def test_mean_and_deviation_are_those_of_the_members_predictions() -> None:
    network = ensemble()
    alone = [predictions(member) for member in network.members]
    for index, found in enumerate(predictions(network)):
        one = [of_member[index] for of_member in alone]
        # Rounding of means of a few numbers of the order of 10 eV.
        same = {"rtol": 1e-12, "atol": 1e-12}
        np.testing.assert_allclose(found.energy, np.mean([item.energy for item in one]), **same)
        np.testing.assert_allclose(found.energy_deviation, np.std([item.energy for item in one], ddof=1), **same)
        forces = np.stack([item.forces for item in one])
        np.testing.assert_allclose(found.forces, forces.mean(0), **same)
        np.testing.assert_allclose(found.forces_deviation, forces.std(0, ddof=1), **same)
        stresses = np.stack([item.stress for item in one])
        np.testing.assert_allclose(found.stress, stresses.mean(0), **same)
        np.testing.assert_allclose(found.stress_deviation, stresses.std(0, ddof=1), **same)
        gaps = np.stack([item.properties["gap"] for item in one])
        np.testing.assert_allclose(found.properties["gap"], gaps.mean(0), **same)
        np.testing.assert_allclose(found.deviations["gap"], gaps.std(0, ddof=1), rtol=1e-9)
        logarithms = np.log10([item.properties["modulus"] for item in one])
        own = np.stack([item.deviations["modulus"] / item.properties["modulus"] for item in one]) / np.log(10)
        np.testing.assert_allclose(np.log10(found.properties["modulus"]), logarithms.mean(0), **same)
        both = np.sqrt(logarithms.var(0, ddof=1) + np.square(own).mean(0)) * np.log(10) * found.properties["modulus"]
        np.testing.assert_allclose(found.deviations["modulus"], both, rtol=1e-9)
        for name in ("metal", "family"):
            shares = np.stack([item.properties[name] for item in one])
            np.testing.assert_allclose(found.properties[name], shares.mean(0), **same)
            np.testing.assert_allclose(found.deviations[name], shares.std(0, ddof=1), rtol=1e-9)


def test_a_molecule_has_no_deviation_of_its_stress() -> None:
    molecule = Configuration.from_ase_atoms(ase.build.molecule("C2H2")[:2])
    graph_of = PeriodicGraph(cutoff=CUTOFF, species=["C", "Si"])
    (found,) = predict(Potential(ensemble()), [molecule], graph_of)
    assert np.isnan(found.stress).all()
    assert np.isnan(found.stress_deviation).all()
    assert np.isfinite(found.forces_deviation).all()


def test_forces_are_the_derivative_of_the_mean_energy() -> None:
    potential, graph_of = Potential(ensemble()), PeriodicGraph(cutoff=CUTOFF, species=["C", "Si"])
    atoms = structures()[0].to_ase_atoms()
    (found,) = predict(potential, [Configuration.from_ase_atoms(atoms)], graph_of)
    step, energies = 1e-4, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[2, 1] += sign * step
        energies.append(predict(potential, [Configuration.from_ase_atoms(moved)], graph_of)[0].energy)
    slope = (energies[0] - energies[1]) / (2 * step)
    # Of central differences: third derivative times the square of the step, and rounding over the step.
    assert found.forces[2, 1] == pytest.approx(-slope, abs=1e-6)


def test_members_may_be_of_one_network_only_in_name() -> None:
    member = build_network(SPEC)
    other = build_network(replace(SPEC, species=["C", "Ge", "Si"]))
    with pytest.raises(ModelError, match="differ by more than their weights"):
        Ensemble([member, other])
    with pytest.raises(ModelError, match="two networks at least"):
        Ensemble([member])


def test_state_is_loaded_into_every_member() -> None:
    network = ensemble()
    other = build_network(network.spec)
    other.load_state_dict(network.state_dict())
    for first, second in zip(predictions(network), predictions(other.eval()), strict=True):
        assert first.energy == second.energy
        np.testing.assert_array_equal(first.forces_deviation, second.forces_deviation)
    assert sum(p.numel() for p in network.parameters()) == K * sum(p.numel() for p in build_network(SPEC).parameters())


def test_heads_are_chosen_in_every_member() -> None:
    network = ensemble()
    chosen = network.with_heads(lambda name: name == "gap")
    assert list(chosen.heads) == ["gap"]
    assert all(list(member.heads) == ["gap"] for member in chosen.members)
    for all_heads, one_head in zip(predictions(network), predictions(chosen), strict=True):
        np.testing.assert_array_equal(all_heads.properties["gap"], one_head.properties["gap"])


def test_torchscript_says_the_same() -> None:
    network = ensemble()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    graph = PeriodicGraph(cutoff=CUTOFF, species=["C", "Si"])(structures()[0])
    n_atoms, n_edges = len(graph.z), graph.edge_index0.shape[1]
    vectors = graph.coords[graph.edge_index0[1]] - graph.coords[graph.edge_index0[0]] + graph.shifts
    inputs = GraphInputs(graph.z, graph.edge_index0, vectors, [n_atoms] * 2, [n_edges] * 2)
    expected = network(inputs)
    found = torch.jit.script(network)(inputs)
    assert set(found) == set(expected) >= {"energy_members", "metal_members"}
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-12, atol=1e-12)


def test_dropout_samples_differ_only_by_dropout() -> None:
    torch.manual_seed(5)
    network = build_network(SPEC).eval()
    samples = with_dropout(network, 200)
    torch.manual_seed(6)
    found = predictions(samples)
    plain = predictions(network)
    for sampled, alone in zip(found, plain, strict=True):
        assert sampled.energy_deviation > 0
        assert (sampled.forces_deviation > 0).all()
        assert (sampled.stress_deviation > 0).all()
        assert (sampled.deviations["gap"] > 0).all()
        # Heads without dropout: all samples are the network itself.
        np.testing.assert_allclose(sampled.properties["metal"], alone.properties["metal"], rtol=1e-12)
        assert (sampled.deviations["metal"] < 1e-12).all()
        # Dropout keeps the mean of a linear layer, which is the last one: five standard errors.
        error = sampled.energy_deviation / np.sqrt(200)
        assert abs(sampled.energy - alone.energy) < 5 * error


def test_a_network_without_dropout_has_no_samples() -> None:
    heads = [{**head, "dropout": 0.0} if "dropout" in head else head for head in HEADS]
    with pytest.raises(ModelError, match=r"model\.uncertainty\.dropout_samples: .*no dropout"):
        with_dropout(build_network(replace(SPEC, heads=heads)), 10)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_probabilities_are_averaged_however_sure_the_members_are(k: int, n: int, seed: int) -> None:
    logits = 50 * torch.randn(k, n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found, logs = MeanClass()(logits)
    spread = class_spread(logs)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(torch.sigmoid(found), torch.sigmoid(logits).mean(0), rtol=1e-10, atol=1e-300)
    torch.testing.assert_close(spread[:, 1], torch.sigmoid(logits).std(0)[:, 0], rtol=1e-9, atol=1e-15)


def test_members_that_agree_have_a_finite_variance() -> None:
    head = build_network(SPEC).heads["gap"]
    found, _ = head.mean_of_members()(torch.full((4, 3, 1), 1.25, dtype=torch.float64))
    assert torch.isfinite(found).all()
    assert (head.deviation(found, torch.ones(3)) < 1e-11).all()
