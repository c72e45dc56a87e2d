"""Units a label may come in. It is converted to eV, eV/Å or eV/Å³ where it is read, and nowhere else."""

from __future__ import annotations

from typing import Final
from unicodedata import normalize

from ase import units

from kimgnn.errors import ManifestError, did_you_mean
from kimgnn.fields import ENERGY, FORCES, STRESS

_ENERGIES: Final[dict[str, float]] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": units.Hartree,
    "Ha": units.Hartree,
    "Rydberg": units.Rydberg,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
_LENGTHS: Final[dict[str, float]] = {
    "Å": 1.0,
    "A": 1.0,
    "Ang": 1.0,
    "Angstrom": 1.0,
    "nm": units.nm,
    "Bohr": units.Bohr,
}
_PRESSURES: Final[dict[str, float]] = {
    "GPa": units.GPa,
    "MPa": 1e-3 * units.GPa,
    "Pa": units.Pascal,
    "kbar": 1e3 * units.bar,
    "bar": units.bar,
    "atm": 101325 * units.Pascal,
}

UNITS: Final[dict[str, dict[str, float]]] = {
    ENERGY: _ENERGIES,
    FORCES: {f"{e}/{d}": _ENERGIES[e] / _LENGTHS[d] for e in _ENERGIES for d in _LENGTHS},
    STRESS: _PRESSURES | {f"{e}/{d}^3": _ENERGIES[e] / _LENGTHS[d] ** 3 for e in _ENERGIES for d in _LENGTHS},
}
"""Label -> unit -> its value in eV, eV/Å or eV/Å³."""


def conversion(label: str, unit: str, where: str = "") -> float:
    """Return what one ``unit`` of ``label`` is in eV, eV/Å or eV/Å³.

    ``Å`` may be written ``A``, ``Ang`` or ``Angstrom``, and a cube ``³``, ``^3`` or ``**3``.

    Raises:
        ManifestError: There is no such unit for this label.
    """
    known = UNITS[label]
    # NFC makes the Ångström sign (U+212B) the letter.
    spelled = normalize("NFC", unit).replace("**3", "^3").replace("³", "^3").replace(" ", "")
    if spelled not in known:
        raise ManifestError(
            f"unknown unit of {label}",
            where=where,
            value=unit,
            allowed=", ".join(known),
            remedy=did_you_mean(unit, known),
        )
    return known[spelled]
