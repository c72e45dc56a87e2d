"""pymatgen's and ASE's JSON of structures, read as plain data.

Their own readers make objects of whatever class the JSON names (monty imports ``@module``, ASE has hooks for
``__ase_objtype__``); what comes over a network is read here for its numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from kimgnn.data.parsing import ONE_ATOM, ORDER_IT, ORDERED, PARTLY_OCCUPIED
from kimgnn.errors import DataError

PYMATGEN: Final = "the dictionary of a Structure or Molecule: structure.as_dict()"
ASE: Final = "numbers, positions, cell and pbc: atoms.todict(), or what ase.io.write(..., format='json') writes"

LENGTHS: Final = ("a", "b", "c", "alpha", "beta", "gamma")


def from_pymatgen(content: Any) -> list[ase.Atoms]:
    """Return the structure of pymatgen's JSON, a molecule without a cell.

    Raises:
        DataError: It is of another form, or a site is not one atom of an element.
    """
    sites = content.get("sites") if isinstance(content, Mapping) else None
    if not isinstance(sites, list) or not all(isinstance(site, Mapping) for site in sites):
        raise DataError("is not pymatgen's JSON of a structure", allowed=PYMATGEN)
    if "implicit_hydrogens" in (content.get("properties") or {}):
        raise DataError("hydrogen atoms are implied without positions", remedy="Add them.")
    numbers = [_number(site, index) for index, site in enumerate(sites)]
    lattice = content.get("lattice")
    if lattice is None:
        return [ase.Atoms(numbers, positions=_array([site.get("xyz") for site in sites], (-1, 3), "sites.xyz"))]
    cell = _cell(lattice)
    positions = _array([site.get("abc") for site in sites], (-1, 3), "sites.abc") @ cell
    pbc = lattice.get("pbc", [True] * 3)
    return [ase.Atoms(numbers, positions=positions, cell=cell, pbc=_array(pbc, (3,), "lattice.pbc", bool))]


def from_ase(content: Any) -> list[ase.Atoms]:
    """Return the structures of ASE's JSON: one structure's dictionary, or those of a database, by their ids.

    Raises:
        DataError: It is of another form, or no structure.
    """
    if isinstance(content, Mapping) and "numbers" in content:
        return [_atoms(content)]
    if isinstance(content, Mapping) and isinstance(content.get("ids"), list):
        names = [str(identifier) for identifier in content["ids"]]
        if len(set(names)) < len(names):  # else a short text could be any number of structures
            raise DataError("an id is there twice", where="ids", remedy="Give each structure once.")
        return [_atoms(content.get(name)) for name in names]
    raise DataError("is not ASE's JSON of a structure", allowed=ASE)


def sizes_in(content: Any) -> Iterator[int]:
    """Yield how many atoms the structures of either JSON have, as far as lists tell it, before any is made."""
    if isinstance(content, Mapping):
        for name in ("sites", "numbers"):
            part = _unpacked(content.get(name))
            if isinstance(part, list):
                yield len(part)
        ids = content.get("ids")
        if isinstance(ids, list):
            for identifier in ids:
                yield from sizes_in(content.get(str(identifier)) if isinstance(identifier, int | str) else None)


def _number(site: Mapping[str, Any], index: int) -> int:
    """Return the atomic number of a site of pymatgen's."""
    species = site.get("species")
    if not isinstance(species, list) or not all(isinstance(kind, Mapping) for kind in species):
        raise DataError("a site has no species", value=f"site {index}", allowed=PYMATGEN)
    occupancy = [kind.get("occu") for kind in species]
    share = occupancy[0] if len(occupancy) == 1 else None
    if not isinstance(share, int | float) or not abs(share - 1) <= ORDERED:
        raise DataError(PARTLY_OCCUPIED, value=f"site {index}", allowed=ONE_ATOM, remedy=ORDER_IT)
    symbol = species[0].get("element")
    number = atomic_numbers.get(symbol, 0) if isinstance(symbol, str) else 0
    if not number:
        raise DataError("an atom is of no element", value=f"{symbol}, site {index}")
    return number


def _cell(lattice: Any) -> NDArray[np.float64]:
    if isinstance(lattice, Mapping) and "matrix" in lattice:
        return _array(lattice["matrix"], (3, 3), "lattice.matrix")
    if isinstance(lattice, Mapping) and all(name in lattice for name in LENGTHS):
        return cellpar_to_cell(_array([lattice[name] for name in LENGTHS], (6,), "lattice"))
    raise DataError("the structure has no lattice", allowed=PYMATGEN)


def _atoms(content: Any) -> ase.Atoms:
    if not isinstance(content, Mapping) or "numbers" not in content or "positions" not in content:
        raise DataError("is not ASE's JSON of a structure", allowed=ASE)
    numbers = _array(content["numbers"], (-1,), "numbers", np.int64)
    if not ((numbers >= 0) & (numbers < len(atomic_numbers))).all():
        raise DataError("there is no such chemical element", where="numbers", allowed="atomic numbers")
    positions = _array(content["positions"], (-1, 3), "positions")
    if len(positions) != len(numbers):
        raise DataError("is not as long as numbers", where="positions", value=len(positions), allowed=str(len(numbers)))
    cell = content.get("cell", np.zeros((3, 3)))
    if isinstance(cell, Mapping) and "array" in cell:  # as ASE marks an object
        cell = cell["array"]
    return ase.Atoms(
        numbers,
        positions=positions,
        cell=_array(cell, (3, 3), "cell"),
        pbc=_array(content.get("pbc", [False] * 3), (3,), "pbc", bool),
    )


def _unpacked(value: Any) -> Any:
    """Return the flat list of ASE's ``__ndarray__``: shape, type, numbers; anything else as it is."""
    if isinstance(value, Mapping) and isinstance(value.get("__ndarray__"), list) and len(value["__ndarray__"]) == 3:
        return value["__ndarray__"][2]
    return value


def _array(value: Any, shape: Sequence[int], where: str, kind: Any = np.float64) -> NDArray[Any]:
    """Return numbers as an array of a shape, in which -1 is any."""
    value = _unpacked(value)
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "biuf":
            raise ValueError
        given = found.astype(kind, copy=False)
        if given is not found and kind is not bool:
            if not np.array_equal(given, found.astype(np.float64), equal_nan=True):
                raise ValueError  # 14.5 is no atomic number
        if given.ndim == 1 and len(shape) == 2:  # flat, of __ndarray__; or no atoms
            size = abs(int(np.prod(shape)))
            given = given.reshape([part if part > 0 else len(given) // size for part in shape])
        if given.ndim != len(shape) or any(
            part not in (-1, have) for part, have in zip(shape, given.shape, strict=True)
        ):
            raise ValueError
    except (ValueError, TypeError, OverflowError) as error:
        wanted = ", ".join("n" if part == -1 else str(part) for part in shape)
        raise DataError("is not numbers of the right shape", where=where, allowed=f"({wanted})") from error
    return given
