"""Structures as they come in requests: read strictly, small enough, and with atoms where atoms can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import StringIO
from typing import Any, Final, NamedTuple

import ase
import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from kimgnn.data.parsing import is_cif, parse_structure
from kimgnn.data.structure_files import read_structure_stream
from kimgnn.errors import DataError
from kimgnn.service.formats import Given
from kimgnn.service.structure_json import from_ase, from_pymatgen, sizes_in
from kimgnn.transforms.neighbors import complete_box, have_volume

THINNEST: Final = 0.5
"""Å. Cells are thicker than this along each direction in which they repeat: no two atoms are so near."""

DENSEST: Final = 1.0
"""Å³ an atom, at least, in a cell that repeats: a fifth of diamond's. Neighbours are too many to be found in others."""

FARTHEST: Final = 1e5
"""Å, of a position or a cell vector."""


COUNTS_BEGIN, COUNTS_END = 5, 25
"""Lines of a POSCAR, from 0, in which numbers of atoms may stand: up to ten with symbols, and as many with numbers."""

ENORMOUS: Final = 10**9
"""Atoms: how many more does not matter."""


class Read(NamedTuple):
    """A structure that was read, and on which assumptions."""

    identifier: str
    atoms: ase.Atoms
    warnings: list[str]


class TooLargeError(DataError):
    """A structure has more atoms, or text more structures, than the service takes."""


def read_all(batch: Sequence[Given], max_atoms: int, max_frames: int) -> list[list[Read] | DataError]:
    """Return the structures that each entry of a batch holds, one or every frame of extended XYZ, or why it has none.

    Args:
        batch: Entries.
        max_atoms: Of one structure; more are refused before they are read.
        max_frames: Structures of an entry.

    Returns:
        For each entry, its structures, or an error: of those, a `TooLargeError` where there are more, others where it
        cannot be read as what it is said to be, or no structure is like this.
    """
    found: list[list[Read] | DataError] = []
    for given in batch:
        try:
            found.append(_read(given, max_atoms, max_frames))
        except DataError as error:
            found.append(error)
    places = [(place, read) for place, entry in enumerate(found) if isinstance(entry, list) for read in entry]
    for (place, read), is_usual in zip(places, _are_usual([read.atoms for _, read in places]), strict=True):
        if not is_usual and isinstance(found[place], list):
            try:
                check_possible(read.atoms, read.identifier)
            except DataError as error:
                found[place] = error
    return found


