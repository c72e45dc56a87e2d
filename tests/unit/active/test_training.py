"""The data of each training: the data set's parts, and the labels of all rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from silicon_run import silicon, tiny_manifest, write_silicon

from kimgnn.active.frames import read_frames
from kimgnn.active.training import divide, training_manifest, validation_share, write_data
from kimgnn.data.sources import read_configurations
from kimgnn.data.splits import split_indices
from kimgnn.manifest import load_manifest
from kimgnn.manifest.schema import Manifest


def manifest(folder: Path, changes: dict[str, Any] | None = None) -> Manifest:
    block = {"explore": {"rattle": {}}, "label": {"folder": "dft"}, "retraining": {"training.epochs": 2}}
    return load_manifest(tiny_manifest(folder, {"model.ensemble": 2, "active": block} | (changes or {})))


def energies(path: Path) -> list[float]:
    return [atoms.get_potential_energy() for atoms in read_frames(path)]


def test_the_parts_are_those_of_a_training(tmp_path: Path) -> None:
    asked = manifest(tmp_path)
    divide(asked, tmp_path / "data")
    plain = asked.to_dict()
    configurations = read_configurations(plain["dataset"])
    indices = split_indices(len(configurations), plain["training"], plain["workspace"]["seed"])
    for name, part in (("train", indices.train), ("val", indices.validation), ("test", indices.test)):
        expected = [configurations[index].energy for index in part]
        np.testing.assert_allclose(energies(tmp_path / "data" / f"{name}.extxyz"), expected, rtol=0, atol=1e-8)


def test_files_of_their_own_are_read(tmp_path: Path) -> None:
    write_silicon(tmp_path / "test.xyz", 3, seed=5)
    changes = {"training.test_dataset": {"path": str(tmp_path / "test.xyz")}, "training.validation_dataset": None}
    divide(manifest(tmp_path, changes), tmp_path / "data")
    assert len(read_frames(tmp_path / "data" / "test.extxyz")) == 3
    assert not (tmp_path / "data" / "val.extxyz").exists()


def test_labels_are_added_and_a_fraction_validates(tmp_path: Path) -> None:
    """``val_size: 0.25`` holds for the labels of a round too; a number of structures is one of the data set's own."""
    asked = manifest(tmp_path, {"training.validation_dataset": {"val_size": 0.25}})
    assert validation_share(asked) == 0.25
    assert validation_share(manifest(tmp_path)) == 0.0
    divide(asked, tmp_path / "data")
    rounds = [silicon(4, seed=1), silicon(5, seed=2)]
    n_train = write_data(tmp_path / "data", tmp_path / "round", rounds, 0.25)
    train, val = (energies(tmp_path / "round" / f"{name}.extxyz") for name in ("train", "val"))
    assert n_train == len(train) == 6 + 3 + 4
    assert len(val) == 3 + 1 + 1
    assert train[6:9] == pytest.approx([atoms.get_potential_energy() for atoms in rounds[0][:3]])
    assert val[-1] == pytest.approx(rounds[1][-1].get_potential_energy())


def test_the_manifest_of_a_training(tmp_path: Path) -> None:
    """It is one, whatever the data set's own files, names and units are; retraining begins with weights."""
    changes = {"dataset.units": {"energy": "kcal/mol"}, "dataset.keys": {"energy": "energy"}, "dataset.slices": "0:12"}
    asked = manifest(tmp_path, changes)
    write_data_to = tmp_path / "round"
    divide(asked, tmp_path / "data")
    write_data(tmp_path / "data", write_data_to, [], 0.0)
    test = tmp_path / "data" / "test.extxyz"
    first = training_manifest(asked, "round_00", tmp_path / "runs", write_data_to, None, test)
    again = training_manifest(asked, "round_01", tmp_path / "runs", write_data_to, str(tmp_path), test)
    for plain, epochs, weights in ((first, 3, None), (again, 2, str(tmp_path))):
        loaded = load_manifest(plain)
        assert loaded.dataset.units.energy == "eV"
        assert loaded.dataset.slices is None
        assert loaded.training.epochs == epochs
        assert loaded.training.initial_weights == weights
        assert loaded.workspace.resume is True
