"""One data set and one division of it for several trainings: what they share, told apart by content, not by path."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from kliff.dataset import Configuration

from kimgnn.data.sources import read_configurations
from kimgnn.data.splits import split_indices
from kimgnn.errors import ManifestError, TrainingError
from kimgnn.files import atomic_write
from kimgnn.models.tasks import Task, tasks_of
from kimgnn.training.targets import labels_read, state_specs, target_spec
from kimgnn.transforms.graph import TARGETS, label_of

BLOCKS: Final = {"train": "training_dataset", "val": "validation_dataset", "test": "test_dataset"}
"""Part of the data -> the block of `training` that says which structures are in it."""

SHOWN: Final = 5
"""Structures that a message names."""


@dataclass(frozen=True)
class SharedData:
    """The structures that a manifest names.

    Attributes:
        configurations: All of them, those of files of their own at the end.
        n_divided: How many are divided into parts: those that are not of a file of their own.
        apart: Part -> its own file, and how many structures it has.
        tasks: What the property and classification heads predict.
        read: Which of energy, forces and stress are read.
    """

    configurations: list[Configuration]
    n_divided: int
    apart: dict[str, tuple[Any, int]]
    tasks: list[Task]
    read: Sequence[str]

    @cached_property
    def structures(self) -> str:
        """SHA-256 of the structures."""
        return structures_hash(self.configurations)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Head, or energy, forces and stress -> SHA-256 of its labels."""
        return _label_hashes(self.configurations, self.tasks, self.read)

    @property
    def identifiers(self) -> list[str]:
        """Of the structures that are divided."""
        return [item.identifier for item in self.configurations[: self.n_divided]]

    def positions(self, identifiers: Collection[str]) -> list[int]:
        """Return where these are among the structures that are divided, in their order."""
        return [index for index, identifier in enumerate(self.identifiers) if identifier in identifiers]

    def only(self, identifiers: Collection[str]) -> SharedData:
        """Return these, of the structures that are divided, and all of files of their own."""
        kept = [self.configurations[index] for index in self.positions(identifiers)]
        return replace(self, configurations=kept + self.configurations[self.n_divided :], n_divided=len(kept))


