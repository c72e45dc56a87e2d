"""A network is a trunk and its heads, built from a plain description.

The contract of every trunk, which is also what is exported: it takes atomic numbers, an edge index, edge vectors and,
for each message-passing layer in order of application, how many nodes (from the first) the layer updates and how many
edges (from the first) it uses. On a periodic graph that is all of them, every time. On a staged graph, which a
domain-decomposed code needs, nodes are ordered by hop from the contributing atoms and edges by the hop of their
receiver, so that each layer works on a prefix of the same arrays and the last one yields the contributing atoms.

A trunk may also be told which edges are each other's reverse (``pairs``: an edge of each pair, the pair of each edge,
and how many pairs, from the first, each layer uses), and compute what depends on the distance alone once for both. The
derivative with respect to that one edge vector is then the derivative for both, which leaves forces and stress, sums
over edges, what they are.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from kimgnn.models.tasks import head_name
from kimgnn.registry import ARCHITECTURES, HEADS

DTYPES = {"double": torch.float64, "single": torch.float32}
"""KLIFF's names of the precisions."""

Pairs: TypeAlias = tuple[Tensor, Tensor, list[int]]
"""An edge of each pair ``(n_pairs,)``, the pair of each edge ``(n_edges,)``, and the pairs that each layer uses."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that builds a network, as plain values: what a checkpoint stores.

    Attributes:
        architecture: Name in the registry.
        options: The architecture's options.
        heads: One dict a head: ``type`` and its options, nothing left to fit.
        species: Elements, in the order of the species codes of an export.
        precision: ``double`` or ``single``.
    """

    architecture: str
    options: dict[str, Any]
    heads: list[dict[str, Any]]
    species: list[str]
    precision: str = "double"

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-safe values."""
        return asdict(self)


class Trunk(Protocol):
    """What an architecture is, besides a torch module; see the module's text.

    Attributes:
        num_layers: Message-passing layers: how many cutoffs an atom feels.
        cutoff: Of every layer, Å.
        out_channels: Features of a node.
    """

    num_layers: int
    cutoff: float
    out_channels: int

    def potential_refusal(self) -> str:
        """Return why it cannot be a potential, or an empty string."""

    def __call__(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        pairs: Pairs | None = None,
    ) -> Tensor:
        """Return the features of the first ``node_counts[-1]`` nodes."""


class Network(nn.Module):
    """Trunk and heads; see the module's text for the contract.

    Attributes:
        trunk: Graph to node features.
        heads: Head's name -> node features to what it predicts.
        spec: What it was built from.
    """

    def __init__(self, trunk: Trunk, heads: dict[str, nn.Module], spec: NetworkSpec) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.spec = spec
        self.num_layers = trunk.num_layers
        self.cutoff = trunk.cutoff

    def potential_refusal(self) -> str:
        """Return why this network cannot be exported as a potential, or an empty string."""
        if "energy" not in self.heads:
            return "it has no energy head"
        return self.trunk.potential_refusal()

    def forward(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        pairs: Pairs | None,
        node_graph: Tensor | None,
        n_graphs: int,
    ) -> dict[str, Tensor]:
        """Return what each head says, by its name.

        The energy head says atomic energies, ``(node_counts[-1],)`` eV; the others what they learn (see
        `kimgnn.heads.property.PropertyHead`) or logits, a row for each of ``n_graphs`` structures. All float64.

        Args:
            z: As a trunk's, with the arguments up to ``pairs``.
            edge_index: As a trunk's.
            edge_vectors: As a trunk's.
            node_counts: As a trunk's.
            edge_counts: As a trunk's.
            pairs: As a trunk's.
            node_graph: ``(node_counts[-1],)`` int64, the structure of each atom; ``None`` for a single one.
            n_graphs: Number of structures.
        """
        features = self.trunk(z, edge_index, edge_vectors, node_counts, edge_counts, pairs)
        z = z[: features.shape[0]]
        return {
            name: head(features, z) if name == "energy" else head(features, z, node_graph, n_graphs)
            for name, head in self.heads.items()
        }

    def atomic_energies(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        node_counts: list[int],
        edge_counts: list[int],
        pairs: Pairs | None = None,
    ) -> Tensor:
        """Return the energies, ``(node_counts[-1],)`` float64, eV, of the first nodes; arguments as a trunk's."""
        features = self.trunk(z, edge_index, edge_vectors, node_counts, edge_counts, pairs)
        return self.heads["energy"](features, z[: features.shape[0]])


def build_network(spec: NetworkSpec) -> Network:
    """Build the network that ``spec`` describes, with fresh weights in its precision.

    Raises:
        ManifestError: The architecture or a head is not registered.
        ModelError: A head still has something to fit.
    """
    architecture = ARCHITECTURES.get(spec.architecture, "model.architecture")
    trunk = architecture(architecture.Options(**spec.options)).to(DTYPES[spec.precision])
    numbers = {symbol: atomic_numbers[symbol] for symbol in spec.species}
    heads: dict[str, nn.Module] = {}
    for index, entry in enumerate(spec.heads):
        options = {key: value for key, value in entry.items() if key != "type"}
        head_class = HEADS.get(entry["type"], f"model.heads.{index}.type")
        head = head_class(head_class.Options(**options), trunk.out_channels, numbers)
        # Only the learned layers take the precision: scales and reference values stay float64.
        head.mlp.to(DTYPES[spec.precision])
        heads[head_name(entry)] = head
    return Network(trunk, heads, spec)
