"""The structures that benchmarks make up: what a step costs does not depend on labels."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk


def silicon(random: np.random.Generator) -> Atoms:
    """Return 64 atoms of silicon, rattled, with energy and forces."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
    atoms.info["energy_label"] = random.normal(-290, 1)
    atoms.arrays["force_label"] = random.normal(size=(len(atoms), 3))
    return atoms


def perovskite(random: np.random.Generator) -> Atoms:
    """Return a cubic perovskite of random elements, 5 atoms, with a property."""
    symbols = [random.choice(["Ca", "Sr", "Ba", "La"]), random.choice(["Ti", "Zr", "Mn", "Fe"]), *"OOO"]
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    atoms = Atoms(symbols, scaled_positions=places, cell=[random.uniform(3.8, 4.3)] * 3, pbc=True)
    atoms.info["heat"] = random.normal()
    return atoms
