"""Composition in networks: every fusion, alone and in batches, kept and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ModelError
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.export.property_package import write_property_file
from kimgnn.export.property_runtimes import load_property_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.fusion import composition_modules, forests
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.fusion import ModalityWeights
from kimgnn.physics.potential import Potential
from kimgnn.training.late_fusion import trees_of
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS: dict[str, Any] = {
    "schnet": {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 3, "num_gaussians": 8},
    "cgcnn": {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 3},
    "gat": {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 2, "num_heads": 2},
    "megnet": {"cutoff": 4.0, "num_blocks": 2, "hidden_channels": 8, "block_channels": 6, "set2set_channels": 4},
    "alignn": {"cutoff": 4.0, "hidden_channels": 8, "element_features": "embedding"},
}
COMPOSITION = {"features": "magpie", "hidden_channels": 5, "num_hidden_layers": 1, "dropout": 0.0, "n_trees": 10,
               "max_leaves": 16, "species": ["C", "Si", "Ge"]}  # fmt: skip
HEADS: list[dict[str, Any]] = [
    {"type": "property", "target": "gap", "reference": "none", "mean": [1.0], "spread": [2.0]},
    {"type": "property", "target": "total", "extensive": True, "mean": [0.0], "spread": [1.0],
     "reference": {"Si": -5.4, "C": -9.2}},
    {"type": "property", "target": "born", "per_atom": True, "reference": "none", "mean": [0.0], "spread": [1.0]},
    {"type": "classification", "target": "metal"},
    {"type": "classification", "target": "lattice", "classes": ["a", "b", "c"]},
]  # fmt: skip
FUSIONS = ["early", "attention", "intermediate", "late"]


def make_network(fusion: str, architecture: str = "schnet", features: str = "magpie", depth: int = 0) -> Network:
    """Random weights, a random table and scale, and trees of random data."""
    torch.manual_seed(0)
    composition = COMPOSITION | {"fusion": fusion, "features": features}
    # MEGNet has no features of single atoms.
    heads = [head for head in HEADS if architecture != "megnet" or "per_atom" not in head]
    spec = NetworkSpec(architecture, OPTIONS[architecture], heads, ["Si", "C"], "double", depth, composition)
    network = build_network(spec).eval()
    for parameter in network.parameters():  # conditions begin as the identity
        parameter.data += 0.1 * torch.randn_like(parameter)
    generator = torch.Generator().manual_seed(1)
    for module in composition_modules(network):
        generator.manual_seed(1)
        if module.statistics is not None:
            module.statistics.table.copy_(torch.randn(3, 22, generator=generator))
        module.mean.copy_(torch.randn(module.n_features, generator=generator))
        module.spread.copy_(torch.rand(module.n_features, generator=generator) + 0.5)
    rng = np.random.default_rng(0)
    for late in forests(network).values():
        rows = rng.normal(size=(60, late.composition.n_features))
        kind = RandomForestClassifier if late.classes else RandomForestRegressor
        target = np.arange(60) % late.classes if late.classes else rng.normal(size=60)
        late.forest.set_trees(trees_of(kind(10, max_leaf_nodes=16, random_state=0).fit(rows, target), late.classes))
        late.weight.fill_(0.3)
    return network


def structures() -> list[Atoms]:
    mixed = bulk("Si", cubic=True)
    mixed.symbols[:3] = "C"
    mixed.rattle(0.05, seed=1)
    return [bulk("Si"), mixed, mixed.repeat((2, 1, 1)), bulk("C"), Atoms("Si")]


def predictions(network: Network, frames: list[Atoms], batch_size: int = 10) -> list[Prediction]:
    configurations = [configuration_from_atoms(atoms) for atoms in frames]
    return predict(Potential(network), configurations, PeriodicGraph(4.0), batch_size)


@pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")
@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("architecture", OPTIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_alone_in_a_batch_and_in_a_supercell(fusion: str, architecture: str, depth: int) -> None:
    """A structure does not depend on the others; a supercell has the same properties, and twice the extensive one."""
    network = make_network(fusion, architecture, depth=depth)
    together, alone = predictions(network, structures()), predictions(network, structures(), 1)
    for one, other in zip(together, alone, strict=True):
        for name, values in one.properties.items():
            assert np.isfinite(values).all()
            np.testing.assert_allclose(other.properties[name], values, rtol=1e-10, atol=1e-12, err_msg=name)
    cell, supercell = together[1].properties, together[2].properties
    for name in ("gap", "metal", "lattice"):
        np.testing.assert_allclose(supercell[name], cell[name], rtol=1e-10)
    np.testing.assert_allclose(supercell["total"], 2 * cell["total"], rtol=1e-10)
    if "born" in cell:
        np.testing.assert_allclose(supercell["born"], np.tile(cell["born"], (2, 1)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("architecture", OPTIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_composition_matters(fusion: str, architecture: str, depth: int) -> None:
    """Other features of it change every head, except, of a forest, one of atoms."""
    network = make_network(fusion, architecture, depth=depth)
    before = predictions(network, structures()[1:2])[0].properties
    for module in composition_modules(network):
        module.mean += 3.0
    after = predictions(network, structures()[1:2])[0].properties
    changed = {name for name, values in before.items() if not np.array_equal(values, after[name])}
    assert changed == set(before) - ({"born"} if fusion == "late" else set())


@pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")
@pytest.mark.parametrize("fusion", FUSIONS)
def test_kept_and_exported(fusion: str, tmp_path: Path) -> None:
    """A checkpoint and a TorchScript file say what the network says; integration/test_training_fusion.py has ONNX."""
    network = make_network(fusion, "cgcnn", features="fractions" if fusion == "attention" else "magpie")
    frames = structures()
    expected = predictions(network, frames)
    checkpoint = Checkpoint(network, {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}, {"dataset": {"path": ""}})
    save_checkpoint(tmp_path / "net.ckpt", checkpoint)
    again = load_checkpoint(tmp_path / "net.ckpt")
    for one, right in zip(predictions(again.network, frames), expected, strict=True):
        for name, values in right.properties.items():
            np.testing.assert_array_equal(one.properties[name], values)
    write_property_file(again, tmp_path, "torchscript")
    for one, right in zip(load_property_model(tmp_path / "properties.pt").predict(frames), expected, strict=True):
        for name, values in right.properties.items():
            # Sums in another order.
            np.testing.assert_allclose(one[name], values, rtol=1e-9, atol=1e-11, err_msg=name)


def test_intermediate_fusion_begins_as_the_network_alone() -> None:
    alone = NetworkSpec("cgcnn", OPTIONS["cgcnn"], HEADS, ["Si", "C"])
    fused = NetworkSpec("cgcnn", OPTIONS["cgcnn"], HEADS, ["Si", "C"],
                        composition=COMPOSITION | {"fusion": "intermediate", "features": "fractions"})  # fmt: skip
    network, other = build_network(alone).eval(), build_network(fused).eval()
    other.trunk.trunk.load_state_dict(network.trunk.state_dict(), strict=False)
    other.heads.load_state_dict(network.heads.state_dict())
    for one, right in zip(predictions(other, structures()[:3]), predictions(network, structures()[:3]), strict=True):
        for name, values in right.properties.items():
            np.testing.assert_array_equal(one.properties[name], values)


def test_attention_says_its_weights() -> None:
    network = make_network("attention")
    (weigh,) = (module for module in network.modules() if isinstance(module, ModalityWeights))
    seen: list[torch.Tensor] = []
    weigh.register_forward_hook(lambda module, given, weights: seen.append(weights))
    predictions(network, structures()[:4])
    (weights,) = seen
    assert weights.shape == (4, 2)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))
    assert len(weights[:, 0].unique()) > 1


def test_late_fusion_is_the_weighted_mean() -> None:
    """Of what is learned, and of probabilities."""
    network, alone, trees = (make_network("late") for _ in range(3))
    for late in forests(alone).values():
        late.weight.fill_(1.0)
    for late in forests(trees).values():
        late.weight.fill_(0.0)
    frames = structures()[:2]
    found = [predictions(each, frames) for each in (network, alone, trees)]
    for one, of_network, of_forest in zip(*found, strict=True):
        for name, values in one.properties.items():
            mixed = 0.3 * of_network.properties[name] + 0.7 * of_forest.properties[name]
            np.testing.assert_allclose(values, mixed, rtol=1e-9, atol=1e-12, err_msg=name)


def test_forests_are_not_there_before_they_are_fitted() -> None:
    network = make_network("late")
    spec = NetworkSpec(**network.spec.to_dict())
    fresh, alone = (
        build_network(spec).eval(),
        build_network(NetworkSpec(**spec.to_dict() | {"composition": None})).eval(),
    )
    fresh.load_state_dict(alone.state_dict(), strict=False)
    for one, right in zip(predictions(fresh, structures()[:2]), predictions(alone, structures()[:2]), strict=True):
        for name, values in right.properties.items():
            np.testing.assert_array_equal(one.properties[name], values)


def test_a_fused_network_is_no_staged_potential() -> None:
    """Late fusion leaves an energy head alone, which is then one like any other."""
    heads = [{"type": "energy", "reference_energies": "none", "scale": 1.0}, HEADS[0]]
    for fusion in FUSIONS:
        composition = COMPOSITION | {"fusion": fusion}
        network = build_network(NetworkSpec("schnet", OPTIONS["schnet"], heads, ["Si"], composition=composition))
        assert ("composition of the whole structure" in network.potential_refusal()) == (fusion != "late")


def test_forces_with_a_fused_energy_head() -> None:
    """The composition does not depend on positions: forces are the derivative, here by central differences."""
    heads = [{"type": "energy", "reference_energies": "none", "scale": 1.0}]
    composition = COMPOSITION | {"fusion": "attention", "features": "fractions"}
    torch.manual_seed(0)
    network = build_network(NetworkSpec("schnet", OPTIONS["schnet"], heads, ["Si", "C"], composition=composition))
    atoms = structures()[1]
    moved = [atoms.copy(), atoms.copy()]
    for frame, step in zip(moved, (1e-4, -1e-4), strict=True):
        frame.positions[0, 1] += step
    low, high, here = (predictions(network, [frame])[0] for frame in (*moved[::-1], atoms))
    # The third derivative times 1e-8 is all that the difference leaves out.
    assert here.forces[0, 1] == pytest.approx(-(high.energy - low.energy) / 2e-4, rel=1e-5, abs=1e-8)


def test_intermediate_fusion_needs_layers() -> None:
    options = OPTIONS["cgcnn"] | {"num_convolutions": 1}
    with pytest.raises(ModelError, match="two layers or more"):
        build_network(
            NetworkSpec("cgcnn", options, HEADS, ["Si"], composition=COMPOSITION | {"fusion": "intermediate"})
        )
