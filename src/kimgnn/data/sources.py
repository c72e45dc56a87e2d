"""A manifest's `dataset` block -> KLIFF configurations: which files, which frames, under which keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any, Final

import ase
import kliff.dataset.dataset as kliff_dataset
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats, string2index
from kliff.dataset import Configuration, Dataset

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.data.labels import checked_label, find_label, has_label
from kimgnn.data.weights import apply_weights
from kimgnn.errors import DataError, ManifestError, did_you_mean
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS

KLIFF_KEYS: Final[dict[str, tuple[str, ...]]] = {
    ENERGY: ("Energy", "energy"),
    FORCES: ("force", "forces", "for"),
    STRESS: ("Stress", "stress"),
}
"""Names in KLIFF's own extended XYZ, which its reader does not let a manifest change."""

TYPES: Final = ("ase", "path", "colabfit")


def read_configurations(dataset: Mapping[str, Any], where: str = "dataset") -> list[Configuration]:
    """Return the structures that a manifest's ``dataset`` block names, in the order of files and frames.

    ``type: ase`` reads any format ASE reads; ``type: path`` reads KLIFF's folders of extended XYZ files, where a label
    that is asked for by its usual name is found under KLIFF's too; ``type: colabfit`` asks KLIFF. ``path`` is a file,
    a folder (searched to the bottom, hidden files left out), a glob, or a list of those. ``slices`` counts over all of
    them together.

    Args:
        dataset: ``type``, ``path``, ``slices``, ``keys``, ``units``, ``stress_positive``, ``weights`` and
            ``colabfit_dataset``, as in the manifest.
        where: Dotted path of the block, for messages.

    Returns:
        Configurations with labels in eV, eV/Å, eV/Å³, ``None`` where missing; ``metadata`` holds ``index``, the
        position in this list, and ``identifier``, ``file.xyz:12`` for the file and its frame, counted from 0.

    Raises:
        DataError: A file is missing, empty, unreadable or without structures, or a structure, label or weight is bad.
        ManifestError: An unknown type, unit or slice.
    """
    kind = str(dataset.get("type") or "ase").lower()
    if kind not in TYPES:
        raise ManifestError(
            "unknown type",
            where=f"{where}.type",
            value=kind,
            allowed=", ".join(TYPES),
            remedy=did_you_mean(kind, TYPES),
        )
    if kind == "colabfit":
        configurations = _from_colabfit(dataset, where)
    else:
        frames = _sliced(_frames(_files(dataset.get("path"), kind, f"{where}.path")), dataset.get("slices"), where)
        configurations = [_configuration(atoms, identifier, dataset, kind) for identifier, atoms in frames]
    for index, configuration in enumerate(configurations):
        configuration.metadata = {"index": index}
    apply_weights(configurations, dataset.get("weights"), where=f"{where}.weights")
    return configurations


def read_structures(
    path: str | Path | Sequence[str | Path], where: str = "dataset.path"
) -> Iterator[tuple[str, ase.Atoms]]:
    """Yield identifier, ``file.xyz:12``, and structure of every frame that ``path`` stands for, as ASE reads it.

    Args:
        path: A file, a folder, a glob, or a list of those.
        where: What messages call ``path``.

    Raises:
        DataError: A file is missing, empty, unreadable or without structures.
    """
    return _frames(_files(path, "ase", where))


def _configuration(atoms: ase.Atoms, identifier: str, dataset: Mapping[str, Any], kind: str) -> Configuration:
    keys = {label: key for label, key in (dataset.get("keys") or {}).items() if key}
    if kind == "path":
        keys = {label: _kliff_key(atoms, label, keys.get(label)) for label in LABELS}
    return configuration_from_atoms(
        atoms, keys, dataset.get("units"), dataset.get("stress_positive") or "tension", identifier
    )


def _kliff_key(atoms: ase.Atoms, label: str, key: str | None) -> str:
    """Return ``key``; if it is a usual name that the file does not have, the one of KLIFF's names that it has."""
    usual = KLIFF_KEYS[label]
    asked = usual[0] if key is None else key
    candidates = (asked, *usual) if asked in usual else (asked,)
    return next((name for name in candidates if find_label(atoms, label, name) is not None), asked)


def _files(path: str | Path | Sequence[str | Path] | None, kind: str, where: str) -> Iterator[Path]:
    """Yield the files that ``path`` stands for, sorted within each folder and glob."""
    if not path:
        raise ManifestError("a file, folder or glob is needed", where=where)
    for entry in [path] if isinstance(path, str | Path) else path:
        # A name that is there is taken literally, though it may hold [ or *.
        found = [str(entry)] if os.path.lexists(entry) else sorted(glob(str(entry), recursive=True))
        if not found:
            parent = Path(entry).parent
            beside = [item.name for item in parent.iterdir()] if parent.is_dir() else []
            raise DataError(
                "there is no such file or folder",
                where=where,
                value=str(entry),
                remedy=did_you_mean(Path(entry).name, beside),
            )
        for item in map(Path, found):
            yield from _inside(item, kind, where) if item.is_dir() else [item]


