"""Data sets as matminer and matbench distribute them: JSON with ``columns`` and ``data``, pymatgen dicts in it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from kimgnn.data.records import Entry
from kimgnn.data.table import matminer_rows
from kimgnn.errors import DataError, Problem

STRUCTURE = "structure"


def read_matbench(path: Path) -> Iterator[Entry | Problem]:
    """Yield the rows of one matbench file; their ids are the file's index, as matbench names its samples.

    Args:
        path: ``matbench_phonons.json.gz``, say; gzipped or not.

    Raises:
        DataError: The file cannot be read, or is not of this layout.
    """
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not {"columns", "data"} <= content.keys():
        remedy = "Take type 'table' for other JSON."
        raise DataError(
            "is not a matbench file", where=str(path), allowed="an object with columns and data", remedy=remedy
        )
    if STRUCTURE not in content["columns"]:
        raise DataError(
            "the data set has no structures",
            where=str(path),
            value=", ".join(map(str, content["columns"])),
            allowed=f"a column {STRUCTURE!r}",
        )
    rows = matminer_rows(content, path)
    index = content.get("index", range(len(rows)))
    if len(index) != len(rows):
        raise DataError("index and data differ in length", where=str(path), value=len(index), allowed=str(len(rows)))
    for name, row in zip(index, rows, strict=True):
        values = {column: value for column, value in row.items() if column != STRUCTURE}
        if row[STRUCTURE] is None:
            yield Problem(str(name), "there is no structure")
        else:
            yield Entry(str(name), row[STRUCTURE], values)
