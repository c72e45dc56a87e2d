"""A trained multitask model: KIM runs energy and forces; its other heads travel beside as a file of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.cli.app import main
from kimgnn.export.driver import install_model
from kimgnn.export.property_package import export_properties
from kimgnn.export.property_runtimes import load_property_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.verify import gate
from kimgnn.verify.property_gate import approve_properties
from kimgnn.verify.simulators import ase_prediction

NAME = "Multitask_Si__MO_000000000031_000"


ONEHOT = {"element_features": "onehot", "normalization": "layer"}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("gat", {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 2, "num_heads": 2}),
        ("megnet", {"cutoff": 4.0, "num_blocks": 2, "hidden_channels": 8, "block_channels": 6, "set2set_channels": 4}),
        ("alignn", {"cutoff": 4.0, "hidden_channels": 8, "alignn_layers": 1, "gcn_layers": 1} | ONEHOT),
        ("alignn", {"cutoff": 4.0, "hidden_channels": 8, "alignn_layers": 0, "gcn_layers": 1} | ONEHOT),  # no angles
    ],
)
@pytest.mark.parametrize("precision", ["double", "single"])
def test_softmax_sets_and_angles_in_both_formats(
    architecture: str, options: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    """Through the gate, with an atom that has no edge among its structures, and so no triplet."""
    torch.manual_seed(0)
    head = {"type": "property", "target": "gap", "mean": [1.2], "spread": [0.7], "loss": "nll"}
    network = build_network(NetworkSpec(architecture, options, [head], ["Si", "C"], precision)).eval()
    transform = {"name": "CrystalGraph", "kwargs": {"cutoff": 4.0, "max_neighbors": 6}}
    if architecture == "alignn":
        transform = {"name": "LineGraph", "kwargs": {"cutoff": 4.0, "max_neighbors": 6, "angle_neighbors": 3}}
    checkpoint = Checkpoint(network, transform, {})
    folder = export_properties(
        checkpoint, "it", tmp_path, formats=["torchscript", "onnx"],
        approve=lambda folders: approve_properties(folders, checkpoint, tmp_path / "rejected.md"),
    )  # fmt: skip
    table = json.loads((folder / "parity.json").read_text())["properties"]
    assert "one Si atom" in table["structures"]
    assert sorted(table["differences"]) == ["properties.onnx", "properties.pt"]


@pytest.mark.parametrize("precision", ["double", "single"])
def test_an_ensemble_in_both_formats(precision: str, tmp_path: Path) -> None:
    """Through the gate: every output has the deviation of the members beside it, that of classes included."""
    torch.manual_seed(0)
    heads = [
        {"type": "property", "target": "gap", "mean": [1.2], "spread": [0.7]},
        {"type": "classification", "target": "lattice", "classes": ["a", "b", "c"]},
    ]
    options = {"cutoff": 4.0, "hidden_channels": 8, "num_convolutions": 2}
    network = build_network(NetworkSpec("cgcnn", options, heads, ["Si", "C"], precision, members=3)).eval()
    checkpoint = Checkpoint(network, {"name": "CrystalGraph", "kwargs": {"cutoff": 4.0, "max_neighbors": 6}}, {})
    folder = export_properties(
        checkpoint, "it", tmp_path, formats=["torchscript", "onnx"],
        approve=lambda folders: approve_properties(folders, checkpoint, tmp_path / "rejected.md"),
    )  # fmt: skip
    table = json.loads((folder / "parity.json").read_text())["properties"]
    assert list(table["differences"]["properties.onnx"]["rattled"]) == [
        "gap", "lattice", "gap_deviation", "lattice_deviation",
    ]  # fmt: skip


def labelled_silicon() -> list[Atoms]:
    """Cells with a volume and a class besides energy and forces."""
    frames = silicon(12)
    for atoms in frames:
        atoms.info["volume"] = atoms.get_volume()
        atoms.info["dense"] = "dense" if atoms.get_volume() / len(atoms) < 20.0 else "loose"
    return frames


@pytest.mark.kim
def test_a_trained_multitask_model_is_exported_whole(
    kim_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared before it is written; ASE through KIM and the file of properties give what the trainer gives."""
    # ASE only: tests/integration/test_gate.py has LAMMPS.
    monkeypatch.setattr(gate, "missing_runtimes", lambda: {"LAMMPS": "it is not asked for here"})
    ase.io.write(tmp_path / "silicon.xyz", labelled_silicon(), format="extxyz")
    heads = [
        {"type": "energy"},
        {"type": "property", "target": "volume", "unit": "Å³", "extensive": True, "hidden_channels": 8},
        {"type": "classification", "target": "dense", "classes": ["loose", "dense"], "hidden_channels": 8},
    ]
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, {"model.heads": heads}))
    trainer.train()
    monkeypatch.setattr(sys, "argv", ["kimgnn", "export", str(trainer.run.path), "--name", NAME, "--directory",
                                      str(tmp_path), "--format", "torchscript", "--format", "onnx"])  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    folders = sorted(path for path in tmp_path.iterdir() if "__MO_" in path.name)
    assert len(folders) == 2

    structures = silicon(2, seed=5)
    expected = trainer.predict(structures)
    for folder, file in zip(folders, ("properties.pt", "properties.onnx"), strict=True):
        table = json.loads((folder / "parity.json").read_text())
        assert table["passed"]
        assert table["properties"]["passed"]
        install_model(folder)
        found = load_property_model(folder / file).predict(structures)
        for atoms, properties, right in zip(structures, found, expected, strict=True):
            by_kim = ase_prediction(atoms, folder.name)
            assert by_kim.energy == pytest.approx(right.energy, abs=1e-9)
            np.testing.assert_allclose(by_kim.forces, right.forces, rtol=0, atol=1e-8)
            assert properties.keys() == right.properties.keys() == {"volume", "dense"}
            for name, values in properties.items():
                # Volumes are up to 160 Å³.
                np.testing.assert_allclose(values, right.properties[name], rtol=0, atol=1e-9)
