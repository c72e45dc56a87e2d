"""The KIM model driver of networks compiled ahead of time by torch, against the same network in TorchScript."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from exported import CUTOFF, rattled, small_network
from kim_by_hand import KIMModel, logged
from toy_potential import write_package

from kimgnn.export.driver import install_model
from kimgnn.export.formats import FORMATS

pytestmark = pytest.mark.kim

LAYERS = 2
SPECIES = ["Si", "C"]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIM writes kim.log where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def models(kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """KIM names of one network in the two formats of libtorch, installed; by format."""
    network, names = small_network(LAYERS), {}
    for number, format_ in enumerate(("torchscript", "pt2")):
        names[format_] = f"Compiled_{format_}__MO_00000000002{number}_000"
        directory = tmp_path_factory.mktemp(format_) / names[format_]
        write_package(directory, format_, b"", CUTOFF, LAYERS, SPECIES)
        FORMATS[format_].write(network, directory / FORMATS[format_].file, {})
        install_model(directory)
    return names


@pytest.mark.parametrize(
    "atoms",
    [
        rattled(bulk("SiC", "zincblende", a=4.36, cubic=True)),
        Atoms("SiCSi", [(0, 0, 0), (1.8, 0.1, 0), (2.5, 1.5, 0)]),
        Atoms("SiC", [(0, 0, 0), (9, 0, 0)]),
        Atoms("C", [(0, 0, 0)]),
    ],
    ids=["cell", "molecule", "apart", "lone"],
)
def test_equals_torchscript(atoms: Atoms, models: dict[str, str]) -> None:
    """Whatever the counts of atoms, edges and pairs, both formats give the same numbers, to rounding."""
    expected, computed = (KIMModel(models[format_]).compute(atoms) for format_ in ("torchscript", "pt2"))
    for one, other in zip(expected, computed, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-11, rtol=0)


def test_device_that_it_was_not_compiled_for(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled code runs on one kind of device; ``meta`` is one that every torch has."""
    monkeypatch.setenv("KIMGNN_DEVICE", "meta")
    with pytest.raises(RuntimeError):
        KIMModel(models["pt2"])
    assert "model.pt2 is compiled for the device 'cpu', and KIMGNN_DEVICE='meta'." in logged()


@pytest.mark.parametrize("content", [b"no network", b"PK\3\4 the beginning of an archive"])
def test_damaged_network(content: bytes, kim_collection: Path, tmp_path: Path) -> None:
    """A file that is no network is named with what to do."""
    name = f"{tmp_path.name}__MO_000000000022_000"  # one of its own: KIM keeps open what could not be created
    install_model(write_package(tmp_path / name, "pt2", content, CUTOFF, LAYERS, SPECIES))
    with pytest.raises(RuntimeError):
        KIMModel(name)
    assert "model.pt2 cannot be loaded" in logged()
    assert "Export the model again with `kimgnn export`, and bring the driver up to date" in logged()