@dataclass(frozen=True)
class Division:
    """Who is in which part.

    Attributes:
        indices: Part -> positions in the data set; empty for one that is read from a file of its own.
        apart: Part -> its own file, where it has one.
        sizes: Part -> number of structures.
    """

    indices: dict[str, list[int]]
    apart: dict[str, Any]
    sizes: dict[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 of who is in which part."""
        return hashlib.sha256(repr((self.indices, self.sizes)).encode()).hexdigest()

    def within(self, positions: Sequence[int]) -> Division:
        """Return the same of a data set that has the structures at these positions, and others, which no part gets."""
        return replace(self, indices={part: [positions[i] for i in found] for part, found in self.indices.items()})

    def write_indices(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write a file of indices for each part, once, and return the blocks of `training` that name them.

        Raises:
            TrainingError: A file is there already, and divides the structures otherwise.
        """
        folder.mkdir(parents=True, exist_ok=True)
        blocks: dict[str, dict[str, Any]] = {block: {} for block in BLOCKS.values()}
        for part, indices in self.indices.items():
            path = folder / f"{part}_indices.txt"
            if path.is_file() and [int(word) for word in path.read_text(encoding="utf-8").split()] != indices:
                raise TrainingError(
                    "divides the structures otherwise", where=str(path), remedy="Name another folder in --output."
                )
            if indices:
                if not path.is_file():
                    with atomic_write(path) as file:
                        file.writelines(f"{index}\n" for index in indices)
                blocks[BLOCKS[part]] = {f"{part}_indices": str(path)}
        return blocks | {BLOCKS[part]: {"path": path} for part, path in self.apart.items()}


def read_shared(manifest: Mapping[str, Any], where: str) -> SharedData:
    """Read the structures of a manifest, as its trainer would.

    Args:
        manifest: Plain, every default filled.
        where: What the manifest is called, for messages.

    Raises:
        DataError: A structure or a label cannot be used.
    """
    heads = manifest["model"]["heads"]
    tasks = tasks_of(heads)
    specs = [*dict.fromkeys(target_spec(task) for task in tasks), *state_specs(manifest["model"]["options"])]
    labels, table = labels_read(heads), manifest["model"]["options"].get("element_features")
    source = manifest["dataset"] | {"weights": None}
    configurations = read_configurations(source, f"{where}: dataset", specs, labels, table)
    n_divided = len(configurations)
    apart = {}
    for part in ("val", "test"):
        path = manifest["training"][BLOCKS[part]].get("path")
        if path:
            place, own = f"{where}: training.{BLOCKS[part]}", source | {"path": path, "slices": None}
            found = read_configurations(own, place, specs, labels, table)
            apart[part] = (path, len(found))
            configurations += found
    return SharedData(configurations, n_divided, apart, tasks, labels)


def divide(data: SharedData, manifest: Mapping[str, Any], where: str) -> Division:
    """Divide the structures as a manifest says.

    Raises:
        ManifestError: The parts are larger than the data set, or nothing is kept for the test.
    """
    divided = split_indices(data.n_divided, manifest["training"], manifest["workspace"]["seed"])
    parts = {"train": divided.train, "val": divided.validation, "test": divided.test}
    indices = {part: [] if part in data.apart else [int(index) for index in found] for part, found in parts.items()}
    sizes = {part: len(found) for part, found in indices.items()} | {part: n for part, (_, n) in data.apart.items()}
    if not sizes["test"]:
        raise ManifestError(
            "keeps no structures to compare networks on",
            where=f"{where}: training.test_dataset",
            remedy="Set test_size: the validation set chooses the weights, and flatters them.",
        )
    return Division(indices, {part: path for part, (path, _) in data.apart.items()}, sizes)


def check_same(first: SharedData, other: SharedData, names: tuple[str, str]) -> None:
    """Refuse manifests that are not about the same structures and labels.

    Args:
        first: Of the first manifest.
        other: Of another one.
        names: What they are called.

    Raises:
        ManifestError: With what differs.
    """
    begun, added = names
    remedy = "Only what is trained and tested on the same data can be compared."
    if other.structures != first.structures:
        counts = [len(data.configurations) for data in (first, other)]
        what = f"{counts[1]} against {counts[0]}" if counts[0] != counts[1] else "others, or in another order"
        apart = {item.identifier for item in first.configurations} ^ {item.identifier for item in other.configurations}
        if 0 < len(apart) < counts[0]:
            what += f" ({shortened(apart)}: in one of them only)"
            remedy += " Where on_error: skip leaves out what one of them cannot use, correct it, or remove it."
        raise ManifestError(
            f"its structures are not those of {begun}: {what}", where=f"{added}: dataset", remedy=remedy
        )
    ours = {task.name: task for task in first.tasks}
    for task in other.tasks:
        own = ours.get(task.name, task)
        if measured(task) != measured(own):
            raise ManifestError(
                f"the head {task.name!r} predicts something else than that of {begun}",
                where=f"{added}: model.heads",
                value=measured(task),
                allowed=str(measured(own)),
                remedy="Give it another name.",
            )
    for name, digest in other.labels.items():
        if first.labels.get(name, digest) != digest:
            raise ManifestError(
                f"its labels of {name} are not those of {begun}", where=f"{added}: dataset", remedy=remedy
            )


def shortened(identifiers: Collection[str]) -> str:
    """Return the first of these, and how many more there are."""
    first = sorted(map(str, identifiers))[:SHOWN]
    more = len(identifiers) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def measured(task: Task) -> tuple[Any, ...]:
    """What must be the same for errors to be comparable; what is learned inside may differ."""
    return (task.kind, task.unit, task.classes, task.components, task.per_atom, task.extensive)


def structures_hash(configurations: Sequence[Configuration]) -> str:
    """Return the SHA-256 of structures without labels, which depend on the heads."""
    digest = hashlib.sha256()
    for item in configurations:
        digest.update(" ".join(item.species).encode())
        for values in (item.coords, item.cell, item.PBC):
            digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _label_hashes(
    configurations: Sequence[Configuration], tasks: Sequence[Task], labels: Sequence[str]
) -> dict[str, str]:
    """Return label or head -> SHA-256 of its values."""
    values = {label: [label_of(item, label) for item in configurations] for label in labels}
    values |= {task.name: [item.metadata[TARGETS][task.target] for item in configurations] for task in tasks}
    hashes = {}
    for name, arrays in values.items():
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        hashes[name] = digest.hexdigest()
    return hashes
