"""Files of structures without labels, as a prediction takes them: any format, one file at a time, or standard input."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import ase
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from kimgnn.data.parsing import parse_structure
from kimgnn.data.sources import read_structures
from kimgnn.errors import DataError, did_you_mean

PARSED: Final = ("cif", "poscar", "vasp", "contcar")
"""Formats and suffixes that pymatgen reads: it refuses what is partly occupied, where ASE takes the likelier atom."""

STDIN: Final = "-"
"""The file name that stands for standard input."""

STDIN_NAME: Final = "stdin"
"""What messages and identifiers call it."""


def structure_files(path: str | Path) -> list[Path]:
    """Return the files that ``path`` stands for: itself, or those of structures in a folder, to its bottom, sorted.

    Hidden files, and those whose name tells no format, are left out of a folder.

    Raises:
        DataError: There is no such file or folder, or the folder has no file of structures.
    """
    path = Path(path)
    if not path.exists():
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError("there is no such file or folder", where=str(path), remedy=did_you_mean(path.name, beside))
    if not path.is_dir():
        return [path]
    inside = sorted(item for item in path.rglob("*") if item.is_file())
    visible = [item for item in inside if not any(part[0] == "." for part in item.relative_to(path).parts)]
    found = [item for item in visible if _tells_its_format(item)]
    if not found:
        raise DataError("the folder has no file of structures", where=str(path))
    return found


def read_structure_file(path: str | Path, format_name: str | None = None) -> list[tuple[str, ase.Atoms]]:
    """Return identifier, ``file.xyz:12`` or ``file.cif``, and structure of every frame of a file.

    Args:
        path: The file.
        format_name: ASE's name of the format; by default what the file's name or content says.

    Raises:
        DataError: It is missing, empty, unreadable or without structures, or a crystal is partly occupied.
    """
    path = Path(path)
    kind = format_name or path.suffix.removeprefix(".").lower()
    try:
        if format_name or kind in PARSED:
            with open(path, encoding="utf-8", errors="replace") as file:
                return read_structure_stream(file, kind, str(path))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return list(read_structures(path, str(path)))


def read_structure_stream(stream: IO[str], format_name: str, name: str) -> list[tuple[str, ase.Atoms]]:
    """Return identifier and structure of every frame of an open file, such as standard input.

    Args:
        stream: Text.
        format_name: ASE's name of its format.
        name: What messages and identifiers call it.

    Raises:
        DataError: It is empty, unreadable or without structures, or the format is unknown.
    """
    text = stream.read()
    if not text.strip():
        raise DataError("the file is empty" if name != STDIN_NAME else "nothing came", where=name)
    if format_name.lower() in PARSED:
        return [(name, _parsed(text, name))]
    if format_name not in ioformats:
        raise DataError("unknown format", where="--format", value=format_name, allowed="cif, vasp, or a name that ASE "
                        "knows, such as extxyz", remedy=did_you_mean(format_name, ioformats))  # fmt: skip
    try:
        frames = list(iread(io.StringIO(text), index=":", format=format_name))
    except Exception as error:  # ASE's readers raise whatever they stumble on
        raise DataError(
            f"cannot be read as {format_name}: {type(error).__name__}: {error}",
            where=name,
            remedy="Give its format by --format.",
        ) from error
    if not frames:
        raise DataError("there is no structure in it", where=name)
    return [(f"{name}:{index}", atoms) for index, atoms in enumerate(frames)]


def _parsed(text: str, name: str) -> ase.Atoms:
    """Return what is parsed from a file's text, with its name in errors and warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            atoms = parse_structure(text)
        except DataError as error:
            raise DataError(problems=[replace(problem, where=name) for problem in error.problems]) from error
    for warning in caught:
        warnings.warn(f"{name}: {warning.message}", stacklevel=2)
    return atoms


def _tells_its_format(path: Path) -> bool:
    """Whether a file's name says how to read it; an empty one counts, so that reading it says so."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix in PARSED or (suffix in ioformats and ioformats[suffix].can_read):
        return True
    try:
        return bool(ioformats[filetype(str(path), guess=False)].can_read)
    except UnknownFileTypeError:
        return path.stat().st_size == 0
