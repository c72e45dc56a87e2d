"""Networks with heads of every kind, and what PyTorch says of structures on the graphs that they were trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from torch import nn

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.evaluation.predict import predict
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS

SPECIES = ["Si", "C"]

HEADS: list[dict[str, Any]] = [
    {"type": "property", "target": "gap", "unit": "eV", "mean": [1.2], "spread": [0.7], "loss": "nll"},
    {
        "type": "property", "target": "eps", "transform": "log10", "mean": [0.9], "spread": [0.3], "loss": "nll",
        "readout": "max", "activation": "silu",
    },
    {
        "type": "property", "target": "total", "unit": "eV", "extensive": True, "mean": [0.0], "spread": [0.1],
        "reference": {"Si": -5.4, "C": -9.2}, "loss": "nll",
    },
    {
        "type": "property", "target": "born", "per_atom": True, "components": 3, "mean": [0.0, 1.0, 2.0],
        "spread": [1.0, 2.0, 3.0],
    },
    {
        "type": "property", "target": "volume", "transform": "per_atom", "mean": [20.0], "spread": [3.0],
        "readout": "sum", "num_hidden_layers": 2, "activation": "relu",
    },
    {"type": "classification", "target": "metal", "threshold": 0.1},
    {"type": "classification", "target": "lattice", "classes": ["a", "b", "c"], "num_hidden_layers": 0},
]  # fmt: skip

OUTPUTS = ["gap", "gap_deviation", "eps", "eps_deviation", "total", "total_deviation", "born", "volume", "metal",
           "lattice"]  # fmt: skip

OPTIONS: dict[str, dict[str, Any]] = {
    "schnet": {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 2},
    "cgcnn": {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 2},
    "gat": {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 2, "num_heads": 2},
    "alignn": {"cutoff": 4.0, "hidden_channels": 8, "alignn_layers": 1, "gcn_layers": 1, "element_features": "onehot"},
    "megnet": {"cutoff": 4.0, "num_blocks": 2, "hidden_channels": 8, "block_channels": 6, "set2set_channels": 4},
}
"""CGCNN's defaults: batch normalisation, and no envelope."""

ENERGY: dict[str, Any] = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 2.0}


def property_network(
    architecture: str, heads: list[dict[str, Any]] | None = None, precision: str = "double", **options: Any
) -> Network:
    """A network with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    heads = heads or [head for head in HEADS if architecture != "megnet" or not head.get("per_atom")]
    spec = NetworkSpec(architecture, OPTIONS[architecture] | options, heads, SPECIES, precision)
    network = build_network(spec).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.1, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                values.uniform_(low, high)
    return network


def property_checkpoint(network: Network, **graph: Any) -> Checkpoint:
    """A checkpoint of it, trained on nearest neighbours where ``max_neighbors`` or ``ties`` are given."""
    name = "LineGraph" if network.uses_triplets else "CrystalGraph" if graph else "PeriodicGraph"
    transform = {"name": name, "kwargs": {"cutoff": network.cutoff, **graph}}
    manifest = {"dataset": {"path": "/somewhere/on/a/machine/crystals"}, "model": {"architecture": "cgcnn"}}
    metrics = {"val_gap_mae": 0.25, "val_total_mae": 0.5, "val_total_mae_per_atom": 0.25, "val_metal_accuracy": 0.75}
    return Checkpoint(network, transform, manifest, metrics, {"source": "/somewhere/on/a/machine/crystals"})


def property_structures() -> dict[str, Atoms]:
    """Crystals with and without equally near neighbours, a molecule, atoms without any neighbour."""
    crystal = bulk("Si", cubic=True)
    crystal.symbols[::2] = "C"
    rattled = crystal.copy()
    rattled.rattle(0.1, seed=1)
    return {
        "crystal": crystal,
        "rattled": rattled,
        "supercell": rattled.repeat((2, 1, 1)),
        "tiny": Atoms("C", cell=[2.5, 2.5, 2.5], pbc=True),
        "molecule": Atoms("SiCSi", [[0, 0, 0], [1.9, 0, 0], [0, 2, 0.1]]),
        "apart": Atoms("SiC", [[0, 0, 0], [9, 0, 0]]),
        "lone": Atoms("Si"),
    }


def torch_says(checkpoint: Checkpoint, structures: list[Atoms]) -> list[dict[str, NDArray[np.float64]]]:
    """The network's predictions through the transform, by the names that an exported file has for them."""
    transform = TRANSFORMS.get(checkpoint.transform["name"])(**checkpoint.transform["kwargs"])
    found = predict(Potential(checkpoint.network), [configuration_from_atoms(atoms) for atoms in structures], transform)
    return [
        item.properties | {f"{name}_deviation": values for name, values in item.deviations.items()} for item in found
    ]
