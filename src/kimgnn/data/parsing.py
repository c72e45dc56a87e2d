"""Text or a mapping that describes a crystal -> ASE structure, or the reason why not."""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import ase
import numpy as np
from ase.data import atomic_numbers
from pymatgen.core import __version__ as pymatgen_version
from pymatgen.core.periodic_table import DummySpecies
from pymatgen.core.structure import Structure
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

from kimgnn import __version__
from kimgnn.cache import Cache
from kimgnn.data.records import Entry, Record, Source
from kimgnn.errors import DataError, Problem, did_you_mean

LATTICE: Final = ("lattice", "cell", "lattice_mat")
SPECIES: Final = ("species", "elements", "symbols", "atomic_numbers", "numbers")
FRACTIONAL: Final = ("frac_coords", "scaled_positions")
CARTESIAN: Final = ("coords", "cart_coords", "positions")
"""Names under which a mapping, or a table, has the parts of a structure."""

MISSING: Final = ("", "nan", "none", "null", "na", "n/a")
"""Text, in any case, that stands for no value."""

SHOWN: Final = 10
"""Entries that a warning about many of them names."""

RECIPE: Final = (
    f"structure 1 {__version__} {pymatgen_version} ".encode() + hashlib.sha256(Path(__file__).read_bytes()).digest()
)
"""What a parsed structure depends on beside its source: this code too, which changes between versions."""

PARTLY_OCCUPIED: Final = "a site is partly occupied"
ONE_ATOM: Final = "one element with occupancy 1 on each site"
ORDER_IT: Final = "Take an ordered approximant, or leave the entry out."

ORDERED: Final = 1e-3
"""An occupancy nearer to 1 than this is 1: files round."""


def parsed(entries: Iterable[Entry], cache: Cache | None = None) -> Iterator[Record | Problem]:
    """Yield the record of each entry, or what is wrong with its structure.

    Args:
        entries: The rows of a source.
        cache: Keeps the structures that were parsed without a warning, by what they were parsed from.

    Warns:
        UserWarning: A structure was read on an assumption, such as no symmetry; the entries are named.
    """
    told: dict[str, list[str]] = {}
    for entry in entries:
        caught: list[warnings.WarningMessage] = []
        try:
            content, key = _content(entry.source), b""
            kept = None
            if cache is not None:
                key = hashlib.sha256(RECIPE + _bytes(content)).digest()
                kept = cache.get(key)
            if kept is not None:
                atoms = _unpacked(kept)
            else:
                with warnings.catch_warnings(record=True) as caught:  # not what the cache tells of itself
                    warnings.simplefilter("always")
                    atoms = _parse(content, isinstance(entry.source, Path))
                if cache is not None and not caught:
                    cache.put(key, _packed(atoms))
            of_cif = isinstance(entry.source, Path) or (isinstance(content, str) and is_cif(content))
            result: Record | Problem = Record(entry.identifier, atoms, entry.values, in_order=not of_cif)
        except DataError as error:
            (problem,) = error.problems
            result = Problem(entry.identifier, problem.message, problem.value, problem.allowed, problem.remedy)
        if isinstance(result, Record):
            for warning in caught:
                told.setdefault(str(warning.message), []).append(entry.identifier)
        yield result
    for message, identifiers in told.items():
        more = f" and {len(identifiers) - SHOWN} more" if len(identifiers) > SHOWN else ""
        warnings.warn(f"{', '.join(identifiers[:SHOWN])}{more}: {message}", stacklevel=2)


def _content(source: Source) -> str | Mapping[str, Any]:
    try:
        return source.read_text(encoding="utf-8", errors="replace") if isinstance(source, Path) else source
    except OSError as error:
        raise DataError(f"cannot be read: {error}") from error


def _bytes(content: str | Mapping[str, Any]) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content, default=str)
    return text.encode(errors="replace")


def _packed(atoms: ase.Atoms) -> bytes:
    """Return a periodic structure as float64: the cell, atomic numbers, positions."""
    return np.concatenate([atoms.cell.array.ravel(), atoms.numbers, atoms.positions.ravel()]).tobytes()


