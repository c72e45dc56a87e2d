"""The structures and networks that benchmarks make up: what a step costs does not depend on labels or weights."""

from __future__ import annotations

from typing import Any

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


def schnet(cutoff: float, precision: str = "double", layers: int = 3) -> Any:
    """Return SchNet with 128 channels and 50 Gaussians, the same weights each time."""
    # Not above: KLIFF's process must hide `lightning` before anything imports it.
    import torch

    from kimgnn.models.build import build_network
    from kimgnn.models.network import NetworkSpec

    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    options = {"cutoff": cutoff, "num_interactions": layers}
    return build_network(NetworkSpec("schnet", options, [head], ["Si"], precision))
