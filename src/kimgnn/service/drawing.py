"""What the page needs to draw structures: atoms, cells, and how elements look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import ase
from ase.data import atomic_names, atomic_numbers, covalent_radii, missing
from ase.data.colors import jmol_colors

UNKNOWN_RADIUS: Final = 1.6
"""Å, of the heaviest elements, which have none in the table: about that of the heaviest which have."""

UNKNOWN_COLOR: Final = "#c80064"


def drawn(identifier: str, atoms: ase.Atoms, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return one structure as the page takes it.

    ``structure`` holds numbers, positions (Å), cell vectors in rows (Å) and pbc, in doubles: sent back to be predicted,
    it is exactly the structure that was parsed.
    """
    return {
        "id": identifier,
        "formula": atoms.get_chemical_formula(),
        "atoms": len(atoms),
        "symbols": atoms.get_chemical_symbols(),
        "structure": {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        },
        "warnings": list(warnings),
    }


def elements(structures: Iterable[ase.Atoms]) -> dict[str, dict[str, Any]]:
    """Return symbol -> name, colour and covalent radius (Å) of each element in the structures, as ASE has them.

    Colours are Jmol's, radii those of Cordero et al., Dalton Trans. 2008, 2832.
    """
    found = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    return {symbol: _element(atomic_numbers[symbol]) for symbol in found}


def _element(number: int) -> dict[str, Any]:
    color, radius = UNKNOWN_COLOR, float(covalent_radii[number])
    if number < len(jmol_colors):  # it ends before the heaviest
        color = "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number])
    if radius == missing:
        radius = UNKNOWN_RADIUS
    return {"name": atomic_names[number], "color": color, "radius": radius}