def _read(given: Given, max_atoms: int, max_frames: int) -> list[Read]:
    """Return the structures of an entry, possible or not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sizes = list(_sizes(given))
            for size in sizes:
                _require(size, max_atoms, "the structure has too many atoms", "atoms")
            if given.format == "extxyz":
                _require(len(sizes), max_frames, "there are too many structures", "structures")
            frames = READERS[given.format](given.data)
            if not frames:
                raise DataError("there is no structure in it")
        except DataError as error:
            where = given.identifier
            problems = [
                replace(problem, where=f"{where} ({problem.where})" if problem.where else where)
                for problem in error.problems
            ]
            raise type(error)(problems=problems) from error
        except Exception as error:  # readers raise whatever they stumble on
            raise DataError(
                f"cannot be read as {given.format} ({type(error).__name__}: {error})",
                where=given.identifier,
                remedy="Correct it, or give the format that it has.",
            ) from error
    told = list(dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning))
    _require(len(frames), max_frames, "there are too many structures", "structures", given.identifier)
    several = len(frames) > 1 or given.format == "extxyz"
    found = []
    for index, atoms in enumerate(frames):
        identifier = f"{given.identifier}:{index}" if several else given.identifier
        _require(len(atoms), max_atoms, "the structure has too many atoms", "atoms", identifier)
        atoms.info = {**atoms.info, **given.states}
        found.append(Read(identifier, atoms, told))
    return found


def _are_usual(structures: Sequence[ase.Atoms]) -> NDArray[np.bool_]:
    """Return which of some structures are crystals that could exist; of others, `check_possible` says it.

    It looks at all of them at once, as it takes as long to call NumPy for one.
    """
    atom_counts = np.array([len(atoms) for atoms in structures], dtype=np.int64)
    usual = (atom_counts > 0) & np.array([atoms.pbc.all() for atoms in structures], dtype=bool)
    chosen = [structures[place] for place in np.flatnonzero(usual)]
    if not chosen:
        return usual
    cells = np.stack([atoms.cell.array for atoms in chosen])
    counts = atom_counts[usual]
    farthest = np.maximum.reduceat(
        np.abs(np.concatenate([atoms.positions for atoms in chosen])).max(axis=1), counts.cumsum() - counts
    )
    fine = (farthest <= FARTHEST) & (np.abs(cells).max(axis=(1, 2)) <= FARTHEST)  # neither NaN nor infinite
    cells[~fine] = np.eye(3)
    fine &= have_volume(cells)
    cells[~fine] = np.eye(3)
    thickness = 1 / np.sqrt(np.square(np.linalg.inv(cells)).sum(axis=1))
    fine &= (thickness.min(axis=1) >= THINNEST) & (np.abs(np.linalg.det(cells)) >= DENSEST * counts)
    usual[usual] = fine
    return usual


def check_possible(atoms: ase.Atoms, where: str) -> None:
    """Refuse a structure that could not exist, and whose neighbours would fill the memory.

    Raises:
        DataError: It has no atoms, numbers that are not finite or enormous, or a cell too small for its atoms.
    """
    if len(atoms) == 0:
        raise DataError("the structure has no atoms", where=where)
    cell, pbc = atoms.cell.array, atoms.pbc
    for what, values in (("position", atoms.positions), ("cell vector", cell[pbc])):
        if not np.isfinite(values).all():
            raise DataError(f"a {what} is NaN or infinite", where=where, remedy="Correct the structure.")
        if values.size and abs(values).max() > FARTHEST:
            raise DataError(
                f"a {what} is too far out",
                where=where,
                value=float(abs(values).max()),
                allowed=f"up to {FARTHEST:g} Å",
                remedy="Lengths are in Å.",
            )
    if not pbc.any():
        return
    # How thick the cell is along each vector: the columns of the inverse are its planes' normals over it.
    box = complete_box(cell, pbc, where)
    thickness = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)[pbc]
    if thickness.min() < THINNEST:
        raise DataError(
            "the cell is too thin for atoms",
            where=where,
            value=float(thickness.min()),
            allowed=f"at least {THINNEST} Å along each periodic direction",
            remedy="Lengths are in Å.",
        )
    if pbc.all() and atoms.get_volume() < DENSEST * len(atoms):
        raise DataError(
            "the cell is too small for its atoms",
            where=where,
            value=atoms.get_volume() / len(atoms),
            allowed=f"at least {DENSEST:g} Å³ an atom",
            remedy="Lengths are in Å.",
        )


def _require(count: int, most: int, message: str, what: str, where: str = "") -> None:
    if count > most:
        remedy = "Give a smaller one, or start the service with a higher --max-atoms."
        if what == "structures":
            remedy = "Divide them among requests, or start the service with a higher --max-structures."
        raise TooLargeError(message, where=where, value=count, allowed=f"up to {most} {what}", remedy=remedy)


def _sizes(given: Given) -> Iterator[int]:
    """Yield how many atoms the text says that there are, without reading it as a structure."""
    data = given.data
    if not isinstance(data, str):
        yield from sizes_in(data)
        return
    lines = data.split("\n")  # as the readers do: splitlines knows more ends of lines
    if given.format == "extxyz":
        line = 0
        while line < len(lines) and lines[line].strip().isdigit():
            count = int(lines[line].strip()[:20])
            yield count
            line += count + 2
    elif given.format == "poscar":
        yield from _counts_of_poscar(data)
    elif given.format == "cif":
        yield _sites_of_cif(lines)


def _counts_of_poscar(text: str) -> Iterator[int]:
    """Yield the sums of the integers with which lines begin in which pymatgen may look for numbers of atoms."""
    begin = text.lstrip()
    if "\n" in text[: len(text) - len(begin)]:
        begin = "\n" + begin  # an empty comment
    for line in begin.split("\n", COUNTS_END)[COUNTS_BEGIN:COUNTS_END]:
        total = 0
        for word in line.partition("#")[0].split():
            try:
                total += min(max(int(word), 0), ENORMOUS)  # "+5" and "1_000" are integers too
            except ValueError:
                break
        yield total


def _sites_of_cif(lines: list[str]) -> int:
    """Return the rows of the longest table of atoms; symmetry makes more of them."""
    longest = rows = 0
    in_atoms = False
    for line in lines:
        begins = line.strip()[:11].lower()
        if begins.startswith("_atom_site_"):
            in_atoms, rows = True, 0
        elif begins.startswith(("_", "loop_", "data_", "#")) or not begins:
            in_atoms = in_atoms and not begins.startswith(("_", "loop_", "data_"))
        elif in_atoms:
            rows += 1
            longest = max(longest, rows)
    return longest


def _cif(data: Any) -> list[ase.Atoms]:
    text = _text(data, "cif")
    if not is_cif(text):
        raise DataError("is not CIF", allowed="text with data_ and _cell_length_a", remedy="Give its own format.")
    return [parse_structure(text)]


def _poscar(data: Any) -> list[ase.Atoms]:
    text = _text(data, "poscar")
    if is_cif(text):
        raise DataError("is CIF, not POSCAR", remedy="Give format cif.")
    return [parse_structure(text)]


def _extxyz(data: Any) -> list[ase.Atoms]:
    return [atoms for _, atoms in read_structure_stream(StringIO(_text(data, "extxyz")), "extxyz", "")]


def _text(data: Any, format_name: str) -> str:
    """Return text that is no JSON: pymatgen would take that for its own, and make objects of what it names."""
    if not isinstance(data, str):
        raise DataError(f"{format_name} is text", remedy="Give data as a string, or the format pymatgen or ase.")
    if not data.strip():
        raise DataError("there is no structure in it")
    if data.lstrip()[0] in "{[":
        raise DataError(f"is JSON, not {format_name}", remedy="Give the format pymatgen or ase.")
    return data


def _json(read: Callable[[Any], list[ase.Atoms]]) -> Callable[[Any], list[ase.Atoms]]:
    def from_data(data: Any) -> list[ase.Atoms]:
        if isinstance(data, str):
            try:
                data = from_json(data)  # as a body is read: json would take half of a surrogate pair for text
            except ValueError as error:
                raise DataError(f"is not JSON ({error})") from error
        return read(data)

    return from_data


READERS: Final[dict[str, Callable[[Any], list[ase.Atoms]]]] = {
    "cif": _cif,
    "poscar": _poscar,
    "extxyz": _extxyz,
    "pymatgen": _json(from_pymatgen),
    "ase": _json(from_ase),
}
"""Format -> what reads it, from text or, of JSON, from what the request's own JSON held."""
