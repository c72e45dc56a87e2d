"""Trainings of a committee on the labels that there are: the data of each, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ase import Atoms
from kliff.dataset import Configuration

from kimgnn.active.frames import read_frames, write_frames
from kimgnn.data.sources import read_configurations
from kimgnn.data.splits import split_indices
from kimgnn.data.to_atoms import save_configurations
from kimgnn.errors import TrainingError
from kimgnn.manifest.dataset import Keys, Units
from kimgnn.manifest.schema import Manifest
from kimgnn.manifest.trial import with_values
from kimgnn.training.trainer import GNNLightningTrainer

PARTS: Final = {"train": "training", "val": "validation", "test": "test"}
"""Parts of the data -> their blocks in the manifest."""


def divide(manifest: Manifest, folder: Path) -> None:
    """Write the structures of the data set to ``train.extxyz``, ``val.extxyz`` and ``test.extxyz``, once.

    Parts are those of a training; a part without structures gets no file. ``train.extxyz`` is written last.

    Args:
        manifest: Of the run.
        folder: Where to; made if missing.

    Raises:
        DataError: See `kimgnn.data.sources.read_configurations`.
    """
    if (folder / "train.extxyz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    plain = manifest.to_dict()
    source, training = plain["dataset"] | {"weights": None}, plain["training"]
    configurations = read_configurations(source)
    indices = split_indices(len(configurations), training, plain["workspace"]["seed"])
    parts: dict[str, Sequence[Configuration]] = {
        name: [configurations[index] for index in getattr(indices, "validation" if name == "val" else name)]
        for name in reversed(PARTS)
    }
    for name in ("val", "test"):
        where = f"{PARTS[name]}_dataset"
        if path := training[where].get("path"):
            parts[name] = read_configurations(source | {"path": path, "slices": None}, f"training.{where}")
    for name, found in parts.items():
        if found:
            save_configurations(found, folder / f"{name}.extxyz")


def validation_share(manifest: Manifest) -> float:
    """Return the fraction of labels that validate instead of being trained on: ``val_size``, where it is a fraction."""
    size = manifest.training.validation_dataset.val_size
    return size if isinstance(size, float) else 0.0


def write_data(folder: Path, target: Path, rounds: Sequence[Sequence[Atoms]], share: float) -> int:
    """Write what a training learns from and is validated on: the data set's parts, and labels of all rounds.

    Of each round, the last structures are validated on.

    Args:
        folder: That of `divide`.
        target: Folder that gets ``train.extxyz`` and, if there are such structures, ``val.extxyz``.
        rounds: Labelled structures of each round.
        share: Of each round that is validated on.

    Returns:
        Structures to train on.
    """
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: read_frames(folder / f"{name}.extxyz") for name in ("train", "val") if _there(folder, name)}
    for labelled in rounds:
        n_train = len(labelled) - round(share * len(labelled))
        parts["train"] = parts["train"] + list(labelled[:n_train])
        if n_train < len(labelled):
            parts["val"] = parts.get("val", []) + list(labelled[n_train:])
    for name, frames in parts.items():
        write_frames(target / f"{name}.extxyz", frames)
    return len(parts["train"])


def training_manifest(
    manifest: Manifest, name: str, folder: Path, data: Path, last: str | None, test: Path
) -> dict[str, Any]:
    """Return the manifest of one training.

    Args:
        manifest: With the ``active`` block.
        name: Of the run.
        folder: Gets the run directories.
        data: Folder of `write_data`.
        last: Run directory whose weights it begins with; ``None`` begins anew.
        test: The file of test structures, which need not be there.
    """
    plain = manifest.to_dict()
    if last is not None:
        plain = with_values(plain, manifest.active.retraining)
        plain["training"]["initial_weights"] = last
    plain["workspace"] |= {"name": str(folder), "resume": True}
    plain["model"]["name"] = name
    # Written by ourselves, in our own units.
    plain["dataset"] |= {
        "type": "ase",
        "path": str(data / "train.extxyz"),
        "keys": Keys().model_dump(),
        "units": Units().model_dump(),
        "stress_positive": "tension",
        "slices": None,
        "id_column": None,
        "structure_column": None,
        "table": None,
        "materials_project": None,
        "save": False,
    }
    validation = {"path": str(data / "val.extxyz")} if (data / "val.extxyz").exists() else {}
    plain["training"] |= {
        "training_dataset": {},
        "validation_dataset": validation,
        "test_dataset": {"path": str(test)} if test.exists() else {},
    }
    return plain


def train(plain: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Train, or go on where a training stopped, and return run directory and errors.

    Returns:
        The run directory; metric -> error on the test set, or on validation data where there is none.

    Raises:
        TrainingError: It ended before its time.
    """
    trainer = GNNLightningTrainer(plain)
    trainer.train()
    run = trainer.run.path
    if not trainer.run.finished:
        raise TrainingError("training ended before its time", where=str(run), remedy="Raise training.max_time.")
    split = next((name for name in ("test", "validation") if trainer.splits[name]), None)
    found = {} if split is None else trainer.evaluate(split)
    return str(run), {name: value for name, value in found.items() if not name.endswith("_count")}


def _there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.extxyz").exists()
