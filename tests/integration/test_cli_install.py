"""From a run to a model that ASE runs, with the commands of the README, in a KIM collection of the tests' own."""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.kim import KIM
from silicon_run import tiny_manifest

from kimgnn import GNNLightningTrainer, cli
from kimgnn.export.driver import is_installed

pytestmark = pytest.mark.kim

NAME = "Commands_Test_Si__MO_000000000009_000"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("user")
    trainer = GNNLightningTrainer(tiny_manifest(folder, {"training.epochs": 1, "export.model_name": NAME}))
    trainer.train()
    return trainer.run.path


def kimgnn(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["kimgnn", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_collection_that_cannot_be_written(
    kim_collection: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is named with what to do, and the exported model is kept."""
    (tmp_path / "file").touch()
    config = (
        (kim_collection / "config")
        .read_text()
        .replace(f"portable-models-dir = {kim_collection}", f"portable-models-dir = {tmp_path / 'file'}")
    )
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("KIM_API_CONFIGURATION_FILE", str(tmp_path / "config"))
    assert kimgnn(monkeypatch, "export", run, "--directory", tmp_path, "--no-verify", "--install") == 1
    messages = capsys.readouterr().err
    assert f"{tmp_path / 'file'}/portable-models-dir: the KIM collection cannot be written: Not a directory" in messages
    assert "make the folder writable" in messages
    assert (tmp_path / NAME / "model.pt").is_file()


def test_installed_model_gives_what_predict_gives(
    kim_collection: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``export --install``, then ASE: what ``predict`` wrote, to the eight digits of positions in its file."""
    data = run.parents[1] / "silicon.xyz"
    assert kimgnn(monkeypatch, "export", run, "--directory", tmp_path, "--install") == 0
    assert is_installed(NAME)
    assert kimgnn(monkeypatch, "predict", run, data, "--output", tmp_path / "out.xyz") == 0
    for predicted in ase.io.read(tmp_path / "out.xyz", index=":3", format="extxyz"):
        atoms = predicted.copy()
        atoms.calc = KIM(NAME)
        assert atoms.get_potential_energy() == pytest.approx(predicted.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), predicted.get_forces(), atol=1e-6)
