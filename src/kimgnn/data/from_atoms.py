"""ASE structure -> KLIFF configuration with checked, converted labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from kliff.dataset import Configuration

from kimgnn.data.labels import KEYS, KEYS_PRESENT, checked_label, find_label, keys_present
from kimgnn.data.parsing import decoded, is_missing
from kimgnn.data.units import conversion
from kimgnn.errors import DataError
from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS

UNITS = {ENERGY: "eV", FORCES: "eV/Å", STRESS: "eV/Å^3"}

GEOMETRY: Final = ("numbers", "positions", "spacegroup", "spacegroup_kinds", "unit_cell", "occupancy")
"""Names in an ASE structure of what is no value of it."""


def attach_values(atoms: ase.Atoms, values: Mapping[str, Any], forces_key: str = FORCES) -> None:
    """Put what a table has for a structure where labels are looked for: text as the number or list it spells."""
    for name, value in values.items():
        if not is_missing(value):
            store = atoms.arrays if name == forces_key else atoms.info
            store[name] = decoded(value)


def values_of(atoms: ase.Atoms) -> dict[str, Any]:
    """Return all that a file has for a structure beside its geometry: info, arrays of its atoms, results.

    A crystal's geometry includes what ASE tells of a CIF's symmetry.
    """
    results = atoms.calc.results if isinstance(atoms.calc, SinglePointCalculator) else {}
    found = {**results, **atoms.arrays, **atoms.info}
    return {name: value for name, value in found.items() if name not in GEOMETRY}


def configuration_from_atoms(
    atoms: ase.Atoms,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    stress_positive: str = "tension",
    identifier: str = "",
    labels: Sequence[str] = LABELS,
) -> Configuration:
    """Return ``atoms`` as a KLIFF configuration, labels in eV, eV/Å and eV/Å³, ``None`` where it has none.

    Args:
        atoms: The structure; its own labels are read, no calculator is run, constraints are ignored.
        keys: Label -> its name in the file; by default the label's own.
        units: Label -> unit in the file; by default eV, eV/Å and eV/Å³.
        stress_positive: What a positive stress in the file means, ``tension`` or ``compression``.
        identifier: What messages call it: ``file.xyz:12``.
        labels: Those to read; what the file has of others is not looked at.

    Raises:
        DataError: No atoms, an unknown element, or a label that is not numeric, not finite or of the wrong shape.
        ManifestError: An unknown unit.
    """
    if len(atoms) == 0:
        raise DataError("the structure has no atoms", where=identifier)
    if not atoms.numbers.all():
        raise DataError(
            "an atom is of no element",
            where=identifier,
            value=f"X, atom {int(np.argmin(atoms.numbers))}",
            allowed="the symbols of chemical elements",
            remedy="Correct the symbol, or remove the structure from the file.",
        )
    keys = {label: label for label in LABELS} | dict(keys or {})
    units = UNITS | dict(units or {})
    values = {}
    for label in labels:
        factor = conversion(label, units[label], where=f"dataset.units.{label}")
        if label == STRESS and stress_positive == "compression":
            factor = -factor
        found = find_label(atoms, label, keys[label])
        if found is not None:
            values[label] = factor * checked_label(found, label, len(atoms), f"{identifier} ({keys[label]})".strip())
    configuration = Configuration(
        cell=np.array(atoms.cell),
        species=atoms.get_chemical_symbols(),
        coords=atoms.get_positions(),
        PBC=[bool(periodic) for periodic in atoms.pbc],
        energy=float(values[ENERGY]) if ENERGY in values else None,
        forces=values.get(FORCES),
        stress=values.get(STRESS),
        identifier=identifier or None,
    )
    configuration.metadata = {
        "identifier": identifier,
        KEYS: keys,
        KEYS_PRESENT: {label: keys_present(atoms, label) for label in labels if label not in values},
    }
    return configuration