def _inside(folder: Path, kind: str, where: str) -> Iterator[Path]:
    paths = sorted(Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names)
    visible = [path for path in paths if not any(part[0] == "." for part in path.relative_to(folder).parts)]
    is_data = _is_extxyz if kind == "path" else _is_readable
    readable = [path for path in visible if is_data(path)]
    if not readable:
        what = "ending in .xyz or .extxyz" if kind == "path" else "that ASE can read"
        raise DataError(f"the folder has no file {what}", where=where, value=str(folder))
    yield from readable


def _is_extxyz(path: Path) -> bool:
    return path.suffix in (".xyz", ".extxyz")


def _is_readable(path: Path) -> bool:
    """Whether ASE knows the format of a file; an empty one counts, so that reading it says so."""
    try:
        return path.stat().st_size == 0 or bool(ioformats[filetype(str(path), guess=False)].can_read)
    except UnknownFileTypeError:
        return False


def _frames(files: Iterator[Path]) -> Iterator[tuple[str, ase.Atoms]]:
    """Yield identifier and structure of every frame of every file."""
    for path in files:
        number = -1
        try:
            for number, atoms in enumerate(iread(path, index=":", do_not_split_by_at_sign=True)):
                _set_pbc(atoms)
                yield f"{path}:{number}", atoms
        except Exception as error:  # ASE's readers raise whatever they stumble on
            where = str(path) if number < 0 else f"{path}, after frame {number}"
            if path.is_file() and path.stat().st_size == 0:
                raise DataError("the file is empty", where=where, remedy="Write it again, or remove it.") from error
            if isinstance(error, KeyError) and re.fullmatch("[A-Z][a-z]?", str(error.args[0])):
                raise DataError(
                    "there is no such chemical element", where=where, value=error.args[0], remedy="Correct the symbol."
                ) from error
            raise DataError(
                f"cannot be read: {type(error).__name__}: {error}",
                where=where,
                remedy="If it is not meant to be data, name the others with a glob.",
            ) from error
        if number < 0:
            raise DataError("the file has no structure", where=str(path))


def _set_pbc(atoms: ase.Atoms) -> None:
    """Take the periodicity from KLIFF's ``PBC="1 1 0"``, which ASE takes for a comment: it knows only ``pbc``."""
    for key in [key for key in atoms.info if str(key).lower() == "pbc"]:
        atoms.pbc = atoms.info.pop(key)


def _sliced(frames: Iterator[tuple[str, ase.Atoms]], slices: str | None, where: str) -> list[tuple[str, ase.Atoms]]:
    if slices is None:
        return list(frames)
    try:
        index = string2index(str(slices))
        index = index if isinstance(index, slice) else slice(index, index + 1 or None)
        # A slice that only counts forwards need not read what it leaves out at the end.
        forwards = min(index.start or 0, index.stop or 0) >= 0 and (index.step or 1) > 0
        chosen = list(islice(frames, index.start, index.stop, index.step) if forwards else list(frames)[index])
    except ValueError as error:
        raise ManifestError(
            "is not a slice", where=f"{where}.slices", value=slices, allowed="start:stop:step, such as '::10'"
        ) from error
    if not chosen:
        raise DataError("no structure is left", where=f"{where}.slices", value=slices)
    return chosen


def _from_colabfit(dataset: Mapping[str, Any], where: str) -> list[Configuration]:
    source = dataset.get("colabfit_dataset") or {}
    missing = [name for name in ("database_name", "dataset_name") if not source.get(name)]
    if missing:
        raise ManifestError("is needed for type 'colabfit'", where=f"{where}.colabfit_dataset.{missing[0]}")
    if kliff_dataset.MongoDatabase is None:
        raise DataError(
            "reading from ColabFit needs the package colabfit-tools, and a MongoDB server that has the data",
            where=f"{where}.type",
            value="colabfit",
            remedy="Run `pip install colabfit-tools`, or export the data set to extended XYZ and use type 'ase'.",
        )
    address = {"colabfit_uri": source["database_url"]} if source.get("database_url") else {}
    configurations: list[Configuration] = Dataset.from_colabfit(
        colabfit_database=source["database_name"], colabfit_dataset=source["dataset_name"], **address
    ).configs
    for index, configuration in enumerate(configurations):
        identifier = f"{source['dataset_name']}:{index}"
        configuration.identifier = identifier
        configuration.metadata = {"identifier": identifier}
        for label in LABELS:
            if has_label(configuration, label):
                value = checked_label(getattr(configuration, label), label, len(configuration.species), identifier)
                setattr(configuration, label, float(value) if label == ENERGY else value)
    return configurations
