"""Mixed precision: 16 bits in the trunk in training steps, and nowhere else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from ase.build import bulk

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.nn.pooling import addable, pool
from kimgnn.nn.set2set import Set2Set
from kimgnn.physics.potential import Potential
from kimgnn.training.mixed_precision import ScaledLoss, cast_in_training, check_device, remove_casts
from kimgnn.transforms.collate import collate
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph

ENERGY = {"type": "energy", "reference_energies": {"Na": -1.0, "Cl": -2.0}, "scale": 1.0}
GAP = {"type": "property", "target": "gap", "reference": "none", "mean": [0.0], "spread": [1.0]}
SCHNET = {"cutoff": 4.5, "hidden_channels": 16, "num_filters": 16, "num_interactions": 2, "num_gaussians": 12}
CGCNN = {"cutoff": 4.5, "hidden_channels": 16, "num_convolutions": 2, "activation": "silu"}
SMOOTH = CGCNN | {"normalization": "none", "cutoff_function": "cosine"}


def graphs(transform: Any) -> Any:
    found = []
    for strain in (1.0, 1.02, 0.98):
        atoms = bulk("NaCl", "rocksalt", 5.64 * strain, cubic=True)
        atoms.rattle(0.1, seed=int(100 * strain))
        found.append(transform(configuration_from_atoms(atoms)))
    return collate(found)


def pair(
    architecture: str, options: dict[str, Any], heads: list[dict[str, Any]], choice: str = "bf16", **more: Any
) -> list[Potential]:
    """A network in single precision, and its copy in mixed."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec(architecture, options, heads, ["Na", "Cl"], "single", **more))
    mixed = deepcopy(network)
    cast_in_training(mixed, choice)
    return [Potential(network), Potential(mixed)]


def dtypes_in(potential: Potential, batch: Any) -> set[torch.dtype]:
    """The types of what the linear maps of the trunk return."""
    seen: set[torch.dtype] = set()
    hooks = [
        module.register_forward_hook(lambda module, given, output: seen.add(output.dtype))
        for module in potential.network.trunk.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    potential(batch)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("architecture", "options", "more"),
    [("schnet", SCHNET, {}), ("cgcnn", SMOOTH, {}), ("cgcnn", SMOOTH, {"split_depth": 1})],
)
def test_potentials(architecture: str, options: dict[str, Any], more: dict[str, Any]) -> None:
    """In training, products of 16 bits and energies of 64; elsewhere the same numbers as without."""
    heads = [ENERGY, GAP] if more else [ENERGY]
    single, mixed = pair(architecture, options, heads, **more)
    batch = graphs(PeriodicGraph(4.5))
    assert dtypes_in(mixed.train(), batch) == {torch.bfloat16}
    assert dtypes_in(mixed.eval(), batch) == dtypes_in(single, batch) == {torch.float32}
    for name, value in single.eval()(batch).items():
        assert torch.equal(mixed(batch)[name], value), name
    exact, found = single.train()(batch), mixed.train()(batch)
    assert found["energy"].dtype == found["forces"].dtype == torch.float64
    # bfloat16 has eight bits: 0.4 % in each product, which add up with either sign.
    for name, tolerance in (("energy", 0.01), ("forces", 0.05)):
        largest = (exact[name] - exact[name].mean()).abs().max() + exact["energy"].abs().max() * (name == "energy")
        assert 0 < (found[name] - exact[name]).abs().max() < tolerance * largest
    assert not torch.is_autocast_enabled("cpu")


