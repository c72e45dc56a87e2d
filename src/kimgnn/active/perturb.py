"""Seeds under strain, and with their atoms off their places."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from kimgnn.active.frames import bare


def strained(atoms: Atoms, size: float, rattle: float, rng: np.random.Generator) -> Atoms:
    """Return a copy under a random symmetric strain, then rattled.

    Only vectors along which the structure is periodic are strained, and the atoms with them.

    Args:
        atoms: A seed.
        size: Largest component of the strain.
        rattle: Standard deviation of a displacement, Å.
        rng: Random numbers.
    """
    strain = rng.uniform(-size, size, (3, 3))
    changed = bare(atoms)
    cell = changed.cell.array.copy()
    cell[atoms.pbc] = cell[atoms.pbc] @ (np.eye(3) + (strain + strain.T) / 2)
    if atoms.pbc.any():
        changed.set_cell(cell, scale_atoms=changed.cell.rank == 3)
    return _moved(changed, rattle, rng)


def rattled(atoms: Atoms, size: float, rng: np.random.Generator) -> Atoms:
    """Return a copy in which every coordinate is moved by a normal deviate.

    Args:
        atoms: A seed.
        size: Largest standard deviation, Å; this structure's is drawn, up to it.
        rng: Random numbers.
    """
    return _moved(bare(atoms), rng.uniform(0.0, size), rng)


def _moved(atoms: Atoms, size: float, rng: np.random.Generator) -> Atoms:
    atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
    return atoms
