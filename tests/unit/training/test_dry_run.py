"""`kimgnn validate`: what training will be like, told before it starts."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, TrainingError
from kimgnn.training.dry_run import count_ghosts, dry_run


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Ten copper structures of 1 to 8 atoms, two without forces, and a small SchNet."""
    generator = np.random.default_rng(0)
    frames = []
    for index in range(10):
        atoms = bulk("Cu", cubic=index > 1) * ((2, 1, 1) if index > 5 else (1, 1, 1))
        atoms.positions += generator.normal(0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        labelled = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        labelled.info["E"] = atoms.get_potential_energy()
        if index > 1:
            labelled.arrays["F"] = atoms.get_forces()
        frames.append(labelled)
    write(tmp_path / "copper.xyz", frames, format="extxyz")
    monkeypatch.chdir(tmp_path)
    return {
        "dataset": {"type": "ase", "path": "copper.xyz", "keys": {"energy": "E", "forces": "F"}, "save": True},
        "transforms": {"configuration": {"kwargs": {"cutoff": 3.0}}},
        "model": {
            "architecture": "schnet",
            "options": {"hidden_channels": 8, "num_filters": 8, "num_gaussians": 8, "num_interactions": 2},
        },
        "training": {
            "loss": {"weights": {"energy": 1, "forces": 1}},
            "validation_dataset": {"val_size": 2},
            "batch_size": 4,
            "accelerator": "cpu",
        },
    }


@pytest.mark.filterwarnings("ignore:.* structures have no forces:UserWarning")
def test_triplets_are_counted(manifest, tmp_path):
    """What the memory of a line graph goes by: 12 bonds of an atom in fcc, each with 12 that end where it begins."""
    small = {"hidden_channels": 4, "embedding_channels": 4, "element_features": "embedding"}
    manifest["model"] = {"architecture": "alignn", "options": small | {"alignn_layers": 1, "gcn_layers": 1}}
    manifest["transforms"] = {"configuration": {"name": "LineGraph", "kwargs": {"cutoff": 3.0, "max_neighbors": None}}}
    summary = dry_run(manifest)
    assert summary.triplets == (pytest.approx(144 * summary.nodes[0]), 8 * 144)
    assert "1152" in str(summary)


@pytest.mark.filterwarnings("ignore:.* structures have no forces:UserWarning")
def test_a_network_that_cannot_be_a_potential(manifest, tmp_path):
    """MEGNet couples all atoms: it has no influence distance, and says why."""
    manifest["model"] = {"architecture": "megnet", "options": {"cutoff": 3.0}}
    manifest["transforms"] = {"configuration": {"name": "CrystalGraph", "kwargs": {"cutoff": 3.0}}}
    manifest["training"]["loss"]["weights"] = {"energy": 1}
    summary = dry_run(manifest)
    assert summary.influence_distance is None
    assert not summary.ghosts
    assert "not a potential     the global state" in str(summary)
    assert "influence" not in str(summary)


@pytest.mark.filterwarnings("ignore:.* structures have no forces:UserWarning")
def test_summary(manifest, tmp_path):
    """Counts, graph and reach are those of the data; the first step has a loss; no file is left."""
    summary = dry_run(manifest)
    assert {split: counts["structures"] for split, counts in summary.counts.items()} == {"train": 8, "validation": 2}
    assert sum(counts["energy"] for counts in summary.counts.values()) == 10
    assert sum(counts["forces"] for counts in summary.counts.values()) == 8
    assert sum(counts["stress"] for counts in summary.counts.values()) == 0
    assert summary.species == ["Cu"]
    assert summary.nodes == (pytest.approx((2 * 1 + 4 * 4 + 4 * 8) / 10), 8)
    assert summary.edges == (pytest.approx(12 * summary.nodes[0]), 96)  # 12 neighbours in fcc
    assert summary.influence_distance == 6.0
    assert [atoms for atoms, _ in summary.ghosts] == [1, 4, 8]
    assert summary.batch[0] == 4
    assert np.isfinite(summary.loss)
    assert summary.seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == ["copper.xyz"]
    assert "influence distance  6 Å" in str(summary)


@pytest.mark.filterwarnings("ignore:.* structures have no forces:UserWarning")
def test_memory(manifest):
    """Weights are counted exactly, Adam keeps two numbers a weight, and activations grow with the batch."""
    small = dry_run(manifest | {"training": manifest["training"] | {"batch_size": 1}})
    large = dry_run(manifest | {"training": manifest["training"] | {"batch_size": 8}})
    assert small.memory.parameters == small.memory.gradients == 8 * small.n_parameters
    assert 0 <= small.memory.optimizer - 2 * small.memory.parameters < 1000  # and a step count a tensor
    # What is kept for the backward pass goes with the edges, apart from a little that goes with the weights.
    growth = large.memory.activations / small.memory.activations
    assert growth == pytest.approx(large.batch[1] / small.batch[1], rel=0.25)


@pytest.mark.filterwarnings("ignore:.* structures have no forces:UserWarning")
def test_any_optimizer(manifest):
    """LBFGS, which asks for the loss again and again, is measured too."""
    manifest["training"]["optimizer"] = {"name": "LBFGS", "kwargs": {"max_iter": 2}}
    assert np.isfinite(dry_run(manifest).loss)


def test_a_label_that_is_weighted_and_absent(manifest):
    """What would stop training stops validation, with the same words."""
    manifest["training"]["loss"]["weights"]["stress"] = 1.0
    with pytest.raises(DataError, match=r"stress has a weight in the loss, but no structure carries it"):
        dry_run(manifest)


def test_a_batch_larger_than_the_set(manifest):
    """So does a batch that the training set cannot fill."""
    manifest["training"]["batch_size"] = 9
    with pytest.raises(
        TrainingError, match=r"training\.batch_size: the batch is larger than the training set \(got 9\)"
    ):
        dry_run(manifest)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_ghosts_against_enumeration(pbc):
    """The ghosts are the images within the influence distance of any atom, counted one by one."""
    generator = np.random.default_rng(1)
    cell = np.array([[4.0, 0.3, 0.0], [0.5, 3.5, 0.2], [0.0, 0.4, 5.0]])
    atoms = Atoms("Cu3", scaled_positions=generator.random((3, 3)), cell=cell, pbc=pbc)
    distance, expected = 6.0, 0
    for shift in product(*(range(-3, 4) if periodic else (0,) for periodic in atoms.pbc)):
        for position in atoms.positions + np.array(shift) @ cell:
            if any(shift) and np.linalg.norm(atoms.positions - position, axis=1).min() < distance:
                expected += 1
    assert count_ghosts(configuration_from_atoms(atoms), distance) == expected
    assert (expected == 0) == (pbc is False)
