"""What every exported file is given and returns, whatever its format.

The inputs are a staged graph (see `kimgnn.models.network`): nodes ordered by hop from the contributing atoms, edges
sorted by receiver, and for each message-passing layer how many nodes and edges, from the first, it works on. Species
are codes, the index in the exported list of elements: the KIM API knows nothing else, and the file maps them to what
the network was trained on. The file returns the contributing atoms' energies; files that cannot be differentiated
afterwards also return the gradient of their sum with respect to the edge vectors, from which forces and virials are
plain sums over edges (see `kimgnn.physics.derivatives`).

A committee (`kimgnn.models.ensemble.Ensemble`) gives the means of its members' energies and gradients, and those of
each member besides. Members share nothing but the graph: their gradients cost together what that of the mean does.
"""

from typing import Any, Final, NamedTuple

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.fields import ENERGY
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network
from kimgnn.nn.inputs import GraphInputs

CONTRACT: Final = 2
"""The version of all this, which the drivers' parameter file and an ONNX model's metadata state."""

COMMITTEE_CONTRACT: Final = 3
"""That of a committee, which older drivers refuse, saying what to do; all else is as it was."""

INPUTS: Final = ("species_codes", "edge_index", "edge_vectors", "node_counts", "edge_counts", "reverse_edge")
OUTPUTS: Final = ("atomic_energies", "gradient")
MEMBER_OUTPUTS: Final = ("member_energies", "member_gradients")
"""Of a committee besides: ``(n_members, n_atoms)`` and ``(n_members, n_edges, 3)``."""

METADATA_FILE: Final = "potential.json"
METADATA_ENTRY: Final = f"extra/{METADATA_FILE}"
"""Where what a file tells of itself stands in a TorchScript or pt2 archive, below its folder; ONNX has metadata."""


class StagedGraph(NamedTuple):
    """The inputs of an exported file, in their order.

    Attributes:
        species_codes: (n_nodes,) int64, index in the exported list of species.
        edge_index: (2, n_edges) int64, sender and receiver, sorted by receiver.
        edge_vectors: (n_edges, 3) float64, Å, receiver minus sender.
        node_counts: Nodes, from the first, that each layer updates; the last are the contributing atoms.
        edge_counts: Edges, from the first, that each layer uses.
        reverse_edge: (n_edges,) int64, the edge between the same two atoms that runs back, or n_edges where that one is
            not in the graph.
    """

    species_codes: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    node_counts: list[int]
    edge_counts: list[int]
    reverse_edge: Tensor


class ExportedPotential(nn.Module):
    """A network as a function of a staged graph, with species codes in the place of atomic numbers.

    Args:
        network: A network that can be a potential; it is copied, not changed.
    """

    atomic_numbers: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.with_heads(lambda name: name == ENERGY)
        numbers = [atomic_numbers[symbol] for symbol in network.spec.species]
        self.register_buffer("atomic_numbers", torch.tensor(numbers))
        self.eval().requires_grad_(False)

    def forward(
        self,
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        reverse_edge: Tensor,
    ) -> Tensor:
        """Return the energies, ``(node_counts[-1],)`` float64, eV, of the contributing atoms; see `StagedGraph`."""
        pairs = find_pairs(reverse_edge, edge_counts)
        return self.atomic_energies(species_codes, edge_index, edge_vectors, node_counts, edge_counts, pairs, None)

    def atomic_energies(
        self,
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        pairs: tuple[Tensor, Tensor, list[int]],
        triplets: tuple[Tensor, Tensor, list[int]] | None,
    ) -> Tensor:
        """The same with the pairs of edges that `find_pairs` returns; triplets, where not given, are found."""
        z = self.atomic_numbers[species_codes]
        inputs = GraphInputs(z, edge_index, edge_vectors, node_counts, edge_counts, pairs, triplets)
        return self.network(inputs)["energy"]


class ExportedCommittee(ExportedPotential):
    """The same of an ensemble, whose members can be asked one by one: their derivatives then need the memory of one.

    Args:
        ensemble: Of networks that can be potentials; it is copied, not changed.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__(ensemble)
        self.num_members = ensemble.spec.members

    @torch.jit.export
    def member(
        self,
        index: int,
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        reverse_edge: Tensor,
    ) -> Tensor:
        """Return the energies that one member says; see `ExportedPotential.forward`."""
        pairs = find_pairs(reverse_edge, edge_counts)
        z = self.atomic_numbers[species_codes]
        inputs = GraphInputs(z, edge_index, edge_vectors, node_counts, edge_counts, pairs)
        energies = torch.zeros(0)
        for position, member in enumerate(self.network.members):  # type: ignore[arg-type]
            if position == index:
                energies = member(inputs)["energy"]
        return energies


def contract_of(network: Network) -> int:
    """Return the version of the contract that a network is exported in."""
    return CONTRACT if network.spec.members == 1 else COMMITTEE_CONTRACT


def exported_members(network: Network) -> list[ExportedPotential]:
    """Return the members of an ensemble, or another network, each for itself."""
    members: Any = network.members if isinstance(network, Ensemble) else [network]
    return [ExportedPotential(member) for member in members]


def find_pairs(reverse_edge: Tensor, edge_counts: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Return the pairs that edges and their reverses form, each known by its first edge and in the order of these.

    Scripts in TorchScript.

    Args:
        reverse_edge: (n_edges,) int64, the edge that runs back, or n_edges.
        edge_counts: Edges, from the first, that each layer uses.

    Returns:
        An edge of each pair ``(n_pairs,)``, the pair of each edge ``(n_edges,)``, and the pairs, from the first, that
        each layer uses.
    """
    edges = torch.arange(reverse_edge.shape[0], device=reverse_edge.device)
    is_first = edges < reverse_edge
    pair_of_first = is_first.cumsum(0) - 1
    pair_counts = [int(is_first[:count].sum()) for count in edge_counts]
    return is_first.nonzero().view(-1), pair_of_first[torch.minimum(edges, reverse_edge)], pair_counts


def refuse_unless_potential(network: Network) -> None:
    """Do nothing if ``network`` can run on a staged graph with continuous forces.

    Raises:
        ExportError: It cannot, with the reason.
    """
    if reason := network.potential_refusal():
        raise ExportError(f"the model cannot be a potential: {reason}", where="export")
