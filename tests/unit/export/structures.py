"""Structures and networks that the export tests share."""

import numpy as np
from ase import Atoms
from ase.build import bulk
from kliff.dataset import Configuration

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network, NetworkSpec, build_network

CUTOFF = 4.0
SPECIES = ["C", "H", "Si"]


def mixed_atoms(species: list[str]) -> Atoms:
    """Eight rattled atoms of the given elements in a skewed cell smaller than the reach of two layers."""
    atoms = bulk("Si", cubic=True)
    atoms.symbols = [species[index % len(species)] for index in range(len(atoms))]
    atoms.set_cell(np.add(atoms.cell, [[0, 0, 0], [0.6, 0, 0], [0, -0.4, 0]]), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def mixed_configuration(species: list[str]) -> Configuration:
    """The same for KLIFF, with the labels that its RadialGraph cannot do without."""
    configuration = configuration_from_atoms(mixed_atoms(species))
    configuration.energy, configuration.forces = 0.0, np.zeros((8, 3))
    return configuration


def small_network(species: list[str], n_layers: int = 2, precision: str = "double") -> Network:
    """A small SchNet with random weights, in evaluation mode."""
    options = {"cutoff": CUTOFF, "hidden_channels": 8, "num_filters": 8, "num_interactions": n_layers}
    reference = {symbol: -1.5 * index for index, symbol in enumerate(species)}
    head = {"type": "energy", "reference_energies": reference, "scale": 1.0}
    return build_network(NetworkSpec("schnet", options, [head], species, precision)).eval()


def small_checkpoint(species: list[str], n_layers: int = 2) -> Checkpoint:
    """A checkpoint of a small network, with everything that an export writes about it."""
    network = small_network(species, n_layers)
    manifest = {
        "workspace": {"name": "/somewhere/on/a/machine/run"},
        "dataset": {"type": "ase", "path": "/somewhere/on/a/machine/silicon.xyz"},
        "model": {"architecture": "schnet", "heads": network.spec.heads, "precision": "double"},
    }
    atoms = mixed_atoms(species)
    structure = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell[:].tolist(),
        "pbc": atoms.pbc.tolist(),
    }
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF, "n_layers": n_layers}}
    return Checkpoint(network, transform, manifest, {"validation_forces_mae": 0.125}, {"structure": structure})
