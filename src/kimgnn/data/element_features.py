"""Tables of elements: the 92 binned properties of CGCNN, or a JSON file in its format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from numpy.typing import NDArray

from kimgnn.errors import DataError, Problem

N_ELEMENTS: Final = len(chemical_symbols)
"""Rows of a table: one for each atomic number, from 0, which is no element."""

PROPERTIES: Final = "properties"
"""Stands for the binned properties, in the place of a file's name."""

WITHOUT_TABLE: Final = ("embedding", "onehot")
"""Features of elements that need no table, in the place of a file's name."""

_RANGES: Final = {
    "electronegativity": (0.5, 4.0),
    "covalent radius": (25.0, 250.0),
    "log ionisation energy": (1.3, 3.3),
    "electron affinity": (-3.0, 3.7),
    "log atomic volume": (1.5, 4.3),
}
"""Of the ten bins of each quantity: Pauling's, pm, ln(eV), eV, ln(cm³/mol)."""


def element_feature_table(source: str | Path) -> NDArray[np.float64]:
    """Return features of every element, ``(119, width)``: a row for each atomic number, NaN where there are none.

    Args:
        source: ``properties``, or a JSON file ``{"1": [0, 1, ...], "2": ...}`` by atomic number, as CGCNN's
            ``atom_init.json``.

    Raises:
        DataError: The file cannot be read, a key is no atomic number, or the rows are not numbers of one width.
    """
    return binned_properties() if source == PROPERTIES else _read_table(Path(source))


def binned_properties() -> NDArray[np.float64]:
    """Return the properties of CGCNN's elements, ``(119, 92)``, each one-hot among its bins.

    Xie & Grossman 2018, supplemental material, table I: group (0 for the f block, then 1 to 18), period (7),
    electronegativity (10), covalent radius (10), valence electrons (12), logarithm of the first ionisation energy (10),
    electron affinity (10), block (4), logarithm of the atomic volume (10). The data are mendeleev's, which the authors'
    were too. What is not known of an element, or is below the first bin, is in none; what is above the last, in that.
    """
    # Imported here: it brings a database along, which nothing else needs.
    from mendeleev.fetch import fetch_table

    elements = fetch_table("elements").set_index("atomic_number")
    energies = fetch_table("ionizationenergies")
    first = energies[energies["ion_charge"] == 0].set_index("atomic_number")["ionization_energy"]
    table = np.full((N_ELEMENTS, 92), np.nan)
    for z in range(1, N_ELEMENTS):
        element, group = elements.loc[z], _group(z, elements)
        table[z] = np.concatenate([
            _one_hot(group, 19),
            _one_hot(element["period"] - 1, 7),
            _binned(element["en_pauling"], "electronegativity"),
            _binned(element["covalent_radius_pyykko"], "covalent radius"),
            _one_hot(_valence_electrons(z, group) - 1, 12),
            _binned(np.log(first.get(z, np.nan)), "log ionisation energy"),
            _binned(element["electron_affinity"], "electron affinity"),
            _one_hot(_block(z, group), 4),
            _binned(np.log(element["atomic_volume"]), "log atomic volume"),
        ])  # fmt: skip
    return table


def elements_outside(table: NDArray[np.float64], configuration: Configuration) -> list[str]:
    """Return the elements of a structure that a table has no features of."""
    return [symbol for symbol in sorted(set(configuration.species)) if np.isnan(table[atomic_numbers[symbol]]).any()]


def within_table(
    table: NDArray[np.float64], configurations: Iterable[Configuration], source: str
) -> tuple[list[Configuration], list[Problem]]:
    """Return the structures of whose elements a table has features, and which elements of the others it lacks.

    Args:
        table: From `element_feature_table`.
        configurations: Structures.
        source: What the table was made from.
    """
    within, problems = [], []
    for configuration in configurations:
        if missing := elements_outside(table, configuration):
            name = configuration.identifier or f"configuration {configuration.metadata.get('index', '(no index)')}"
            problems.append(Problem(name, f"has elements that {source} has no features of", ", ".join(missing)))
        else:
            within.append(configuration)
    return within, problems


def require_elements(table: NDArray[np.float64], configurations: Iterable[Configuration], source: str) -> None:
    """Do nothing if a table has features of every element.

    Args:
        table: From `element_feature_table`.
        configurations: Structures.
        source: What the table was made from.

    Raises:
        DataError: Of each structure with other elements, which these are.
    """
    _, problems = within_table(table, configurations, source)
    if problems:
        raise DataError(problems=problems)


def _group(z: int, elements: Any) -> int:
    """Return the group, 0 for the f block, which ends before lutetium and lawrencium."""
    if 57 <= z <= 70 or 89 <= z <= 102:
        return 0
    return 3 if z in (71, 103) else int(elements.loc[z, "group_id"])


def _valence_electrons(z: int, group: int) -> int:
    """Return the electrons of the s, p and d shells that are being filled."""
    if group == 0 or z == 2:
        return 2
    return group if group <= 12 else group - 10


def _block(z: int, group: int) -> int:
    """Return 0 for s, 1 for p, 2 for d, 3 for f."""
    if group == 0:
        return 3
    if group <= 2 or z == 2:
        return 0
    return 2 if group <= 12 else 1


def _binned(value: float, name: str) -> NDArray[np.float64]:
    lowest, highest = _RANGES[name]
    return _one_hot(np.floor((value - lowest) / (highest - lowest) * 10), 10)


def _one_hot(index: float, width: int) -> NDArray[np.float64]:
    """Return ones where the index is, zeros for one that is NaN or negative; the last where it is beyond it."""
    row = np.zeros(width)
    if index >= 0:
        row[min(int(index), width - 1)] = 1.0
    return row


def _read_table(path: Path) -> NDArray[np.float64]:
    where = str(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=where) from error
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", where=where) from error
    if not isinstance(rows, dict) or not rows:
        raise DataError("holds no elements", where=where, allowed='{"1": [0, 1, ...], ...} by atomic number')
    for key in rows:
        if not (key.isdecimal() and 1 <= int(key) < N_ELEMENTS):
            raise DataError("is not an atomic number", where=where, value=key, allowed=f"1 to {N_ELEMENTS - 1}")
    try:
        values = np.array(list(rows.values()), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("the rows are not numbers, equally many for every element", where=where) from error
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError("the rows are not finite numbers, equally many for every element", where=where)
    table = np.full((N_ELEMENTS, values.shape[1]), np.nan)
    table[[int(key) for key in rows]] = values
    return table
