"""Data sets from one format to another, with all their values."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ase
import ase.io
import numpy as np
import pandas as pd
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.db.core import check as check_key_values
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.io.cif import CifWriter

from kimgnn.data.cif_folder import TABLE
from kimgnn.data.parsing import decoded, is_missing
from kimgnn.data.records import Record
from kimgnn.data.table import IDS, suffix_of
from kimgnn.errors import DataError, Problem
from kimgnn.fields import ENERGY, FORCES, STRESS
from kimgnn.files import atomic_write

ID: Final = IDS[0]
"""Column or key that ids are written under."""

STRUCTURE: Final = "structure"
DIGITS: Final = 10
"""Digits of the numbers in a CIF, which has no binary ones."""


def write_records(records: Sequence[Record], path: Path, force: bool = False) -> None:
    """Write a data set in the format that a name stands for.

    ``.extxyz`` and ``.xyz`` are extended XYZ, ``.db`` ASE's database, ``.csv``, ``.jsonl``, ``.ndjson``, ``.json`` and
    ``.parquet`` (the text formats also with ``.gz``) tables with a pymatgen dict in each row, and a name without a
    suffix is a folder of CIFs with ``id_prop.csv``, in which a missing value is empty.

    Args:
        records: The data set.
        path: The file or folder.
        force: Replace a file; a folder with something in it is never replaced.

    Raises:
        DataError: The name stands for no format, it is there already, or a structure does not go into the format.
    """
    is_folder = not path.suffix
    writer = _write_folder if is_folder else WRITERS.get(suffix_of(path))
    if writer is None:
        allowed = ", ".join(WRITERS) + ", or a folder's name for CIFs"
        raise DataError("no such format to write", where=str(path), value=path.suffix, allowed=allowed)
    if is_folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError("exists already", where=str(path), remedy="Give the name of a new folder.")
    if not is_folder and path.exists() and not force:
        raise DataError("exists already", where=str(path), remedy="Give another name, or --force.")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer(records, path)


def _write_extxyz(records: Sequence[Record], path: Path) -> None:
    with atomic_write(path) as file:
        ase.io.write(file, [_with_info(record) for record in records], format="extxyz")


def _with_info(record: Record) -> ase.Atoms:
    """Return a structure with all its values where extended XYZ has them: of atoms, of the structure, results."""
    atoms = _with_results(record)
    for name, value in _other_values(record).items():
        shape = _shape(value)
        if shape is not None and shape[0] == len(atoms) and (len(shape) == 2 or name in record.atoms.arrays):
            atoms.arrays[name] = np.asarray(value)
        else:
            atoms.info[name] = np.asarray(value) if shape is not None else _rectangular(value)
    atoms.info = {ID: record.identifier} | atoms.info
    return atoms


def _rectangular(value: Any) -> Any:
    """Return lists of different lengths, which ASE writes but cannot read, as JSON; everything else as it is."""
    try:
        np.asarray(value)
    except ValueError:
        return json.dumps(_plain(value))
    return value


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array of numbers that extended XYZ can write, ``None`` of everything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array.shape if array.dtype.kind in "bif" and array.ndim in (1, 2) and array.size else None


def _write_database(records: Sequence[Record], path: Path) -> None:
    with _replacement(path) as temporary, connect(str(temporary), type="db", serial=True) as database:
        for record in records:
            pairs, data = {}, {}
            for name, value in ({ID: record.identifier} | _other_values(record)).items():
                if _is_key_value(name, value):
                    pairs[name] = value
                else:
                    data[name] = value
            database.write(_with_results(record), key_value_pairs=pairs, data=data)


def _is_key_value(name: str, value: Any) -> bool:
    """Whether ASE takes it for a key-value pair: not any name, and no text that could be a number."""
    try:
        check_key_values({name: value})
    except (ValueError, TypeError):
        return False
    return isinstance(value, str | int | float | bool)


def _write_folder(records: Sequence[Record], path: Path) -> None:
    names = [_file_name(record.identifier) for record in records]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    problems = [
        Problem(record.identifier, "another structure would have the same file", f"{name}.cif")
        for record, name in zip(records, names, strict=True)
        if name in repeated
    ]
    if problems:
        raise DataError(problems=problems)
    structures = _structures(records)
    columns = list(dict.fromkeys(name for record in records for name in _values(record)))
    with _replacement(path) as temporary:
        temporary.mkdir()
        for name, structure in zip(names, structures, strict=True):
            (temporary / f"{name}.cif").write_text(str(CifWriter(structure, significant_figures=DIGITS)))
        rows = [[name, *_cells(record, columns)] for name, record in zip(names, records, strict=True)]
        frame = pd.DataFrame(rows, columns=[ID, *columns])
        frame.to_csv(temporary / TABLE, index=False, header=bool(columns))


def _cells(record: Record, columns: Sequence[str]) -> list[Any]:
    values = _values(record)
    return [_cell(values.get(column)) for column in columns]


def _cell(value: Any) -> Any:
    """Return a value as it stands in a cell of text or Parquet: lists and mappings as JSON."""
    return json.dumps(_plain(value)) if isinstance(value, list | tuple | dict | np.ndarray) else value


def _file_name(identifier: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", identifier).strip("_.")


def _table_rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for record, structure in zip(records, _structures(records), strict=True):
        for name in (ID, STRUCTURE):
            if name in record.values and str(record.values[name]) != record.identifier:
                message = f"a value is called {name!r}, as the column of {'ids' if name == ID else 'structures'} is"
                raise DataError(message, where=record.identifier, remedy=f"Read it with {name} as that column.")
        content = {key: value for key, value in structure.as_dict().items() if key in ("lattice", "sites", "charge")}
        yield {ID: record.identifier, STRUCTURE: content} | _values(record)


def _write_csv(records: Sequence[Record], path: Path) -> None:
    rows = [{name: _cell(value) for name, value in row.items()} for row in _table_rows(records)]
    _write_text(pd.DataFrame(rows).to_csv(index=False), path)


def _write_json_lines(records: Sequence[Record], path: Path) -> None:
    _write_text("".join(json.dumps(_plain(row)) + "\n" for row in _table_rows(records)), path)


def _write_json(records: Sequence[Record], path: Path) -> None:
    _write_text(json.dumps([_plain(row) for row in _table_rows(records)]), path)


def _write_parquet(records: Sequence[Record], path: Path) -> None:
    rows = [{name: _cell(value) for name, value in row.items()} for row in _table_rows(records)]
    frame = pd.DataFrame(rows)
    for name in frame.columns:
        kinds = {type(value) for value in frame[name] if not is_missing(value)}
        if str in kinds and len(kinds) > 1:  # a column of Parquet has one type
            frame[name] = [None if is_missing(value) else str(value) for value in frame[name]]
    with atomic_write(path, "wb") as file:
        frame.to_parquet(file, index=False)


def _write_text(text: str, path: Path) -> None:
    if path.suffix.lower() != ".gz":
        with atomic_write(path) as file:
            file.write(text)
        return
    import gzip

    with atomic_write(path, "wb") as file:
        file.write(gzip.compress(text.encode()))


WRITERS: Final[dict[str, Callable[[Sequence[Record], Path], None]]] = {
    ".extxyz": _write_extxyz,
    ".xyz": _write_extxyz,
    ".db": _write_database,
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".json": _write_json,
    ".parquet": _write_parquet,
}


def _values(record: Record) -> dict[str, Any]:
    """Return the values that are there, numbers as numbers; the id is none of them."""
    return {name: decoded(value) for name, value in record.values.items() if name != ID and not is_missing(value)}


def _results(record: Record) -> dict[str, Any]:
    """Return what ASE has as results: those of the structure, and energy, forces and stress among its values."""
    atoms, values = record.atoms, _values(record)
    results = dict(atoms.calc.results) if isinstance(atoms.calc, SinglePointCalculator) else {}
    for label, shape in ((ENERGY, ()), (FORCES, (len(atoms), 3)), (STRESS, (6,))):
        value = values.get(label)
        if label not in results and (isinstance(value, int | float) if shape == () else _shape(value) == shape):
            results[label] = value if shape == () else np.asarray(value)
    return results


def _other_values(record: Record) -> dict[str, Any]:
    results = _results(record)
    return {name: value for name, value in _values(record).items() if name not in results}


def _with_results(record: Record) -> ase.Atoms:
    """Return the structure with its results, without its other values."""
    atoms = record.atoms
    bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if results := _results(record):
        bare.calc = SinglePointCalculator(bare, **results)
    return bare


def _structures(records: Sequence[Record]) -> list[Structure]:
    problems = [
        Problem(
            record.identifier,
            "the structure is not periodic in all directions, as CIFs and tables of crystals are",
            remedy="Write extended XYZ or a database.",
        )
        for record in records
        if not record.atoms.pbc.all()
    ]
    if problems:
        raise DataError(problems=problems)
    return [
        Structure(Lattice(atoms.cell.array), atoms.numbers, atoms.positions, coords_are_cartesian=True)
        for atoms in (record.atoms for record in records)
    ]


def _plain(value: Any) -> Any:
    """Return a value that JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


@contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` that takes its place in the end, and vanishes if something fails."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
