"""A manifest's `dataset` block -> KLIFF configurations: which files, which frames, under which keys."""

from __future__ import annotations

import gzip
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any, Final

import ase
import kliff.dataset.dataset as kliff_dataset
from ase.db import connect
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats, string2index
from kliff.dataset import Configuration, Dataset

from kimgnn.cache import STRUCTURES, Cache, user_folder
from kimgnn.data.cif_folder import TABLE, read_cif_folder
from kimgnn.data.element_features import WITHOUT_TABLE, element_feature_table, within_table
from kimgnn.data.from_atoms import attach_values, configuration_from_atoms, values_of
from kimgnn.data.labels import checked_label, find_label, has_label
from kimgnn.data.matbench import read_matbench
from kimgnn.data.parsing import ONE_ATOM, ORDER_IT, ORDERED, PARTLY_OCCUPIED, is_missing, parsed
from kimgnn.data.records import Entry, Item, Record, set_aside
from kimgnn.data.table import IDS, is_table, read_table, suffix_of
from kimgnn.data.targets import COLUMN_OF, COLUMNS, VALUES, TargetSpec, encode_targets
from kimgnn.data.weights import apply_weights
from kimgnn.errors import DataError, ManifestError, Problem, did_you_mean
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS

KLIFF_KEYS: Final[dict[str, tuple[str, ...]]] = {
    ENERGY: ("Energy", "energy"),
    FORCES: ("force", "forces", "for"),
    STRESS: ("Stress", "stress"),
}
"""Names in KLIFF's own extended XYZ, which its reader does not let a manifest change."""

TYPES: Final = ("ase", "path", "colabfit", "cif_folder", "table", "matbench", "materials_project")

CRYSTALS: Final = ("cif_folder", "table", "matbench", "materials_project")
"""Types whose structures are parsed from text or mappings; their identifiers are the source's own ids."""

DATABASES: Final = ("db", "json")
"""ASE's names of the formats of its databases."""


def read_configurations(
    dataset: Mapping[str, Any],
    where: str = "dataset",
    targets: Sequence[TargetSpec] = (),
    labels: Sequence[str] = LABELS,
    element_features: str | None = None,
) -> list[Configuration]:
    """Return the structures that a manifest's ``dataset`` block names, in the order of files and frames or rows.

    ``type: ase`` reads any format ASE reads, its databases included; ``type: path`` reads KLIFF's folders of extended
    XYZ files, where a label that is asked for by its usual name is found under KLIFF's too; ``type: colabfit`` asks
    KLIFF; ``cif_folder`` reads CGCNN's folders, ``table`` and ``matbench`` files with a structure in each row, and
    ``materials_project`` downloads. ``path`` is a file, a folder (searched to the bottom, hidden files left out), a
    glob, or a list of those. ``slices`` counts over all of them together.

    Args:
        dataset: ``type``, ``path``, ``slices``, ``keys``, ``units``, ``stress_positive``, ``weights``, ``targets``,
            ``on_error``, and what belongs to one type, as in the manifest.
        where: Dotted path of the block, for messages.
        targets: What heads learn; ``dataset["targets"]`` says where it is, by default under its own name.
        labels: Of energy, forces and stress, what an energy head learns; the others are neither read nor checked.
        element_features: The table of elements that the network begins with, by the name or file that its options have;
            structures with other elements are bad ones. ``None``, or what needs no table, allows all.

    Returns:
        Configurations with labels in eV, eV/Å, eV/Å³, ``None`` where missing; ``metadata`` holds ``index``, the
        position in this list, ``identifier``, an id or ``file.xyz:12`` for the file and its frame, counted from 0, and
        ``targets``, see `targets.TARGETS`.

    Raises:
        DataError: A file is missing, empty, unreadable or without structures, or a structure, label, target or weight
            is bad, or an id is there already: all of them are told, by identifier.
        ManifestError: An unknown type, unit or slice.

    Warns:
        UserWarning: With ``on_error: skip``, what was left out and why.
    """
    problems: list[Problem] = []
    kind = _kind(dataset, where)
    # A target is in the column of its own name unless another is named; a download asks for it by that.
    columns = {target.name: target.name for target in targets} | dict(dataset.get("targets") or {})
    dataset = dict(dataset) | {"targets": columns}
    if kind == "colabfit":
        configurations = _from_colabfit(dataset, where)
    else:
        records = _records(dataset, kind, where, problems)
        configurations = list(_configurations(records, dataset, kind, targets, labels, problems))
    configurations, bad_targets = encode_targets(configurations, targets)
    problems += bad_targets
    if element_features is not None and element_features not in WITHOUT_TABLE:
        table = element_feature_table(element_features)
        configurations, bad_elements = within_table(table, configurations, element_features)
        problems += bad_elements
    _report(problems, len(configurations), dataset, where)
    for index, configuration in enumerate(configurations):
        configuration.metadata = {"index": index}
    apply_weights(configurations, dataset.get("weights"), where=f"{where}.weights")
    return configurations