def _unpacked(data: bytes) -> ase.Atoms:
    cell, rest = np.split(np.frombuffer(data), [9])
    numbers, positions = np.split(rest, [len(rest) // 4])
    return ase.Atoms(numbers.astype(np.int64), positions.reshape(-1, 3), cell=cell.reshape(3, 3), pbc=True)


def parse_structure(source: Source) -> ase.Atoms:
    """Return a structure, periodic in all directions, with Cartesian positions in Å.

    Args:
        source: A CIF file's path, CIF or POSCAR text, a pymatgen dict or its JSON, or a mapping with the lattice (three
            vectors, or three lengths and three angles, Å and degrees), species (symbols or atomic numbers) and
            fractional or Cartesian coordinates under one of their names.

    Raises:
        DataError: It does not parse, or atoms are missing, partly occupied or of no element.
    """
    return _parse(_content(source), isinstance(source, Path))


def _parse(content: Any, of_cif_file: bool) -> ase.Atoms:
    try:
        if isinstance(content, str) and content.lstrip()[:1] == "{":
            content = json.loads(content)
        if isinstance(content, str) and content.strip():
            return _from_pymatgen(_from_cif(content) if of_cif_file or is_cif(content) else _from_poscar(content))
        if isinstance(content, Mapping):
            return _from_pymatgen(Structure.from_dict(dict(content))) if "sites" in content else _from_parts(content)
    except DataError:
        raise
    except Exception as error:  # pymatgen raises whatever it stumbles on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the structure does not parse: {reason}") from error
    raise DataError("there is no structure")


def is_cif(text: str) -> bool:
    """Whether text is a CIF's, not a POSCAR's."""
    return "_cell_length_a" in text or text.lstrip().startswith("data_")


def decoded(value: Any) -> Any:
    """Return text as the number or list that it spells, and everything else as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    readers: tuple[Callable[[str], Any], ...] = ()
    if text[:1] in ("[", "("):  # JSON spells null and NaN in its own way, Python has tuples and single quotes
        readers = (json.loads, ast.literal_eval)
    elif "_" not in text and any(
        map(str.isdigit, text)
    ):  # Python takes 1_000 for 1000, and the formula InF for infinity
        readers = (int, float)
    for read in readers:
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return value


def is_missing(value: Any) -> bool:
    """Whether a raw value is none: ``None``, NaN, or text that says so."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return value is None or (isinstance(value, float) and value != value)


def _from_cif(text: str) -> Structure:
    """Return the cell as the CIF has it, not the primitive one, with all symmetric copies of its atoms."""
    structures = CifParser.from_str(text).parse_structures(primitive=False, on_error="raise")
    if len(structures) > 1:
        warnings.warn(f"the CIF has {len(structures)} structures; the first is taken", stacklevel=2)
    return structures[0]


def _from_poscar(text: str) -> Structure:
    with warnings.catch_warnings():
        # A file without symbols: pymatgen would make its elements H, He, Li.
        warnings.simplefilter("error", BadPoscarWarning)
        return Poscar.from_str(text).structure


def _from_pymatgen(structure: Structure) -> ase.Atoms:
    if "implicit_hydrogens" in structure.site_properties:
        raise DataError("hydrogen atoms are implied without positions", remedy="Add them, or leave the entry out.")
    numbers = []
    for index, site in enumerate(structure):
        occupancy = list(site.species.values())
        if len(occupancy) != 1 or abs(occupancy[0] - 1) > ORDERED:
            raise DataError(
                PARTLY_OCCUPIED, value=f"{site.species_string}, site {index}", allowed=ONE_ATOM, remedy=ORDER_IT
            )
        (specie,) = site.species
        if isinstance(specie, DummySpecies):
            raise DataError("an atom is of no element", value=f"{specie}, site {index}")
        numbers.append(specie.Z)
    return _checked(ase.Atoms(numbers, positions=structure.cart_coords, cell=structure.lattice.matrix, pbc=True))


def _checked(atoms: ase.Atoms) -> ase.Atoms:
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    if not (np.isfinite(atoms.cell.array).all() and np.isfinite(atoms.positions).all()):
        raise DataError("the lattice or a coordinate is NaN or infinite")
    if atoms.get_volume() <= 0:
        raise DataError("the lattice has no volume", value=atoms.cell.tolist())
    return atoms


def _from_parts(source: Mapping[str, Any]) -> ase.Atoms:
    parts = {str(key).lower(): value for key, value in source.items()}
    lattice, species = (_part(parts, names) for names in (LATTICE, SPECIES))
    if isinstance(lattice, Mapping):
        lattice = lattice.get("matrix")
    scaled = _part(parts, FRACTIONAL, required=False)
    coords = _part(parts, CARTESIAN) if scaled is None else scaled
    lattice, coords = np.asarray(lattice, dtype=np.float64), np.asarray(coords, dtype=np.float64)
    numbers = [_atomic_number(symbol, index) for index, symbol in enumerate(species)]
    if lattice.shape not in ((3, 3), (6,)):
        raise DataError("the lattice has the wrong shape", value=lattice.shape, allowed="(3, 3) or (6,)")
    if coords.shape != (len(numbers), 3):
        raise DataError("the coordinates do not fit the species", value=coords.shape, allowed=f"({len(numbers)}, 3)")
    place = {"positions": coords} if scaled is None else {"scaled_positions": coords}
    return _checked(ase.Atoms(numbers, cell=lattice, pbc=True, **place))


def _part(parts: Mapping[str, Any], names: tuple[str, ...], required: bool = True) -> Any:
    found = next((parts[name] for name in names if not is_missing(parts.get(name))), None)
    if found is None and required:
        raise DataError("a part of the structure is missing", value=names[0], allowed=" or ".join(names))
    return decoded(found)


def _atomic_number(symbol: Any, index: int) -> int:
    """Return the atomic number of a symbol, or of a number."""
    if isinstance(symbol, str) and not symbol.isdigit():
        number = atomic_numbers.get(symbol, 0)
    else:
        number = int(symbol)
    if not 0 < number < len(atomic_numbers):
        remedy = did_you_mean(symbol, atomic_numbers) if isinstance(symbol, str) else ""
        raise DataError("there is no such chemical element", value=f"{symbol}, atom {index}", remedy=remedy)
    return number
