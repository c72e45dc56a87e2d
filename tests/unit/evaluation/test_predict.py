"""Predictions do not depend on how structures are batched."""

from __future__ import annotations

import io

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from kliff.dataset import Configuration

from kimgnn.evaluation.predict import predict, with_predictions
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph


@pytest.fixture
def potential() -> Potential:
    head = {"type": "energy", "reference_energies": {"Si": -3.0, "C": -1.5}, "scale": 2.0}
    options = {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_gaussians": 8}
    return Potential(build_network(NetworkSpec("schnet", options, [head], ["Si", "C"])))


@pytest.fixture
def structures() -> list[Atoms]:
    """Crystals of 2 to 16 atoms and a molecule without a cell."""
    atoms = [bulk("Si").repeat((1, 1, n)) for n in (1, 3, 8)] + [
        bulk("SiC", "zincblende", a=4.36),
        molecule("C2H2")[:2],
    ]
    for seed, structure in enumerate(atoms):
        structure.rattle(0.1, seed=seed)
    return atoms


def _configurations(structures: list[Atoms]) -> list[Configuration]:
    return [
        Configuration(np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.get_positions(), list(atoms.pbc))
        for atoms in structures
    ]


def test_batches_give_what_single_structures_give(potential, structures):
    """Batching only sums in another order: 1e-12 relative in double precision."""
    configurations = _configurations(structures)
    transform = PeriodicGraph(cutoff=4.0)
    alone = predict(potential, configurations, transform, batch_size=1)
    for batch_size in (2, 100):
        together = predict(potential, configurations, transform, batch_size=batch_size)
        for one, other, atoms in zip(alone, together, structures, strict=True):
            assert one.energy == pytest.approx(other.energy, rel=1e-12)
            assert one.forces.shape == (len(atoms), 3)
            np.testing.assert_allclose(one.forces, other.forces, atol=1e-12)
            np.testing.assert_allclose(one.stress, other.stress, atol=1e-12)
            np.testing.assert_allclose(one.atomic_energies, other.atomic_energies, rtol=1e-12)
            assert other.atomic_energies.sum() == pytest.approx(other.energy, rel=1e-12)


def test_a_structure_without_volume_has_no_stress(potential, structures):
    """NaN and not a number that means nothing."""
    predictions = predict(potential, _configurations(structures), PeriodicGraph(cutoff=4.0))
    assert [bool(np.isnan(prediction.stress).all()) for prediction in predictions] == [False] * 4 + [True]


def test_prediction_neither_trains_nor_changes_the_mode(potential, structures):
    """A validation in the middle of training leaves the network in training mode, without gradients."""
    potential.train()
    predict(potential, _configurations(structures), PeriodicGraph(cutoff=4.0))
    assert potential.training
    assert all(parameter.grad is None for parameter in potential.parameters())


def test_nothing_to_predict_is_an_empty_list(potential):
    """An empty split is no special case."""
    assert predict(potential, [], PeriodicGraph(cutoff=4.0)) == []


def test_predictions_survive_an_extxyz_file(potential, structures):
    """What ASE reads back is what was predicted, to the eight decimals of the file; nothing of the input is lost."""
    structures[0].info["name"] = "first"
    predictions = predict(potential, _configurations(structures), PeriodicGraph(cutoff=4.0))
    stream = io.StringIO()
    ase.io.write(stream, [with_predictions(*pair) for pair in zip(structures, predictions, strict=True)], "extxyz")
    stream.seek(0)
    read = ase.io.read(stream, index=":", format="extxyz")
    assert read[0].info["name"] == "first"
    assert structures[0].calc is None
    for atoms, prediction in zip(read, predictions, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(prediction.energy, rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-8)
    np.testing.assert_allclose(read[0].get_stress(), predictions[0].stress, rtol=1e-12)
    assert "stress" not in read[-1].calc.results


def test_predictions_are_on_the_cpu_whatever_the_device(potential, structures):
    """Results are NumPy arrays in float64."""
    prediction = predict(
        potential, _configurations(structures[:1]), PeriodicGraph(cutoff=4.0), device=torch.device("cpu")
    )[0]
    assert prediction.forces.dtype == prediction.stress.dtype == np.float64
