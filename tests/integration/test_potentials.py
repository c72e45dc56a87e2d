"""CGCNN, GAT and ALIGNN as potentials: every format agrees with PyTorch in every runtime; the checks of KIM pass."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from exported import CUTOFF, silicon_carbide_structures

from kimgnn.export.driver import install_model
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import SAMPLES, export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.verify import gate
from kimgnn.verify.verification import verify_model

NAMES = {
    "cgcnn": "Gate_CGCNN__MO_000000000014_000",
    "gat": "Gate_GAT__MO_000000000015_000",
    "alignn": "Gate_ALIGNN__MO_000000000016_000",
}

OPTIONS = {
    "cgcnn": {"num_convolutions": 2, "normalization": "none"},
    "alignn": {"alignn_layers": 1, "gcn_layers": 1, "normalization": "layer", "element_features": "embedding"},
    "gat": {"num_convolutions": 2, "normalization": "layer", "score_activation": "silu", "num_heads": 3},
}

pytestmark = [pytest.mark.kim, pytest.mark.lammps]


def checkpoint(architecture: str) -> Checkpoint:
    """A network of silicon and carbon with random weights, and a structure of its data."""
    torch.manual_seed(0)
    options = {"cutoff": CUTOFF, "hidden_channels": 12}
    options |= {"cutoff_function": "polynomial", **OPTIONS[architecture]}
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 1.0}
    network = build_network(NetworkSpec(architecture, options, [head], ["Si", "C"])).eval()
    cell = silicon_carbide_structures()["cell"]
    sample = {"symbols": list(cell.symbols), "positions": cell.positions, "cell": cell.cell.array, "pbc": cell.pbc}
    graph = "LineGraph" if network.uses_triplets else "CrystalGraph"
    transform = {"name": graph, "kwargs": {"cutoff": CUTOFF, "max_neighbors": None}}
    return Checkpoint(network, transform, {}, data={SAMPLES: [sample]})


def export(architecture: str, formats: list[str], folder: Path) -> list[str]:
    """Export the network through the gate, check that the gate compared all it should, and return the models' names."""
    exported, name = checkpoint(architecture), NAMES[architecture]
    approve = partial(gate.approve_exports, checkpoint=exported, rejected=folder / "rejected.md")
    written = export_portable_model(exported, name, folder, formats=formats, approve=approve)
    table = json.loads((written / "parity.json").read_text())
    assert table["passed"]
    assert table["not_run"] == {}
    runtimes = ("Python", "ASE", "LAMMPS on 1 rank", "LAMMPS on 2 ranks")
    expected = [f"{FORMATS[chosen].file} in {where}" for chosen in formats for where in runtimes]
    assert sorted(table["differences"]) == sorted(expected)
    return list(model_names(name, formats).values())


@pytest.mark.parametrize("architecture", NAMES)
def test_it_passes_the_gate(architecture: str, kim_collection: Path, tmp_path: Path) -> None:
    """Python, ASE, LAMMPS on one rank and on two, for every structure of the gate."""
    export(architecture, ["torchscript", "onnx"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "formats"),
    [(name, ["torchscript", "onnx"]) for name in NAMES] + [(name, ["pt2"]) for name in ("cgcnn", "gat")],
)
def test_it_passes_the_checks(architecture: str, formats: list[str], kim_collection: Path, tmp_path: Path) -> None:
    """The ten checks of KIM, which run for every format of SchNet in the quick tests."""
    for model in export(architecture, formats, tmp_path):
        install_model(tmp_path / model, force=True)
        failed = [result.check.name for result in verify_model(model).results if not result.outcome.passed]
        assert failed == []
