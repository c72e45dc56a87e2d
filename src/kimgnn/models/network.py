"""A network is a trunk and its heads, built from a plain description.

The contract of every trunk, which is also what is exported: it takes atomic numbers, an edge index, edge vectors and,
for each message-passing layer in order of application, how many nodes (from the first) the layer updates and how many
edges (from the first) it uses (`kimgnn.nn.inputs.GraphInputs`); it returns features of nodes. On a periodic graph that
is all of them, every time. On a staged graph, which a domain-decomposed code needs, nodes are ordered by hop from the
contributing atoms and edges by the hop of their receiver, so that each layer works on a prefix of the same arrays and
the last one yields the contributing atoms.

A trunk may also be told which edges are each other's reverse (``pairs``: an edge of each pair, the pair of each edge,
and how many pairs, from the first, each layer uses), and compute what depends on the distance alone once for both. The
derivative with respect to that one edge vector is then the derivative for both, which leaves forces and stress, sums
over edges, what they are.

A trunk that reads out a whole structure by itself gives each of its atoms the same features, of which the mean and the
maximum are again those.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy, deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.states import state_inputs_of

DTYPES = {"double": torch.float64, "single": torch.float32}
"""KLIFF's names of the precisions."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that builds a network, as plain values: what a checkpoint stores.

    Attributes:
        architecture: Name in the registry.
        options: The architecture's options.
        heads: One dict a head: ``type`` and its options, nothing left to fit.
        species: Elements, in the order of the species codes of an export.
        precision: ``double`` or ``single``.
        split_depth: Layers, from the last, of which each head has its own.
        composition: How the composition enters (the manifest's ``model.composition``), with the ``species`` that it may
            be of; ``None`` for the graph alone.
        members: Networks of this description that are one together (`kimgnn.models.ensemble`); 1 for a single one.
    """

    architecture: str
    options: dict[str, Any]
    heads: list[dict[str, Any]]
    species: list[str]
    precision: str = "double"
    split_depth: int = 0
    composition: dict[str, Any] | None = None
    members: int = 1

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

    def layers(self) -> nn.ModuleList:
        """Return the message-passing layers."""

    def children(self) -> Iterable[nn.Module]:
        """Return its modules."""

    def potential_refusal(self) -> str:
        """Return why it cannot be a potential, or an empty string."""

    def __call__(self, inputs: GraphInputs) -> Tensor:
        """Return the features of the first ``node_counts[-1]`` nodes."""


class Network(nn.Module):
    """Trunk and heads; see the module's text for the contract.

    Attributes:
        trunk: Graph to node features.
        heads: Head's name -> node features to what it predicts.
        spec: What it was built from.
        uses_triplets: The trunk takes `GraphInputs.triplets`.
        angle_cutoff: Å; of edges up to this length.
        merges_edges: The trunk takes `GraphInputs.copies`.
        state_inputs: Names of the columns of `GraphInputs.states` that the trunk takes, in their order.
    """

    def __init__(self, trunk: Trunk, heads: dict[str, nn.Module], spec: NetworkSpec) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.spec = spec
        self.num_layers = trunk.num_layers
        self.cutoff = trunk.cutoff
        self.uses_triplets: bool = getattr(trunk, "uses_triplets", False)
        self.angle_cutoff: float = getattr(trunk, "angle_cutoff", 0.0)
        self.merges_edges: bool = getattr(trunk, "merges_edges", False)
        self.state_inputs = tuple(state.name for state in state_inputs_of(spec.options))

    def potential_refusal(self) -> str:
        """Return why this network cannot be exported as a potential, or an empty string."""
        if "energy" not in self.heads:
            return "it has no energy head"
        return self.trunk.potential_refusal()

    def says_deviation(self, name: str) -> bool:
        """Return whether a head says how sure it is of what it predicts."""
        return getattr(self.heads[name].options, "loss", None) == "nll"

    def with_heads(self, chosen: Callable[[str], bool]) -> Self:
        """Return a copy with those heads whose names are chosen."""
        network = copy(self)
        network._modules = dict(self._modules)
        network.heads = nn.ModuleDict({name: head for name, head in self.heads.items() if chosen(name)})
        return deepcopy(network)

    def forward(self, inputs: GraphInputs) -> dict[str, Tensor]:
        """Return what each head says, by its name.

        The energy head says atomic energies, ``(node_counts[-1],)`` eV; the others what they learn (see
        `kimgnn.heads.property.PropertyHead`) or logits, a row for each structure. All float64.
        """
        features = self.trunk(inputs)
        z = inputs.z[: features.shape[0]]
        outputs: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            outputs[name] = head(features, z, inputs.node_graph, inputs.n_graphs)
        return outputs


class SplitNetwork(Network):
    """A network whose heads have the last layers of the trunk for themselves.

    Args:
        trunk: See `Network`.
        heads: See `Network`.
        spec: See `Network`; ``split_depth`` is how many layers.

    Attributes:
        trunks: Head's name -> its trunk; embedding and first layers are one and the same in all of them.

    Raises:
        ModelError: There are not so many layers, or they are one layer applied several times.
    """

    def __init__(self, trunk: Trunk, heads: dict[str, nn.Module], spec: NetworkSpec) -> None:
        super().__init__(trunk, heads, spec)
        layers, depth = list(trunk.layers()), spec.split_depth
        if depth > len(layers):
            allowed = f"0 to {len(layers)}"
            raise ModelError("is more than the layers", where="model.split_depth", value=depth, allowed=allowed)
        if len(set(layers)) < len(layers):
            raise ModelError("needs layers with weights of their own", where="model.split_depth", value=depth)
        common = {id(module): module for module in [*_besides(trunk, trunk.layers()), *layers[: len(layers) - depth]]}
        trunks: dict[str, Any] = {name: deepcopy(trunk, dict(common)) for name in heads}
        self.trunks = nn.ModuleDict(trunks)
        self._modules["trunk"] = next(iter(self.trunks.values()))

    def with_heads(self, chosen: Callable[[str], bool]) -> Self:
        """Return a copy with those heads whose names are chosen, and their trunks."""
        network = copy(self)
        network._modules = dict(self._modules)
        network.trunks = nn.ModuleDict({name: trunk for name, trunk in self.trunks.items() if chosen(name)})
        network._modules["trunk"] = next(iter(network.trunks.values()))
        return Network.with_heads(network, chosen)

    def forward(self, inputs: GraphInputs) -> dict[str, Tensor]:
        """Return what each head says, by its name; see `Network.forward`."""
        outputs: dict[str, Tensor] = {}
        for (name, head), trunk in zip(self.heads.items(), self.trunks.values()):  # noqa: B905 (TorchScript has none)
            features = trunk(inputs)
            outputs[name] = head(features, inputs.z[: features.shape[0]], inputs.node_graph, inputs.n_graphs)
        return outputs


def _besides(trunk: Any, layers: nn.ModuleList) -> Iterator[nn.Module]:
    """Yield the modules of a trunk, or of one in it, that are not its layers."""
    for child in trunk.children():
        if all(module is not layers for module in child.modules()):
            yield child
        elif child is not layers:
            yield from _besides(child, layers)
