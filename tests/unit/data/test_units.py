"""Units of labels, against CODATA figures that do not come from the table under test."""

from __future__ import annotations

import pytest

from kimgnn.data.units import conversion
from kimgnn.errors import ManifestError


@pytest.mark.parametrize(
    ("label", "unit", "expected"),
    [
        ("energy", "eV", 1.0),
        ("energy", "meV", 1e-3),
        ("energy", "Ha", 27.211386),
        ("energy", "Ry", 13.605693),
        ("energy", "kcal/mol", 0.0433641),
        ("energy", "kJ/mol", 0.01036427),
        ("forces", "Hartree/Bohr", 51.422067),
        ("forces", "Ry/Bohr", 25.711034),
        ("forces", "kcal/mol/Å", 0.0433641),
        ("forces", "kJ/mol/nm", 0.001036427),
        ("forces", "meV/Å", 1e-3),
        ("stress", "GPa", 1 / 160.2176634),
        ("stress", "kbar", 1 / 1602.176634),
        ("stress", "MPa", 1 / 160217.6634),
        ("stress", "bar", 1 / 1602176.634),
        ("stress", "Ry/Bohr^3", 91.816),
    ],
)
def test_values(label: str, unit: str, expected: float) -> None:
    """One unit is this many eV, eV/Å or eV/Å³."""
    assert conversion(label, unit) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("unit", ["eV/Å^3", "eV/A^3", "eV/Ang^3", "eV/Å³", "eV/Å**3", "eV/\u212b^3", "eV / A^3"])
def test_spellings_of_the_cubic_angstrom(unit: str) -> None:
    """Both Å characters, A, Ang and every way to write a cube are the same unit."""
    assert conversion("stress", unit) == 1.0


@pytest.mark.parametrize(("label", "unit"), [("energy", "GPa"), ("forces", "eV"), ("stress", "mpa"), ("energy", "MeV")])
def test_unknown_units(label: str, unit: str) -> None:
    """A unit of another quantity, or in another case, is refused with those that exist."""
    with pytest.raises(ManifestError, match=f"dataset.units: unknown unit of {label}.*'{unit}'.*Allowed"):
        conversion(label, unit, where="dataset.units")