def read_records(dataset: Mapping[str, Any], where: str = "dataset") -> list[Record]:
    """Return the structures that a ``dataset`` block names with all values they have, checked no further.

    Args:
        dataset: See `read_configurations`; of any type but ``colabfit``.
        where: Dotted path of the block, for messages.

    Raises:
        DataError: See `read_configurations`.
        ManifestError: See `read_configurations`.
    """
    problems: list[Problem] = []
    kind = _kind(dataset, where)
    if kind == "colabfit":
        raise ManifestError("has no records", where=f"{where}.type", value=kind, allowed="any other type")
    records = _records(dataset, kind, where, problems)
    _report(problems, len(records), dataset, where)
    return records


def source_of(path: Path) -> dict[str, Any]:
    """Return the ``dataset`` block that reads a file or folder, its type told from the name or the content.

    Files of ASE's formats have their ids where `convert.write_records` writes them, or none.

    Args:
        path: A folder with CGCNN's ``id_prop.csv``, a table, a matbench file, or what ASE reads.

    Raises:
        DataError: It does not exist, or is JSON that cannot be read.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", where=str(path))
    kind = "ase"
    if path.is_dir() and (path / TABLE).is_file():
        kind = "cif_folder"
    elif path.is_file() and is_table(path):
        kind = "table"
        if suffix_of(path) == ".json":
            kind = _kind_of_json(path)
    return {"type": kind, "path": str(path)} | ({"id_column": IDS[0]} if kind == "ase" else {})


def _kind_of_json(path: Path) -> str:
    data = path.read_bytes()
    try:
        content = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"is not JSON: {error}", where=str(path)) from error
    if isinstance(content, dict) and {"columns", "data"} <= content.keys():
        return "matbench"
    # ASE's database numbers its rows, and says which comes next.
    return "ase" if isinstance(content, dict) and "nextid" in content else "table"


def _kind(dataset: Mapping[str, Any], where: str) -> str:
    kind = str(dataset.get("type") or "ase").lower()
    if kind not in TYPES:
        raise ManifestError(
            "unknown type",
            where=f"{where}.type",
            value=kind,
            allowed=", ".join(TYPES),
            remedy=did_you_mean(kind, TYPES),
        )
    return kind


def _report(problems: list[Problem], n_left: int, dataset: Mapping[str, Any], where: str) -> None:
    """Raise what is wrong or, where the manifest says to skip it, warn of it."""
    if problems and (dataset.get("on_error") != "skip" or not n_left):
        raise DataError(problems=problems)
    if problems:
        entries = len({problem.where for problem in problems})
        told = "\n".join(str(problem) for problem in problems)
        warnings.warn(f"{where}: {entries} entries are left out, {n_left} stay:\n{told}", stacklevel=3)
    if not n_left:
        slices = dataset.get("slices")
        raise DataError("no structure is left", where=f"{where}.slices" if slices else where, value=slices)


def _records(dataset: Mapping[str, Any], kind: str, where: str, problems: list[Problem]) -> list[Record]:
    if kind in CRYSTALS:
        entries = _sliced(set_aside(_entries(dataset, kind, where), problems), dataset.get("slices"), where)
        return list(set_aside(parsed(_without_copies(entries, problems), _cache(dataset)), problems))
    frames = _frames(_files(dataset.get("path"), kind, f"{where}.path"), dataset.get("id_column"))
    return _without_copies(_sliced(set_aside(frames, problems), dataset.get("slices"), where), problems)


def _cache(dataset: Mapping[str, Any]) -> Cache | None:
    option = dataset.get("cache")
    return Cache(user_folder() if option is True else option, STRUCTURES) if option else None


def _entries(dataset: Mapping[str, Any], kind: str, where: str) -> Iterator[Entry | Problem]:
    if kind == "materials_project":
        # Imported here, because hardly anyone needs it.
        from kimgnn.data.materials_project import read_materials_project

        options = dict(dataset.get("materials_project") or {})
        fields = [*(options.get("fields") or ()), *(dataset.get("targets") or {}).values()]
        yield from read_materials_project(options | {"fields": fields}, f"{where}.materials_project")
        return
    for path in _places(dataset.get("path"), f"{where}.path"):
        if kind == "cif_folder":
            yield from read_cif_folder(path, dataset.get("table"))
        elif kind == "matbench":
            yield from read_matbench(path)
        else:
            yield from read_table(path, dataset.get("id_column"), dataset.get("structure_column"), where)


def _without_copies(items: Sequence[Item], problems: list[Problem]) -> list[Item]:
    """Return the first item of each id; the others go to ``problems``: copies could be in two parts of the data."""
    counts: Counter[str] = Counter()
    first = []
    for item in items:
        counts[item.identifier] += 1
        if (number := counts[item.identifier]) == 1:
            first.append(item)
        else:
            remedy = "Keep one of them, or give each an id of its own."
            problems.append(Problem(f"{item.identifier}, number {number}", "the id is there already", remedy=remedy))
    return first


def _configurations(
    records: Sequence[Record],
    dataset: Mapping[str, Any],
    kind: str,
    targets: Sequence[TargetSpec],
    labels: Sequence[str],
    problems: list[Problem],
) -> Iterator[Configuration]:
    """Yield the configurations of records; what is wrong with the labels of others goes to ``problems``."""
    column_of = {target.name: dataset["targets"][target.name] for target in targets}
    of_atoms = [column_of[target.name] for target in targets if target.per_atom]
    if FORCES in labels:
        of_atoms.insert(0, (dataset.get("keys") or {}).get(FORCES) or FORCES)
    for record in records:
        try:
            _check_order(record, of_atoms)
            configuration = _configuration(record, dataset, kind, labels)
        except DataError as error:
            problems += error.problems
            continue
        if targets:
            configuration.metadata = {
                VALUES: {name: record.values.get(column) for name, column in column_of.items()},
                COLUMNS: tuple(record.values),
                COLUMN_OF: column_of,
            }
        yield configuration


def _check_order(record: Record, columns: Sequence[str]) -> None:
    """Check that atoms with values of their own, in these columns, are in the order of the values."""
    for column in columns:
        if not record.in_order and not is_missing(record.values.get(column)):
            raise DataError(
                "the atoms of a CIF are in no order that values of atoms could be in",
                where=f"{record.identifier} ({column})",
                remedy="Give the structure as POSCAR, as pymatgen dict, or in columns.",
            )


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
    for frame in _frames(_files(path, "ase", where)):
        if isinstance(frame, Problem):
            raise DataError(problems=[frame])
        yield frame.identifier, frame.atoms


def _configuration(record: Record, dataset: Mapping[str, Any], kind: str, labels: Sequence[str]) -> Configuration:
    keys = {label: key for label, key in (dataset.get("keys") or {}).items() if key}
    if kind == "path":
        keys = {label: _kliff_key(record.atoms, label, keys.get(label)) for label in labels}
    if kind in CRYSTALS and labels:
        attach_values(record.atoms, record.values, keys.get(FORCES, FORCES))
    stress_positive = dataset.get("stress_positive") or "tension"
    return configuration_from_atoms(
        record.atoms, keys, dataset.get("units"), stress_positive, record.identifier, labels
    )


def _kliff_key(atoms: ase.Atoms, label: str, key: str | None) -> str:
    """Return ``key``; if it is a usual name that the file does not have, the one of KLIFF's names that it has."""
    usual = KLIFF_KEYS[label]
    asked = usual[0] if key is None else key
    candidates = (asked, *usual) if asked in usual else (asked,)
    return next((name for name in candidates if find_label(atoms, label, name) is not None), asked)


