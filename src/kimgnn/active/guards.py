"""What is not worth a label: atoms that are too close."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from kimgnn.errors import DataError
from kimgnn.transforms.neighbors import find_neighbors


def too_close(atoms: Atoms, fraction: float) -> bool:
    """Return whether two atoms are nearer than a fraction of the sum of their covalent radii, or a position no number.

    Args:
        atoms: The structure.
        fraction: 0 to 1.
    """
    reach = fraction * covalent_radii[atoms.numbers]
    try:
        near = find_neighbors(atoms.positions, atoms.cell.array, atoms.pbc, 2 * float(reach.max()))
    except DataError:  # two atoms at one place, or NaN
        return True
    sender, receiver = near.edge_index
    distances = np.linalg.norm(atoms.positions[receiver] - atoms.positions[sender] + near.shifts, axis=1)
    return bool((distances < reach[sender] + reach[receiver]).any())
