"""A structure as LAMMPS wants it: lower-triangular cell, types by species, and the rotation that leads there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import complete_cell
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.physics.derivatives import VOIGT

MARGIN = 1.0
"""Å of space beyond the atoms, on either side, where a structure is not periodic."""


class LammpsBox(NamedTuple):
    """A structure in LAMMPS's frame.

    Attributes:
        boundary: ``p`` or ``f`` for each box vector: ``ppf``.
        low: (3,) Å, the box's corner.
        cell: (3, 3) Å, box vectors in rows, lower-triangular.
        positions: (n_atoms, 3) Å.
        rotation: (3, 3), proper; a row vector ``v`` of the structure is ``v @ rotation`` here.
    """

    boundary: str
    low: NDArray[np.float64]
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def forces_back(self, forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forces (n_atoms, 3) in the structure's frame."""
        return forces @ self.rotation.T

    def stress_back(self, stress: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a stress (6,), Voigt xx yy zz yz xz xy, in the structure's frame."""
        xx, yy, zz, yz, xz, xy = stress
        tensor = self.rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ self.rotation.T
        return np.array([tensor[i, j] for i, j in VOIGT])


def lammps_box(atoms: Atoms) -> LammpsBox:
    """Return ``atoms`` in LAMMPS's frame; where they are not periodic, the box reaches a little beyond them."""
    pbc = np.array(atoms.pbc)
    cell = complete_cell(np.where(pbc[:, None], atoms.cell[:], 0.0))
    if np.linalg.det(cell) < 0:
        # The same lattice, right-handed: turning a left-handed one would take a mirror.
        cell, pbc = cell[[1, 0, 2]], pbc[[1, 0, 2]]
    rotation, upper = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(upper))
    rotation, lower = rotation * signs, np.tril((upper * signs[:, None]).T)
    positions = atoms.positions @ rotation

    low = np.zeros(3)
    # A vector along which there is no periodicity is orthogonal to the others, so it lies along its own axis.
    for axis in np.flatnonzero(~pbc):
        low[axis] = positions[:, axis].min() - MARGIN
        lower[axis, axis] = np.ptp(positions[:, axis]) + 2 * MARGIN
    boundary = "".join("p" if periodic else "f" for periodic in pbc)
    return LammpsBox(boundary, low, lower, positions, rotation)


def write_data(path: str | Path, atoms: Atoms, species: Sequence[str]) -> LammpsBox:
    """Write a LAMMPS data file, atom style ``atomic``, units ``metal``, and return the frame it is in.

    Args:
        path: The file.
        atoms: The structure.
        species: Elements in the order of LAMMPS's atom types.

    Raises:
        DataError: The structure has another element.
    """
    types = {symbol: index for index, symbol in enumerate(species, start=1)}
    for symbol in atoms.symbols:
        if symbol not in types:
            raise DataError("the model does not know this element", value=symbol, allowed=", ".join(species))
    box = lammps_box(atoms)
    lines = [f"{atoms.get_chemical_formula()}, written by kimgnn", ""]
    lines += [f"{len(atoms)} atoms", f"{len(species)} atom types", ""]
    for axis, name in enumerate("xyz"):
        lines.append(f"{box.low[axis]:.17g} {box.low[axis] + box.cell[axis, axis]:.17g} {name}lo {name}hi")
    tilts = (box.cell[1, 0], box.cell[2, 0], box.cell[2, 1])
    if any(tilts):
        lines.append("{:.17g} {:.17g} {:.17g} xy xz yz".format(*tilts))
    lines += ["", "Masses", ""]
    lines += [f"{types[symbol]} {atomic_masses[atomic_numbers[symbol]]:.6f} # {symbol}" for symbol in species]
    lines += ["", "Atoms # atomic", ""]
    for index, (symbol, position) in enumerate(zip(atoms.symbols, box.positions, strict=True), start=1):
        lines.append("{} {} {:.17g} {:.17g} {:.17g}".format(index, types[symbol], *position))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return box
