"""Structures and networks that the export tests share."""

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms.graphs import RadialGraph
from torch import Tensor

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.export.contract import StagedGraph
from kimgnn.export.staged import stage_by_hop
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.derivatives import forces_from_edges
from kimgnn.transforms.neighbors import find_neighbors

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


def periodic_inputs(network: Network, atoms: Atoms) -> StagedGraph:
    """What an exported file of ``network`` is given for a structure without ghosts."""
    neighbors = find_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, network.cutoff)
    sender, receiver = neighbors.edge_index
    vectors = atoms.positions[receiver] - atoms.positions[sender] + neighbors.shifts
    codes = [network.spec.species.index(symbol) for symbol in atoms.symbols]
    layers = network.num_layers
    return StagedGraph(
        torch.tensor(codes),
        torch.from_numpy(neighbors.edge_index),
        torch.from_numpy(vectors),
        [len(atoms)] * layers,
        [len(sender)] * layers,
        torch.from_numpy(neighbors.reverse_edge),
    )


def staged_inputs(network: Network, configuration: Configuration) -> StagedGraph:
    """The same with ghosts: KLIFF's, ordered by hop."""
    species, layers = network.spec.species, network.num_layers
    graph = RadialGraph(species, network.cutoff, layers)(configuration)
    every_edge = graph[f"edge_index{layers - 1}"]
    nodes, _, edge_index, node_counts, edge_counts = stage_by_hop(every_edge, graph.contributions == 0, layers)
    positions = graph.coords[nodes]
    edges = {tuple(edge): index for index, edge in enumerate(edge_index.T.tolist())}
    reverse = [edges.get((receiver, sender), len(edges)) for sender, receiver in edges]
    codes = [species.index(chemical_symbols[z]) for z in graph.z[nodes].tolist()]
    vectors = positions[edge_index[1]] - positions[edge_index[0]]
    return StagedGraph(torch.tensor(codes), edge_index, vectors, node_counts, edge_counts, torch.tensor(reverse))


def staged_graphs(network: Network) -> dict[str, StagedGraph]:
    """Graphs of every kind for a network of Si and C: with ghosts and without, with few edges and with none."""
    structures = {
        "cell": mixed_atoms(["Si", "C"]),
        "supercell": mixed_atoms(["Si", "C"]).repeat(2),
        "tiny cell": Atoms("C", cell=[2.5, 2.5, 2.5], pbc=True),
        "molecule": Atoms("SiCSiC", [[0, 0, 0], [1.9, 0, 0], [0, 2, 0.1], [0.3, 0.2, 2.1]]),
        "dimer": Atoms("SiC", [[0, 0, 0], [1.9, 0, 0]]),
        "atom and dimer": Atoms("SiCC", [[0, 0, 0], [20, 0, 0], [21.9, 0, 0]]),
        "apart": Atoms("SiC", [[0, 0, 0], [9, 0, 0]]),
        "lone": Atoms("Si"),
    }
    graphs = {name: periodic_inputs(network, atoms) for name, atoms in structures.items()}
    return graphs | {"ghosts": staged_inputs(network, mixed_configuration(["Si", "C"]))}


def energies_and_gradient(network: Network, graph: StagedGraph) -> tuple[Tensor, Tensor]:
    """What PyTorch says, without shared pairs."""
    z = torch.tensor([atomic_numbers[symbol] for symbol in network.spec.species])[graph.species_codes]
    vectors = graph.edge_vectors.clone().requires_grad_()
    energies = network(GraphInputs(z, graph.edge_index, vectors, graph.node_counts, graph.edge_counts))["energy"]
    (gradient,) = torch.autograd.grad(energies.sum(), vectors, allow_unused=True)
    return energies.detach(), torch.zeros_like(vectors) if gradient is None else gradient


def forces_of(graph: StagedGraph, gradient: Tensor) -> Tensor:
    """Forces on all nodes from a gradient by edge vectors."""
    return forces_from_edges(gradient, graph.edge_index, len(graph.species_codes))
