"""The folder of a portable model is complete, tells nothing of the machine, and is written whole or not at all."""

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from structures import CUTOFF, mixed_atoms, small_checkpoint
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.export.driver import driver_name
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.physics.potential import CoordinatePotential

NAME = "SchNet_test_SiC__MO_123456789012_000"

REQUIRED_KEYS = {
    *("contributor-id", "date", "description", "developer", "domain", "extended-id", "kim-api-version"),
    *("kim-item-type", "maintainer-id", "model-driver", "potential-type", "repository", "species", "title"),
}


def test_every_file_is_there(tmp_path: Path) -> None:
    """What KIM builds from, what people read, and what LAMMPS runs."""
    folder = export_portable_model(small_checkpoint(["Si", "C"]), NAME, tmp_path)
    assert folder == tmp_path / NAME
    assert {file.name for file in folder.iterdir()} == {
        *("model.pt", "kimgnn.param", "CMakeLists.txt", "kimspec.edn", "README.md", "manifest.yaml"),
        *("training_env.edn", "structure.data", "in.nve", "in.nvt", "in.npt", "in.minimize", "in.elastic"),
    }
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
    assert (folder / "kimgnn.param").read_text() == (
        "kimgnn 2\nbackend torchscript\nmodel model.pt\ncutoff 4.0\nlayers 2\nspecies Si C\n"
    )
    assert f'DRIVER_NAME "{driver_name("torch")}"' in (folder / "CMakeLists.txt").read_text()


def test_nearest_neighbours_are_refused(tmp_path: Path) -> None:
    """Also where the number is the transform's default; all neighbours within the cutoff are fine."""
    checkpoint = small_checkpoint(["Si", "C"])
    for options in ({"max_neighbors": 8}, {}):
        nearest = replace(checkpoint, transform={"name": "CrystalGraph", "kwargs": {"cutoff": CUTOFF} | options})
        with pytest.raises(ExportError, match=r"the nearest neighbours.*max_neighbors: null"):
            export_portable_model(nearest, NAME, tmp_path)
    assert not list(tmp_path.iterdir())
    every = replace(checkpoint, transform={"name": "CrystalGraph", "kwargs": {"cutoff": CUTOFF, "max_neighbors": None}})
    export_portable_model(every, NAME, tmp_path)


def test_kimspec_has_the_required_keys(tmp_path: Path) -> None:
    """Those that KIM asks of a portable model."""
    text = (export_portable_model(small_checkpoint(["Si", "C"]), NAME, tmp_path) / "kimspec.edn").read_text()
    entries = dict(re.findall(r'^ "([^"]+)" (.+)$', text, re.MULTILINE))
    assert entries.keys() >= REQUIRED_KEYS
    assert json.loads(entries["extended-id"]) == NAME
    assert entries["species"] == '["Si" "C"]'


def test_readme_says_what_a_user_must_know(tmp_path: Path) -> None:
    """Errors with units, cutoff, influence distance, species, energy zero, and how to run it."""
    text = (export_portable_model(small_checkpoint(["Si", "C"]), NAME, tmp_path) / "README.md").read_text()
    for phrase in ("0.125 eV/Å", "4 Å", "8 Å", "Si C", "C -1.5 eV", f"{NAME} metal", f'KIM("{NAME}")'):
        assert phrase in text


def test_nothing_tells_of_the_machine(tmp_path: Path) -> None:
    """Absolute paths are cut to their last part."""
    folder = export_portable_model(small_checkpoint(["Si"]), NAME, tmp_path)
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    assert manifest["dataset"]["path"] == "silicon.xyz"
    for file in folder.iterdir():
        content = file.read_bytes()
        assert b"/somewhere" not in content
        assert str(Path.home()).encode() + b"/" not in content
        assert str(tmp_path).encode() not in content


def test_tarball_holds_the_folder(tmp_path: Path) -> None:
    """Under the model's name, and without the owner's."""
    folder = export_portable_model(small_checkpoint(["Si"]), NAME, tmp_path, tarball=True)
    with tarfile.open(tmp_path / f"{NAME}.tar.gz") as archive:
        assert {Path(name).name for name in archive.getnames()[1:]} == {file.name for file in folder.iterdir()}
        assert {(entry.uname, entry.uid) for entry in archive} == {("", 0)}


def test_a_folder_is_replaced_only_by_force(tmp_path: Path) -> None:
    """An empty folder is no obstacle; a full one is kept."""
    checkpoint = small_checkpoint(["Si"])
    (tmp_path / NAME).mkdir()
    folder = export_portable_model(checkpoint, NAME, tmp_path)
    (folder / "notes").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        export_portable_model(checkpoint, NAME, tmp_path)
    assert (folder / "notes").read_text() == "mine"
    export_portable_model(checkpoint, NAME, tmp_path, force=True)
    assert not (folder / "notes").exists()


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder stays, and no half-written one is left behind."""
    checkpoint = small_checkpoint(["Si"])
    folder = export_portable_model(checkpoint, NAME, tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kimgnn.export.portable_model.write_data", full)
    with pytest.raises(ExportError, match="No space left"):
        export_portable_model(checkpoint, NAME, tmp_path, force=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_a_wrong_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """With KIM's rule."""
    with pytest.raises(ExportError, match="12 digits"):
        export_portable_model(small_checkpoint(["Si"]), "Si-potential", tmp_path)
    assert not any(tmp_path.iterdir())


