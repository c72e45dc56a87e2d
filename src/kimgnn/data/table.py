"""A table with a structure in each row: CSV, Parquet, JSON lines or JSON, the text formats also gzipped."""

from __future__ import annotations

import gzip
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd
from loguru import logger

from kimgnn.data.parsing import CARTESIAN, FRACTIONAL, LATTICE, SPECIES, is_cif, is_missing
from kimgnn.data.records import Entry
from kimgnn.errors import DataError, Problem, did_you_mean

Row = Mapping[str, Any]

IDS: Final = ("material_id", "id", "identifier", "mpid", "mp_id", "structure_id", "name")
"""Columns, in any case, that are taken for the id when none is named; the first that is there."""

LOOKED_AT: Final = 20
"""Rows looked at to find the structure column."""


def read_table(
    path: Path, id_column: str | None = None, structure_column: str | None = None, where: str = "dataset"
) -> Iterator[Entry | Problem]:
    """Yield the rows of one table.

    The structure is a column of CIF text, POSCAR text or pymatgen dicts (or their JSON), or lies in three columns with
    the lattice, the species and the coordinates. Without a word about it, it is the first column that holds one; the id
    is the first column of a usual name, else ``table.csv:12``, rows counted from 0.

    Args:
        path: Ends in ``.csv``, ``.jsonl``, ``.ndjson`` or ``.json``, each also with ``.gz``, or in ``.parquet``.
        id_column: The column of ids.
        structure_column: The column of structures.
        where: Dotted path of the block, for messages.

    Raises:
        DataError: The file cannot be read, or has no such column.
    """
    rows, broken = _rows(path)
    columns = _columns(rows)
    for name, column in (("id_column", id_column), ("structure_column", structure_column)):
        if column is not None and column not in columns:
            raise _no_column(f"{where}.{name}", column, columns, path)
    id_column = id_column or next((lower[name] for lower in [_lowered(columns)] for name in IDS if name in lower), None)
    parts = _part_columns(columns)
    if structure_column is None:
        structure_column = next((name for name in columns if _holds_structures(rows, name)), None)
    if structure_column is None and not parts:
        raise DataError(
            "the table has no column of structures",
            where=str(path),
            value=", ".join(columns),
            allowed="CIF or POSCAR text, pymatgen dicts, or columns lattice, species and frac_coords or coords",
            remedy=f"Name it as {where}.structure_column.",
        )
    shown = structure_column if structure_column is not None else ", ".join(parts)
    logger.info(f"{path}: structures in {shown}, ids {'in ' + id_column if id_column is not None else 'by row'}.")
    structural = [structure_column] if structure_column is not None else parts
    yield from broken
    for number, row in enumerate(rows):
        identifier = row.get(id_column) if id_column is not None else None
        named = f"{path}:{number}" if is_missing(identifier) else _plain(identifier)
        if structure_column is not None:
            source = row.get(structure_column)
        else:
            source = {name: row.get(name) for name in parts}
        if is_missing(source):
            yield Problem(named, "there is no structure", allowed=f"one in column {structure_column!r}")
            continue
        values = {name: value for name, value in row.items() if name not in structural and name != id_column}
        yield Entry(named, source, values)  # type: ignore[arg-type]  # what it is no one knows before it is parsed


def is_table(path: Path) -> bool:
    """Whether a file's name is a table's."""
    return suffix_of(path) in READERS


def _plain(identifier: Any) -> str:
    """Return an id as text; Parquet and JSON may have it as a number, a whole one even where it is 3.0."""
    is_whole = isinstance(identifier, float) and identifier.is_integer()
    return str(int(identifier) if is_whole else identifier).strip()


def suffix_of(path: Path) -> str:
    """Return a file's suffix in small letters, the one before ``.gz``."""
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    return suffix.lower()


def _rows(path: Path) -> tuple[Sequence[Row], list[Problem]]:
    """Return the rows of a table, and the lines that are none."""
    reader = READERS.get(suffix_of(path))
    if reader is None:
        raise DataError("is not a table", where=str(path), allowed=", ".join(READERS) + ", the text formats also .gz")
    problems: list[Problem] = []
    try:
        rows = reader(path, problems)
    except DataError:
        raise
    except Exception as error:  # pandas and pyarrow have errors of their own
        raise DataError(f"cannot be read: {type(error).__name__}: {error}", where=str(path)) from error
    if not rows and not problems:
        raise DataError("the table has no rows", where=str(path))
    return rows, problems


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")


