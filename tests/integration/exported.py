"""An exported network with random weights, and the structures that it is tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from kimgnn.export.driver import install_model
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network, NetworkSpec

CUTOFF = 4.0


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    """The structure with every atom off its site by about 0.1 Å."""
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=seed)
    return atoms


def silicon_carbide_structures() -> dict[str, Atoms]:
    """Bulk, skewed, left-handed and tiny cells, slab, wire, molecule, lone atoms, atoms outside their cell."""
    cell = rattled(bulk("Si", cubic=True))
    cell.symbols[:3] = "C"
    skewed = cell.copy()
    skewed.set_cell(np.add(skewed.cell, [[0, 0, 0], [4, 0, 0], [0, -3, 0]]), scale_atoms=True)
    skewed.rotate(33, (1, 2, 3), rotate_cell=True)
    left_handed = cell.copy()
    left_handed.set_cell(left_handed.cell[[1, 0, 2]])
    outside = cell.copy()
    outside.positions += [20, -30, 7]
    slab = cell.copy()
    slab.pbc = (True, True, False)
    slab.cell[2] = [1, 2, 9]
    wire = cell.copy()
    wire.pbc = (False, True, False)
    return {
        "cell": cell,
        "primitive": rattled(bulk("Si")),
        "skewed": skewed,
        "left-handed": left_handed,
        "outside": outside,
        "slab": slab,
        "wire": wire,
        "molecule": Atoms("SiCSiC", [[0, 0, 0], [1.9, 0, 0], [0, 2, 0.1], [0.3, 0.2, 2.1]]),
        "apart": Atoms("SiC", [[0, 0, 0], [9, 0, 0]]),
        "lone": Atoms("Si", cell=[20, 20, 20], pbc=True),
        "tiny": Atoms("C", cell=[2.5, 2.5, 2.5], pbc=True),
    }


def small_network(n_layers: int = 3, precision: str = "double", members: int = 1) -> Network:
    """A SchNet of Si and C with random weights, or a committee of such, in evaluation mode."""
    torch.manual_seed(n_layers)
    options = {"cutoff": CUTOFF, "hidden_channels": 16, "num_filters": 16, "num_interactions": n_layers}
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 2.0}
    return build_network(NetworkSpec("schnet", options, [head], ["Si", "C"], precision, members=members)).eval()


def install_network(network: Network, name: str, directory: Path, format_name: str = "torchscript") -> Path:
    """Export ``network`` and install it where KIM looks; return the exported folder."""
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": network.cutoff, "n_layers": network.num_layers}}
    structure = silicon_carbide_structures()["cell"]
    checkpoint = Checkpoint(network, transform, {})
    folder = export_portable_model(checkpoint, name, directory, formats=[format_name], structure=structure)
    install_model(folder, force=True)
    return folder
