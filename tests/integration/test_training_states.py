"""MEGNet with state inputs, from labels to predictions and exports: a temperature and a method."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.units import kB
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer, cli
from kimgnn.errors import DataError, ManifestError
from kimgnn.export.property_package import export_properties
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.verify.property_gate import approve_properties

THERMAL = {"type": "property", "target": "thermal", "unit": "eV/atom", "hidden_channels": 16}
OPTIONS = {
    "num_blocks": 1, "hidden_channels": 16, "block_channels": 16, "set2set_channels": 4,
    "state_inputs": [{"name": "temperature"}, {"name": "method", "classes": ["PBE", "HSE"]}],
}  # fmt: skip


def heated_silicon(n: int = 24) -> list[Atoms]:
    """Cells with the thermal energy of Dulong and Petit, which one method puts 0.1 eV higher than the other."""
    frames = silicon(n)
    for index, atoms in enumerate(frames):
        temperature = 50.0 * (1 + index * 7 % n)
        atoms.info |= {"T": temperature, "method": ("PBE", "HSE")[index % 2]}
        atoms.info["thermal"] = 3 * kB * temperature + 0.1 * (index % 2)
    return frames


@pytest.fixture
def manifest(tmp_path: Path) -> Any:
    """A manifest of MEGNet on heated silicon, ``T`` read as the temperature."""

    def make(frames: list[Atoms] | None = None, **changes: Any) -> dict[str, Any]:
        ase.io.write(tmp_path / "silicon.xyz", frames or heated_silicon(), format="extxyz")
        return tiny_manifest(
            tmp_path,
            {
                "dataset.targets": {"temperature": "T"},
                "model.architecture": "megnet",
                "model.options": OPTIONS,
                "model.heads": [THERMAL],
                "training.loss.weights": None,
                **changes,
            },
        )

    return make


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["kimgnn", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_it_learns_what_depends_on_the_state_alone(
    manifest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean and spread are the training set's; predictions follow the states, by run, file, command and option."""
    training = {"training_dataset.train_size": 20, "validation_dataset.val_size": 2, "test_dataset.test_size": 2}
    changes: dict[str, Any] = {f"training.{key}": value for key, value in training.items()}
    changes |= {"training.epochs": 60, "training.batch_size": 5, "training.optimizer.learning_rate": 1e-2}
    trainer = GNNLightningTrainer(manifest(**changes))
    trainer.train()
    learned = [item.metadata["targets"]["temperature"].item() for item in trainer.splits["train"]]
    state = load_checkpoint(trainer.run.path).spec.options["state_inputs"][0]
    assert state["mean"] == pytest.approx(np.mean(learned))
    assert state["spread"] == pytest.approx(np.std(learned))
    metrics = json.loads((trainer.run.path / "report" / "metrics.json").read_text())
    labels = [atoms.info["thermal"] for atoms in heated_silicon()]
    assert metrics["train"]["thermal_mae"] < 0.3 * np.std(labels)  # without its states, it is near 0.9 of it

    (atoms,) = silicon(1)
    atoms.info = {"temperature": 900.0, "method": "HSE"}
    (by_run,) = trainer.predict([atoms])
    ase.io.write(tmp_path / "new.xyz", atoms, format="extxyz")
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(trainer.run.path)
    export_properties(
        checkpoint, "heated", tmp_path, formats=["torchscript", "onnx"],
        approve=lambda folders: approve_properties(folders, checkpoint, tmp_path / "rejected.md"),
    )  # fmt: skip
    for model in (trainer.run.path, tmp_path / "heated" / "properties.pt", tmp_path / "heated" / "properties.onnx"):
        found = []
        for options in ([], ["--state", "temperature=300", "--state", "method=PBE"]):
            assert run(monkeypatch, "predict", model, "new.xyz", "--output", "out.json", "--force", *options) == 0
            (row,) = json.loads(Path("out.json").read_text())
            found.append(row["thermal (eV/atom)"])
        assert found[0] == pytest.approx(by_run.properties["thermal"].item(), abs=1e-7)
        assert found[0] - found[1] == pytest.approx(3 * kB * 600 + 0.1, rel=0.5)

    capsys.readouterr()
    assert run(monkeypatch, "predict", trainer.run.path, "new.xyz", "--output", "x.csv", "--state", "pressure=1") == 1
    assert "temperature=VALUE, method=VALUE" in capsys.readouterr().err
    ase.io.write("bare.xyz", silicon(1)[0], format="extxyz")
    assert run(monkeypatch, "predict", trainer.run.path, "bare.xyz", "--output", "x.csv") == 1
    assert "bare.xyz:0 (temperature): the structure has no such value" in capsys.readouterr().err


def test_structures_without_a_state_are_told_by_id(manifest: Any) -> None:
    """Each of them, before training; with none anywhere, what the column may be called."""
    frames = heated_silicon()
    del frames[3].info["T"], frames[5].info["method"]
    with pytest.raises(DataError, match=r"(?s)silicon.xyz:3 \(temperature\).*each structure.*silicon.xyz:5 \(method\)"):
        GNNLightningTrainer(manifest(frames))
    with pytest.raises(DataError, match=r"dataset.targets.temperature.*'temperature'.*T, "):
        GNNLightningTrainer(manifest(**{"dataset.targets": {}}))
    frames = heated_silicon()
    for atoms in frames:
        atoms.info["T"] = 300.0
    with pytest.raises(DataError, match="temperature.*same value"):
        GNNLightningTrainer(manifest(frames))


def test_what_is_told_is_not_learned(manifest: Any) -> None:
    """A state that is a head's target too, two of one name, a class alone, an unknown key."""
    heads = [THERMAL, {"type": "property", "target": "temperature"}]
    with pytest.raises(ManifestError, match=r"model.options.state_inputs.*head's target.*'temperature'"):
        GNNLightningTrainer(manifest(**{"model.heads": heads}))
    for states, words in (
        ([{"name": "T"}, {"name": "T"}], "different names"),
        ([{"name": "method", "classes": ["PBE"]}], "at least two"),
        ([{"name": "T", "unit": "K"}], "unit"),
    ):
        with pytest.raises(ManifestError, match=words):
            GNNLightningTrainer(manifest(**{"model.options": OPTIONS | {"state_inputs": states}}))