def refuse_doubled(columns: Sequence[Any], path: Path) -> None:
    """Do nothing if columns have names of their own; one of two would take the place of the other.

    Raises:
        DataError: Some have not.
    """
    doubled = [str(name) for name, count in Counter(columns).items() if count > 1 and name != ""]
    if doubled:
        message, remedy = "has several columns of one name", "Rename or remove all but one."
        raise DataError(message, where=str(path), value=", ".join(doubled), remedy=remedy)


def _csv(path: Path, problems: list[Problem]) -> list[Row]:
    # As text: what is missing, a number or a class is not pandas' to guess.
    read = partial(pd.read_csv, path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        # pandas would rename a column whose name is there already.
        refuse_doubled(read(header=None, nrows=1).iloc[0].tolist(), path)
        frame = read()
    rows: list[Row] = frame.to_dict("records")
    return rows


def _parquet(path: Path, problems: list[Problem]) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            "Parquet needs the package pyarrow", where=str(path), remedy="Run `pip install 'kimgnn[parquet]'`."
        ) from error
    refuse_doubled(parquet.read_schema(path).names, path)
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return rows


def _json_lines(path: Path, problems: list[Problem]) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(Problem(f"{path}, line {number}", f"is not JSON: {error}"))
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            problems.append(Problem(f"{path}, line {number}", "is not a row", type(row).__name__, "a JSON object"))
    return rows


def _json(path: Path, problems: list[Problem]) -> list[Row]:
    """Return the rows of a list of objects, of matminer's ``columns`` and ``data``, or of pandas' columns."""
    content: Any = json.loads(_text(path))
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return list(content)
    if isinstance(content, dict):
        if {"columns", "data"} <= content.keys():
            return matminer_rows(content, path)
        if content and all(isinstance(column, dict) for column in content.values()):
            index = list(dict.fromkeys(row for column in content.values() for row in column))
            return [{name: column.get(row) for name, column in content.items()} for row in index]
    raise DataError("is not a table", where=str(path), allowed="a list of objects, or columns and data as in matminer")


def matminer_rows(content: Mapping[str, Any], path: Path) -> list[Row]:
    """Return the rows of ``{"index": [...], "columns": [...], "data": [[...], ...]}``.

    Raises:
        DataError: Two columns have one name, or a row does not have all columns.
    """
    columns, data = content["columns"], content["data"]
    refuse_doubled(columns, path)
    wrong = next((number for number, row in enumerate(data) if len(row) != len(columns)), None)
    if wrong is not None:
        n = len(data[wrong])
        raise DataError("a row does not have all columns", where=f"{path}:{wrong}", value=n, allowed=str(len(columns)))
    return [dict(zip(columns, row, strict=True)) for row in data]


READERS: Final[dict[str, Callable[[Path, list[Problem]], list[Row]]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}


def _columns(rows: Sequence[Row]) -> list[str]:
    """Return all columns in the order they appear; a row of JSON may lack some."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _lowered(columns: Sequence[str]) -> dict[str, str]:
    return {str(name).lower(): name for name in columns}


def _part_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns with lattice, species and coordinates, none if one of them is absent."""
    lowered = _lowered(columns)
    found = [
        next((lowered[name] for name in names if name in lowered), None)
        for names in (LATTICE, SPECIES, FRACTIONAL + CARTESIAN)
    ]
    return [name for name in found if name is not None] if None not in found else []


def _holds_structures(rows: Sequence[Row], column: str) -> bool:
    """Whether the first values of a column look like structures."""
    values = (row.get(column) for row in rows)
    for value in islice((value for value in values if not is_missing(value)), LOOKED_AT):
        if isinstance(value, Mapping) and ("sites" in value or _part_columns(list(value))):
            return True
        if isinstance(value, str) and (is_cif(value) or '"sites"' in value or _is_poscar(value)):
            return True
    return False


def _is_poscar(text: str) -> bool:
    """Whether text has a title, a scale, and three rows of three numbers."""
    lines = [line.split() for line in text.splitlines()[1:5]]
    try:
        return len(lines) == 4 and len([float(word) for line in lines[1:] for word in line[:3]]) == 9
    except ValueError:
        return False


def _no_column(where: str, column: str, columns: Sequence[str], path: Path) -> DataError:
    remedy = did_you_mean(column, [str(name) for name in columns])
    return DataError(f"{path} has no such column", where=where, value=column, allowed=", ".join(columns), remedy=remedy)