def test_gradients_of_energies_and_forces_point_the_same_way() -> None:
    """The gradient by the weights, through energies and forces, is that of single precision but for rounding."""
    batch = graphs(PeriodicGraph(4.5))
    gradients = []
    for potential in pair("schnet", SCHNET, [ENERGY]):
        found = potential.train()(batch)
        (found["energy"].square().sum() + found["forces"].square().sum()).backward()
        learned = [parameter.grad for parameter in potential.parameters() if parameter.grad is not None]
        assert all(gradient.dtype == torch.float32 for gradient in learned)
        gradients.append(torch.cat([gradient.flatten() for gradient in learned]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_properties_on_merged_edges(normalization: str) -> None:
    """Statistics of batch normalisation are added up in single precision."""
    single, mixed = pair("cgcnn", CGCNN | {"normalization": normalization}, [GAP])
    batch = graphs(CrystalGraph(4.5))
    exact, found = single.train()(batch)["gap"], mixed.train()(batch)["gap"]
    assert 0 < (found - exact).abs().max() < 0.03 * exact.abs().max()
    for one, other in zip(single.buffers(), mixed.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=0.02, atol=0.01)


def test_nothing_stays_cast_where_a_network_fails() -> None:
    """A copy of the network, and what comes after an error, compute as ever."""
    _, mixed = pair("schnet", SCHNET, [ENERGY])
    batch = graphs(PeriodicGraph(4.5))
    batch.z[0] = 10**6
    with pytest.raises((RuntimeError, IndexError)):
        mixed.train()(batch)
    assert not torch.is_autocast_enabled("cpu")
    batch.z[0] = 11
    copied = deepcopy(mixed)
    assert dtypes_in(copied.train(), batch) == {torch.bfloat16}
    assert dtypes_in(copied.eval(), batch) == {torch.float32}


@pytest.mark.parametrize("choice", ["bf16", "fp16"])
@pytest.mark.parametrize(
    ("architecture", "options", "fusion"),
    [
        ("cgcnn", CGCNN | {"convolution": "shared"}, None),
        ("gat", CGCNN | {"normalization": "layer"}, "attention"),
        ("megnet", {"cutoff": 4.5}, None),
    ],
)
def test_sums_have_more_digits(architecture: str, options: dict[str, Any], fusion: str | None, choice: str) -> None:
    """Whatever is added up, over neighbours, edges or atoms, is so in single precision: features are close."""
    more = {"features": "fractions", "species": ["Na", "Cl"], "hidden_channels": 8}
    composition = fusion and more | {"fusion": fusion, "num_hidden_layers": 1, "dropout": 0.0}
    features = []
    for potential in pair(architecture, options, [GAP], choice, composition=composition):
        potential.network.trunk.register_forward_hook(lambda module, given, output: features.append(output.detach()))
        potential.train()(graphs(CrystalGraph(4.5)))["gap"].sum().backward()
    assert 0 < (features[1] - features[0]).abs().max() < 0.06 * features[0].abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_numbers_are_added_up(dtype: torch.dtype) -> None:
    """Where a sum is 256, bfloat16 has no place for one more."""
    x = torch.ones(3000, 1, dtype=dtype)
    read = Set2Set(1, 1)
    assert addable(x).dtype == pool(x, torch.zeros(3000, dtype=torch.int64), 1, "sum").dtype == torch.float32
    assert read(x, torch.zeros(3000, dtype=torch.int64), 1)[0, 1] == 1.0
    assert addable(x.double()).dtype == torch.float64


def test_torchscript_compiles_what_was_trained() -> None:
    """A copy without casts is compiled; the network itself goes on casting."""
    _, mixed = pair("schnet", SCHNET, [ENERGY])
    copied = deepcopy(mixed)
    remove_casts(copied)
    torch.jit.script(copied.network.eval())
    batch = graphs(PeriodicGraph(4.5))
    assert dtypes_in(copied.train(), batch) == {torch.float32}
    assert dtypes_in(mixed.train(), batch) == {torch.bfloat16}


def test_float16_needs_cuda() -> None:
    check_device("fp16", "cuda")
    check_device("bf16", "cpu")
    check_device(None, "cpu")
    with pytest.raises(ManifestError, match=r"training\.mixed_precision: float16 needs a CUDA device.*Allowed: bf16"):
        check_device("fp16", "cpu")


@pytest.mark.gpu
def test_scaled_loss_casts_nothing_itself() -> None:
    plugin = ScaledLoss()
    with plugin.forward_context():
        assert not torch.is_autocast_enabled("cuda")
    assert plugin.scaler is not None


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"architecture": "schnet"}, {"mixed_precision": "bf16"}, "model.precision is double"),
        ({"architecture": "schnet", "precision": "single"}, {"mixed_precision": "bf8"}, "mixed_precision"),
        (
            {"architecture": "schnet", "precision": "single"},
            {"mixed_precision": "bf16", "tabulate": True},
            "no digits for tables",
        ),
        ({"architecture": "schnet"}, {"max_atoms": 100}, r"training.batch_size: is the most structures in a step"),
        ({"architecture": "schnet"}, {"max_edges": 0, "batch_size": 4}, r"training.max_edges"),
        ({"architecture": "schnet"}, {"max_atoms": "many", "batch_size": 4}, r"training.max_atoms"),
    ],
)
def test_manifests_that_are_refused(model: dict[str, Any], training: dict[str, Any], message: str) -> None:
    manifest = {
        "dataset": {"type": "ase", "path": "x.xyz"},
        "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}},
        "model": {"name": "m"} | model,
        "training": training,
    }
    with pytest.raises(ManifestError, match=message):
        load_manifest(manifest)
