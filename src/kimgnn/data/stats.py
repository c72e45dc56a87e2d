"""What a data set holds: sizes, elements, symmetry, and how each of its values is distributed."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import ase
import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from kimgnn.data.parsing import decoded, is_missing
from kimgnn.data.records import Record

SYMPREC: Final = 0.01
"""Distance, Å, within which atoms are symmetric copies; pymatgen's own choice."""

FEW: Final = 10
"""A value of whole numbers that has at most so many different ones is told as classes."""


@dataclass(frozen=True)
class ValueStatistics:
    """One column or key.

    Attributes:
        name: Of the column.
        n_labelled: Structures that have a value.
        n_missing: Structures that have none.
        numbers: All numbers of it, finite; those of all atoms and components where it is an array.
        classes: Value -> structures that have it; where it is not numbers, or only a few whole ones.
    """

    name: str
    n_labelled: int
    n_missing: int
    numbers: NDArray[np.float64]
    classes: dict[str, int]


@dataclass(frozen=True)
class DataStatistics:
    """A data set.

    Attributes:
        n_atoms: Atoms in each structure, (n_structures,) int.
        elements: Chemical symbol -> structures that have it.
        space_groups: ``Fm-3m (225)`` -> structures; of those that are periodic in all directions.
        crystal_systems: ``cubic`` -> structures, likewise.
        n_without_symmetry: Structures that are not, or of which none could be found.
        values: Every column or key with a value somewhere.
    """

    n_atoms: NDArray[np.int64]
    elements: dict[str, int]
    space_groups: dict[str, int]
    crystal_systems: dict[str, int]
    n_without_symmetry: int
    values: list[ValueStatistics]


def data_statistics(records: Sequence[Record]) -> DataStatistics:
    """Return what a data set holds.

    Args:
        records: The data set, of at least one structure.
    """
    elements: Counter[str] = Counter()
    for record in records:
        elements.update(set(record.atoms.get_chemical_symbols()))
    symmetries = [symmetry_of(record.atoms) for record in records]
    groups = Counter(found[0] for found in symmetries if found is not None)
    systems = Counter(found[1] for found in symmetries if found is not None)
    names = dict.fromkeys(name for record in records for name in record.values)
    values = [_of_value(name, [record.values.get(name) for record in records]) for name in names]
    return DataStatistics(
        n_atoms=np.array([len(record.atoms) for record in records]),
        elements=dict(elements.most_common()),
        space_groups=dict(groups.most_common()),
        crystal_systems=dict(systems.most_common()),
        n_without_symmetry=symmetries.count(None),
        values=[value for value in values if value.n_labelled],
    )


def symmetry_of(atoms: ase.Atoms) -> tuple[str, str] | None:
    """Return space group and crystal system, ``("Fm-3m (225)", "cubic")``; ``None`` of what is no crystal."""
    if not atoms.pbc.all():
        return None
    structure = Structure(atoms.cell.array, atoms.numbers, atoms.positions, coords_are_cartesian=True)
    try:
        with warnings.catch_warnings(), patch.dict(os.environ, SPGLIB_WARNING="OFF"):  # it writes to the terminal
            warnings.simplefilter("ignore")  # spglib's, about its own interface
            found = SpacegroupAnalyzer(structure, symprec=SYMPREC)
            group = f"{found.get_space_group_symbol()} ({found.get_space_group_number()})"
            return group, str(found.get_crystal_system())
    except Exception:  # spglib gives up on atoms on top of one another
        return None


def _of_value(name: str, raw: Sequence[Any]) -> ValueStatistics:
    found = [decoded(value) for value in raw if not is_missing(value)]
    arrays = [_array(value) for value in found]
    numbers = np.concatenate([array for array in arrays if array is not None] or [np.empty(0)])
    is_text = any(array is None for array in arrays)
    is_single = not is_text and all(np.ndim(value) == 0 for value in found)
    different = np.unique(numbers)
    is_class = is_single and len(different) <= FEW and bool((different == np.round(different)).all())
    classes = Counter(str(value) for value in found) if is_text or is_class else Counter[str]()
    return ValueStatistics(name, len(found), len(raw) - len(found), numbers, dict(classes.most_common()))


def _array(value: Any) -> NDArray[np.float64] | None:
    """Return the finite numbers of a value in a row, ``None`` if it is none."""
    try:
        array = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return array[np.isfinite(array)]