def _files(path: str | Path | Sequence[str | Path] | None, kind: str, where: str) -> Iterator[Path]:
    """Yield the files that ``path`` stands for, sorted within each folder and glob."""
    for place in _places(path, where):
        yield from _inside(place, kind, where) if place.is_dir() else [place]


def _places(path: str | Path | Sequence[str | Path] | None, where: str) -> Iterator[Path]:
    """Yield the files and folders that ``path`` names, sorted within each glob."""
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
        yield from map(Path, found)


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


def _frames(files: Iterator[Path], id_key: str | None = None) -> Iterator[Record | Problem]:
    """Yield the frames of every file; where a file cannot be read any further, what is wrong with it."""
    for path in files:
        number = -1
        try:
            for number, atoms in enumerate(_read_with_ase(path)):
                _set_pbc(atoms)
                identifier = atoms.info.get(id_key) if id_key is not None else None
                named = f"{path}:{number}" if is_missing(identifier) else str(identifier)
                yield _partly_occupied(atoms, named) or Record(named, atoms, values_of(atoms))
        except Exception as error:  # ASE's readers raise whatever they stumble on
            yield _unreadable(path, number, error)
            continue
        if number < 0:
            yield Problem(str(path), "the file has no structure")


def _partly_occupied(atoms: ase.Atoms, identifier: str) -> Problem | None:
    """Return that a site of a CIF is shared or not full, where ASE takes the likelier atom and says nothing."""
    for site in atoms.info.get("occupancy", {}).values():
        if len(site) != 1 or abs(next(iter(site.values())) - 1) > ORDERED:
            return Problem(identifier, PARTLY_OCCUPIED, str(site), ONE_ATOM, ORDER_IT)
    return None


