"""CGCNN's layout: a folder of CIFs, ``ID.cif``, and a table ``id_prop.csv`` of ids and targets."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from kimgnn.data.parsing import decoded, is_missing
from kimgnn.data.records import Entry
from kimgnn.data.table import refuse_doubled
from kimgnn.errors import DataError, Problem, did_you_mean

TABLE: Final = "id_prop.csv"
"""CGCNN's name for the table."""


def read_cif_folder(folder: Path, table: str | None = None) -> Iterator[Entry | Problem]:
    """Yield the rows of the table, each with its CIF file, and what has no counterpart.

    The first column holds the ids. A first row whose id has no file and whose other cells are not numbers names the
    columns. Without it they are called by the table's name without its suffix, ``band_gap`` for ``band_gap.csv``, and
    ``target`` in ``id_prop.csv``; several of them are ``target_1``, ``target_2``, and so on.

    Args:
        folder: With the CIFs and the table.
        table: The table's file name in the folder; by default `TABLE`. Files that only the default table lists are
            left out.

    Raises:
        DataError: The folder or the table cannot be read, or the table is empty or has two columns of one name.

    Warns:
        UserWarning: Files are left out.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", where=str(folder), allowed=f"a folder of CIFs with {TABLE}")
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix == ".cif" and file.name[0] != "."}
    path = folder / (table or TABLE)
    header, rows = _table(path, files)
    seen: dict[str, int] = {}
    for number, identifier, cells in rows:
        if not identifier:
            yield Problem(f"{path}, line {number}", "there is no id")
        elif identifier in seen:
            yield Problem(identifier, f"is there twice, in lines {seen[identifier]} and {number} of {path.name}")
        elif identifier not in files:
            yield Problem(identifier, f"has no file {identifier}.cif in {folder}")
        elif len(cells) != len(header):
            allowed = f"{len(header)}: {', '.join(header)}"
            yield Problem(
                identifier, f"line {number} of {path.name} has the wrong number of values", len(cells), allowed
            )
        else:
            yield Entry(identifier, files[identifier], dict(zip(header, cells, strict=True)))
        seen.setdefault(identifier, number)
    yield from _files_without_row(files, set(seen), path)


def _table(path: Path, identifiers: Container[str]) -> tuple[list[str], list[tuple[int, str, list[str]]]]:
    """Return the columns' names, and line number, id and cells of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except FileNotFoundError as error:
        tables = sorted(other.name for other in path.parent.glob("*.csv"))
        raise DataError(
            "the folder has no such table",
            where=str(path),
            allowed=", ".join(tables) or f"{TABLE}, with an id and its targets in each row",
            remedy=did_you_mean(path.name, tables),
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    if not rows:
        raise DataError("the table is empty", where=str(path), allowed="an id and its targets in each row")
    _, first = rows[0]
    numbered = [(number, cells[0], cells[1:]) for number, cells in rows]
    if first[0] not in identifiers and len(first) > 1 and all(_is_name(cell) for cell in first[1:]):
        refuse_doubled(first[1:], path)
        return first[1:], numbered[1:]
    stem = "target" if path.name == TABLE else path.stem
    n = len(first) - 1
    return [stem] if n == 1 else [f"{stem}_{column}" for column in range(1, n + 1)], numbered


def _is_name(cell: str) -> bool:
    return not is_missing(cell) and isinstance(decoded(cell), str)


def _files_without_row(files: dict[str, Path], listed: set[str], path: Path) -> Iterator[Problem]:
    """Yield the files that no table lists; those that CGCNN's own lists are left out by intention."""
    default = path.parent / TABLE
    elsewhere: set[str] = set()
    if path != default and default.is_file():
        elsewhere = {identifier for _, identifier, _ in _table(default, files)[1]} - listed
    if elsewhere & files.keys():
        warnings.warn(
            f"{path}: {len(elsewhere & files.keys())} of {len(files)} files are in {TABLE} only; they are left out.",
            stacklevel=2,
        )
    for identifier in sorted(files.keys() - listed - elsewhere):
        yield Problem(identifier, f"{files[identifier].name} has no row in {path.name}")