def test_decks_follow_the_structure(tmp_path: Path) -> None:
    """A slab gets no barostat, and a checkpoint without a structure no deck."""
    checkpoint = small_checkpoint(["Si"])
    slab = mixed_atoms(["Si"])
    slab.pbc = (True, True, False)
    folder = export_portable_model(checkpoint, NAME, tmp_path / "slab", structure=slab)
    assert "boundary p p s" in (folder / "in.nve").read_text()
    assert not (folder / "in.npt").exists()
    bare = export_portable_model(replace(checkpoint, data={}), NAME, tmp_path / "bare")
    assert not (bare / "in.nve").exists()


def test_torchml_folder(tmp_path: Path) -> None:
    """The official driver's file names, its version, and species in an order that it cannot confuse."""
    checkpoint = small_checkpoint(["H", "C"])
    folder = export_portable_model(checkpoint, NAME, tmp_path, driver="torchml", driver_version="000")
    assert "TorchML__MD_173118614730_000" in (folder / "CMakeLists.txt").read_text()
    assert (folder / "kliff_graph.param").read_text().splitlines()[1:3] == ["2", "C H"]
    assert "kim interactions C H\n" in (folder / "in.nve").read_text()
    names = [argument.name for argument in torch.jit.load(folder / "model.pt").forward.schema.arguments]
    assert names == ["self", "species", "coords", "edge_index0", "edge_index1", "contributions"]


class Pairs(nn.Module):
    """A pair potential written for RadialGraph."""

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(coords[edge_index0[0]] - coords[edge_index0[1]], dim=1)
        atoms = torch.zeros_like(coords[:, 0]).index_add(0, edge_index0[1], z[edge_index0[0]] / distances)
        slots = torch.zeros(int(contributions.max()) + 1, dtype=atoms.dtype)
        return slots.index_add(0, contributions, atoms)[::2]


class Total(Pairs):
    """One that gives only the total of the real atoms."""

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(coords[edge_index0[0]] - coords[edge_index0[1]], dim=1)
        return (z[edge_index0[0]] / distances * (contributions[edge_index0[1]] == 0)).sum().reshape(1)


def module_checkpoint(module: nn.Module) -> Checkpoint:
    """A user's module in place of a network."""
    potential = CoordinatePotential(module, ["z", "coords", "edge_index0", "contributions"]).eval()
    transform = {"name": "RadialGraph", "kwargs": {"species": ["Si", "C"], "cutoff": CUTOFF, "n_layers": 1}}
    return Checkpoint(potential, transform, {}, {}, small_checkpoint(["Si", "C"]).data)


def test_a_module_is_exported_for_torchml(tmp_path: Path) -> None:
    """Its graph's options stand in the transform."""
    folder = export_portable_model(module_checkpoint(Pairs()), NAME, tmp_path, driver="torchml")
    assert "TorchML__MD_173118614730_001" in (folder / "CMakeLists.txt").read_text()
    assert (folder / "kliff_graph.param").read_text().splitlines()[1:3] == ["2", "Si C"]


def test_elements_that_a_module_was_not_trained_on_are_not_exported(tmp_path: Path) -> None:
    """The transform lists all that the data have; a checkpoint of before does not say which were trained on."""
    checkpoint = module_checkpoint(Pairs())
    for elements in (["Si", "C", "Ge"], ["C", "Ge", "Si"]):
        checkpoint.transform["kwargs"]["species"] = elements
        trained = replace(checkpoint, data=checkpoint.data | {"elements": ["C", "Si"]})
        folder = export_portable_model(trained, NAME, tmp_path, driver="torchml", force=True)
        kept = [symbol for symbol in elements if symbol != "Ge"]
        assert (folder / "kliff_graph.param").read_text().splitlines()[1:3] == ["2", " ".join(kept)]
        assert "elements | C, Si" in (folder / "README.md").read_text()
    folder = export_portable_model(checkpoint, NAME, tmp_path, driver="torchml", force=True)
    assert (folder / "kliff_graph.param").read_text().splitlines()[1] == "3"


def test_a_module_without_atomic_energies_is_exported_with_a_warning(tmp_path: Path) -> None:
    """Which its README repeats."""
    with pytest.warns(UserWarning, match="only total energies"):
        folder = export_portable_model(module_checkpoint(Total()), NAME, tmp_path, driver="torchml")
    assert "only total energies" in (folder / "README.md").read_text()


def test_a_module_cannot_run_in_our_driver(tmp_path: Path) -> None:
    """It takes coordinates; the message names the driver that gives them."""
    with pytest.raises(ExportError, match="torchml"):
        export_portable_model(module_checkpoint(Pairs()), NAME, tmp_path)