def _read_with_ase(path: Path) -> Iterator[ase.Atoms]:
    """Yield the structures of a file; those of a database with its key-value pairs and data as their info."""
    if not os.path.getsize(path) or filetype(str(path)) not in DATABASES:
        yield from iread(path, index=":", do_not_split_by_at_sign=True)
        return
    for row in connect(str(path), serial=True).select():
        atoms = row.toatoms()
        atoms.info.update(row.data)
        atoms.info.update(row.key_value_pairs)
        yield atoms


def _unreadable(path: Path, number: int, error: Exception) -> Problem:
    """Return what an error says of a file of which ``number`` is the last frame read, -1 if none."""
    where = str(path) if number < 0 else f"{path}, after frame {number}"
    if path.is_file() and path.stat().st_size == 0:
        return Problem(where, "the file is empty", remedy="Write it again, or remove it.")
    if isinstance(error, KeyError) and re.fullmatch("[A-Z][a-z]?", str(error.args[0])):
        return Problem(where, "there is no such chemical element", error.args[0], remedy="Correct the symbol.")
    reason = f"cannot be read: {type(error).__name__}: {error}"
    return Problem(where, reason, remedy="If it is not meant to be data, name the others with a glob.")


def _set_pbc(atoms: ase.Atoms) -> None:
    """Take the periodicity from KLIFF's ``PBC="1 1 0"``, which ASE takes for a comment: it knows only ``pbc``."""
    for key in [key for key in atoms.info if str(key).lower() == "pbc"]:
        atoms.pbc = atoms.info.pop(key)


def _sliced(frames: Iterator[Item], slices: str | None, where: str) -> list[Item]:
    if slices is None:
        return list(frames)
    try:
        index = string2index(str(slices))
        index = index if isinstance(index, slice) else slice(index, index + 1 or None)
        # A slice that only counts forwards need not read what it leaves out at the end.
        forwards = min(index.start or 0, index.stop or 0) >= 0 and (index.step or 1) > 0
        return list(islice(frames, index.start, index.stop, index.step) if forwards else list(frames)[index])
    except ValueError as error:
        raise ManifestError(
            "is not a slice", where=f"{where}.slices", value=slices, allowed="start:stop:step, such as '::10'"
        ) from error


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
