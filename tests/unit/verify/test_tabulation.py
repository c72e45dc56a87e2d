"""The error of tables is measured, told wherever the model is described, and refused where it is large."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from structures import small_checkpoint

from kimgnn.errors import ExportError
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.verify import gate
from kimgnn.verify.tabulation import tabulate

NAME = "Tables_test_SiC__MO_123456789012_000"


def test_the_error_is_measured() -> None:
    """It falls with more intervals; the default's is far below what is allowed."""
    checkpoint = small_checkpoint(["Si", "C"])
    default, coarse = tabulate(checkpoint, True), tabulate(checkpoint, 300)
    assert default.intervals == 393  # 8 a Gaussian, of which there are 50
    assert coarse.intervals == 300
    # (393 / 300)⁶ is 5, and a power less of the derivative 4.
    assert 0 < default.energy_error < coarse.energy_error / 3 < 1e-6
    assert 0 < default.forces_error < coarse.forces_error / 2.5 < 1e-5
    assert tabulate(checkpoint, False) is None


def test_a_large_error_is_refused() -> None:
    """The message says how large, what is allowed, and what to do."""
    with pytest.raises(ExportError) as caught:
        tabulate(small_checkpoint(["Si", "C"]), 40)
    energy, forces = str(caught.value).splitlines()
    assert energy.startswith("export.tabulate: with tables of 40 intervals, energy differs by ")
    assert energy.endswith("Allowed: 1e-06. Take more intervals: export.tabulate: 80, or --intervals 80.")
    assert "forces differ by " in forces


def test_what_cannot_have_tables_is_refused() -> None:
    """A network of angles."""
    checkpoint = small_checkpoint(["Si", "C"])
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 1.0}
    options = {"cutoff": 4.0, "hidden_channels": 8, "cutoff_function": "polynomial", "normalization": "layer"}
    network = build_network(NetworkSpec("alignn", options, [head], ["Si", "C"]))
    with pytest.raises(ExportError, match=r"export\.tabulate: the model cannot be tabulated: "):
        tabulate(replace(checkpoint, network=network), True)


def test_a_model_tells_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README, kimspec, parity table and the ONNX file's metadata; files are compared with the network with tables."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(gate, "missing_tools", lambda: ["cmake"])
    checkpoint = small_checkpoint(["Si", "C"])
    tabulation = tabulate(checkpoint, 300)
    rejected = tmp_path / "rejected.md"
    told: list[str] = []
    approve = partial(gate.approve_exports, checkpoint=checkpoint, rejected=rejected, tell=told.append)
    with pytest.raises(ExportError, match=r"differs from PyTorch"):  # with the network without
        export_portable_model(checkpoint, NAME, tmp_path, formats=["onnx"], tabulation=tabulation, approve=approve)
    approve = partial(approve, tabulation=tabulation)
    folder = export_portable_model(checkpoint, NAME, tmp_path, formats=["onnx"], tabulation=tabulation, approve=approve)
    for name in ("README.md", "kimspec.edn", "parity.md"):
        assert str(tabulation) in (folder / name).read_text()
    assert f"energy {tabulation.energy_error:.1e} eV/atom" in str(tabulation)
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["tables"]["energy_error"] == tabulation.energy_error
    metadata = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    assert metadata["tables"] == str(tabulation)
    with pytest.raises(ExportError, match="the TorchML driver gets no tables"):
        export_portable_model(checkpoint, NAME, tmp_path / "other", driver="torchml", tabulation=tabulation)
