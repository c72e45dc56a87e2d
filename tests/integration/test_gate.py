"""What an export says in every runtime that there is, in every format, compared before it is written."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from exported import silicon_carbide_structures, small_network

from kimgnn.errors import ExportError, KIMError
from kimgnn.evaluation.predict import Prediction
from kimgnn.export.driver import install_model, is_installed
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import SAMPLES, export_portable_model
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.verify import gate
from kimgnn.verify.parity import torch_predictions
from kimgnn.verify.simulators import lammps_predictions

NAME = "Gate_SiC__MO_000000000010_000"

pytestmark = [pytest.mark.kim, pytest.mark.lammps]


def checkpoint(precision: str = "double") -> Checkpoint:
    """A network of two elements, and a structure of its data."""
    cell = silicon_carbide_structures()["cell"]
    sample = {"symbols": list(cell.symbols), "positions": cell.positions, "cell": cell.cell.array, "pbc": cell.pbc}
    return Checkpoint(small_network(2, precision), {}, {}, data={SAMPLES: [sample]})


def export(directory: Path, formats: list[str], precision: str = "double") -> Path:
    """Export it through the gate."""
    exported = checkpoint(precision)
    approve = partial(gate.approve_exports, checkpoint=exported, rejected=directory / "rejected.md")
    return export_portable_model(exported, NAME, directory, formats=formats, approve=approve)


@pytest.mark.parametrize(("precision", "forces"), [("double", 1e-8), ("single", 1e-4)])
def test_every_format_agrees_in_every_runtime(
    kim_collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str, forces: float
) -> None:
    """In double to 1e-9 eV, 1e-8 eV/Å, 1e-9 eV/Å³; atoms' energies too. The user's collection stays as it is."""
    environment = dict(os.environ)
    folder = export(tmp_path, list(FORMATS), precision)
    table = json.loads((folder / "parity.json").read_text())
    runtimes = [
        f"{chosen.file} in {where}"
        for chosen in FORMATS.values()
        for where in ("Python", "ASE", "LAMMPS on 1 rank", "LAMMPS on 2 ranks")
    ]
    assert sorted(table["differences"]) == sorted(runtimes)
    assert table["allowed"]["forces"] == forces
    for found in table["differences"].values():
        assert len(found) == 8
        for name, differences in found.items():
            for quantity, difference in differences.items():
                assert difference <= table["allowed"][quantity], (name, quantity)
            assert ("stress" in differences) == (name not in ("molecule", "one Si atom", "one C atom"))
    assert table["not_run"] == {}
    page = (folder / "parity.md").read_text()
    for name in model_names(NAME, list(FORMATS)).values():
        assert (tmp_path / name / "parity.md").read_text().partition("\n")[2] == page.partition("\n")[2]
        assert not is_installed(name)
    assert dict(os.environ) == environment
    assert "| model.onnx in LAMMPS on 2 ranks |" in capsys.readouterr().out


def test_what_only_simulators_get_wrong_is_refused(
    kim_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cutoff that is not the network's reaches the driver: the file in Python is right, ASE and LAMMPS are not."""

    def install_spoilt(folder: Path) -> None:
        parameters = folder / "kimgnn.param"
        parameters.write_text(parameters.read_text().replace("cutoff 4.0", "cutoff 3.0"))
        install_model(folder)

    monkeypatch.setattr(gate, "install_model", install_spoilt)
    with pytest.raises(ExportError) as caught:
        export(tmp_path, ["torchscript"])
    message = str(caught.value)
    for runtime in ("ASE", "LAMMPS on 1 rank", "LAMMPS on 2 ranks"):
        for quantity in ("energy", "energies of atoms", "forces", "stress"):
            assert any(
                line.startswith(f"model.pt in {runtime}, ") and f", {quantity}: differs from PyTorch by" in line
                for line in (tmp_path / "rejected.md").read_text().replace("- ", "").splitlines()
            )
    assert "model.pt in ASE, " in message
    assert "in Python, " not in message
    assert [path.name for path in tmp_path.iterdir()] == ["rejected.md"]


def test_lammps_goes_on_behind_a_structure_that_it_refuses(kim_collection: Path, tmp_path: Path) -> None:
    """Each structure has its own numbers, or its own error."""
    network = checkpoint().network
    folder = export_portable_model(checkpoint(), NAME, tmp_path)
    install_model(folder, force=True)
    cell = silicon_carbide_structures()["cell"]
    nowhere = cell.copy()
    nowhere.positions[1] = np.nan
    moved = cell.copy()
    moved.positions[0] += 0.1
    found = lammps_predictions([nowhere, cell, nowhere, nowhere, moved], NAME, network.spec.species)
    assert [type(item) for item in found] == [KIMError, Prediction, KIMError, KIMError, Prediction]
    for item, expected in zip(found[1::3], torch_predictions(network, [cell, moved]), strict=True):
        assert item.energy == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(item.atomic_energies, expected.atomic_energies, atol=1e-9)
