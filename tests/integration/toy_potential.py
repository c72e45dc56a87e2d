"""Small message-passing potentials for the KIM driver, and what they give on a periodic cell without KIM."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch import Tensor, nn

from kimgnn.export import documents
from kimgnn.export.driver import driver_name
from kimgnn.export.formats import FORMATS
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.torchscript import save, script


class ToyPotential(nn.Module):
    """Messages of a scalar and a vector part, so that energies depend on distances, angles and every hop.

    The lengths are the means of an edge's and its reverse's, so that energies are wrong if a reverse is.
    """

    def __init__(self, layers: int, species: int, cutoff: float, channels: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(layers)

        def random(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.cutoff = cutoff
        self.embedding = random(species, channels)
        self.range = random(layers, channels)
        self.mixing = nn.ModuleList(nn.Linear(channels, channels, dtype=torch.float64) for _ in range(layers))
        self.readout = random(channels)

    def forward(
        self,
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        reverse_edge: Tensor,
    ) -> Tensor:
        distance = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
        direction = edge_vectors / distance
        has_reverse = reverse_edge < len(reverse_edge)
        reverse = torch.where(has_reverse, reverse_edge, torch.arange(len(reverse_edge)))
        distance = (distance + distance[reverse]) / 2
        envelope = (1.0 - (distance / self.cutoff) ** 2) ** 3
        features = self.embedding[species_codes]
        for k, mixing in enumerate(self.mixing):
            n, e = node_counts[k], edge_counts[k]
            sender, receiver = edge_index[0, :e], edge_index[1, :e]
            message = torch.sin(distance[:e] * self.range[k]) * envelope[:e] * features[sender]
            scalar = message.new_zeros(n, message.shape[1]).index_add(0, receiver, message)
            vector = message.new_zeros(n, 3, message.shape[1])
            vector = vector.index_add(0, receiver, direction[:e].unsqueeze(2) * message.unsqueeze(1))
            features = features[:n] + torch.tanh(mixing(scalar + vector.square().sum(1)))
        return (features * self.readout).sum(1)


class Expected(NamedTuple):
    """eV, eV/Å and eV/Å³; stress positive in tension, Voigt."""

    energy: float
    atomic_energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray


def evaluate_periodic(network: ToyPotential, layers: int, atoms: Atoms, species: list[str]) -> Expected:
    """Differentiate by positions and strain on the periodic graph: no ghosts, no hops, no edge sums."""
    sender, receiver, shift = neighbor_list("ijS", atoms, network.cutoff)
    cell = torch.tensor(atoms.cell.array)
    positions = torch.tensor(atoms.positions, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    vectors = positions[receiver] - positions[sender] + torch.tensor(shift, dtype=torch.float64) @ cell
    vectors = vectors + vectors @ (strain + strain.T) / 2
    codes = torch.tensor([species.index(symbol) for symbol in atoms.symbols])
    edge_index = torch.tensor(np.stack([sender, receiver]))
    keys = np.column_stack([sender, receiver, shift])
    backward = {tuple(key): edge for edge, key in enumerate(np.column_stack([receiver, sender, -shift]))}
    reverse = torch.tensor([backward[tuple(key)] for key in keys], dtype=torch.int64)
    energies = network(codes, edge_index, vectors, [len(atoms)] * layers, [len(sender)] * layers, reverse)
    by_position, by_strain = torch.autograd.grad(energies.sum(), (positions, strain))
    stress = by_strain.numpy().ravel()[[0, 4, 8, 5, 2, 1]] / (atoms.get_volume() if atoms.cell.rank == 3 else np.nan)
    return Expected(energies.sum().item(), energies.detach().numpy(), -by_position.numpy(), stress)


def write_model(directory: Path, module: nn.Module, cutoff: float, layers: int, species: list[str]) -> Path:
    """Write a KIM portable model of a TorchScript network, to be installed from ``directory``."""
    write_package(directory, "torchscript", b"", cutoff, layers, species)
    save(script(module), directory / FORMATS["torchscript"].file)
    return directory


def write_package(
    directory: Path, backend: str, network: bytes, cutoff: float, layers: int, species: list[str]
) -> Path:
    """Write a KIM portable model for one of our drivers, to be installed from ``directory``."""
    directory.mkdir()
    file, kind = FORMATS[backend].file, FORMATS[backend].driver
    (directory / file).write_bytes(network)
    (directory / PARAMETER_FILE).write_text(str(Parameters(backend, file, cutoff, layers, species)))
    (directory / "CMakeLists.txt").write_text(
        documents.cmake(directory.name, driver_name(kind), [file, PARAMETER_FILE])
    )
    return directory
