"""Where the composition enters a network: beside the features of atoms, in their place, or between layers."""

from typing import Any, Final

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.nn.activations import make_activation
from kimgnn.nn.composition import CompositionFeatures
from kimgnn.nn.forest import Forest
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.mlp import make_mlp
from kimgnn.nn.pooling import pool

ACTIVATION: Final = "softplus"
"""Of the layers that encode a composition: smooth, as the heads' are."""


class NoCondition(nn.Module):
    """A slot after a message-passing layer with nothing in it."""

    def forward(self, x: Tensor, composition: Tensor | None, node_graph: Tensor | None) -> Tensor:
        """Return ``x``; arguments as `FiLM.forward`'s."""
        return x


class FiLM(nn.Module):
    """``(1 + γ(c)) ⊙ x + β(c)``: feature-wise linear modulation (Perez et al. 2018), at first the identity.

    Args:
        n_composition: Width of the encoded composition c.
        channels: Features of a node.
    """

    def __init__(self, n_composition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_composition, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, composition: Tensor | None, node_graph: Tensor | None) -> Tensor:
        """Return features of the shape of ``x``.

        Args:
            x: ``(n_nodes, channels)``.
            composition: ``(n_graphs, n_composition)``; without one, ``x`` is returned.
            node_graph: ``(n_nodes,)`` int64, the graph of each node; ``None`` for a single one.
        """
        if composition is None:
            return x
        factor, shift = _of_nodes(self.linear(composition), node_graph).chunk(2, 1)
        return x * (factor + 1) + shift


def no_conditions(n_layers: int) -> nn.ModuleList:
    """Return a trunk's slots, one after each of its layers, with nothing in them."""
    return nn.ModuleList(NoCondition() for _ in range(n_layers))


class EarlyFusion(nn.Module):
    """``x_i ⊕ c``: any pooling of the atoms' features then has the composition beside the structure."""

    def forward(self, x: Tensor, composition: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return ``(n_nodes, channels + n_composition)``; arguments as `AttentionFusion.forward`'s."""
        return torch.cat([x, _of_nodes(composition, node_graph).expand(x.shape[0], -1)], dim=1)


class ModalityWeights(nn.Module):
    """What structure and composition count for, by a softmax of what an MLP says of both together; at first the same.

    Args:
        channels: Features of either.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The features of a trunk may be so large that the softmax would be decided before anything is learned.
        self.normalize_structure, self.normalize_composition = nn.LayerNorm(channels), nn.LayerNorm(channels)
        last = nn.Linear(channels, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(2 * channels, channels), make_activation(ACTIVATION), last)

    def forward(self, structure: Tensor, composition: Tensor) -> Tensor:
        """Return ``(n_graphs, 2)``, adding up to 1: the weights of structure and composition."""
        both = [self.normalize_structure(structure), self.normalize_composition(composition)]
        return torch.softmax(self.mlp(torch.cat(both, dim=1)), dim=1)


class AttentionFusion(nn.Module):
    """``w_s x_i + w_c c'`` with weights for each structure, and c' the composition mapped to the features' width.

    Args:
        channels: Features of a node.
        n_composition: Width of the encoded composition.

    Attributes:
        weigh: Says the weights; a forward hook sees them.
    """

    def __init__(self, channels: int, n_composition: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_composition, channels)
        self.weigh = ModalityWeights(channels)

    def forward(self, x: Tensor, composition: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return ``(n_nodes, channels)``.

        Args:
            x: ``(n_nodes, channels)``.
            composition: ``(n_graphs, n_composition)``.
            node_graph: ``(n_nodes,)`` int64, the graph of each node; ``None`` for a single one.
            n_graphs: Number of graphs.
        """
        mapped = self.linear(composition)
        weights = self.weigh(pool(x, node_graph, n_graphs, "mean"), mapped)
        return _of_nodes(weights[:, :1], node_graph) * x + _of_nodes(weights[:, 1:] * mapped, node_graph)


class FusedTrunk(nn.Module):
    """A trunk that knows the composition of each structure besides its graph; a trunk like any other to the heads.

    Args:
        trunk: Of an architecture.
        features: Features of the composition.
        fusion: ``early``, ``attention`` or ``intermediate``.
        hidden_channels: Width of the encoded composition.
        num_hidden_layers: Of the MLP that encodes it.
        dropout: Probability that a hidden feature of it is dropped.
        dtype: Of the weights.

    Attributes:
        composition: Features of the composition.
        mix: What makes one of structure and composition after the trunk; ``None`` where they meet between its layers.
        num_layers: The trunk's.
        cutoff: The trunk's, Å.
        out_channels: Features of a node.

    Raises:
        ModelError: The trunk has no place for the composition between its layers.
    """

    def __init__(
        self,
        trunk: Any,
        features: CompositionFeatures,
        fusion: str,
        hidden_channels: int,
        num_hidden_layers: int,
        dropout: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.composition = features
        self.encoder = make_mlp(
            features.n_features, hidden_channels, num_hidden_layers, hidden_channels, ACTIVATION, dropout
        ).to(dtype)
        self.num_layers, self.cutoff = trunk.num_layers, trunk.cutoff
        self.out_channels = trunk.out_channels
        for name in ("uses_triplets", "angle_cutoff", "merges_edges"):  # of some trunks
            if hasattr(trunk, name):
                setattr(self, name, getattr(trunk, name))
        self.mix: nn.Module | None = None
        if fusion == "early":
            self.mix = EarlyFusion()
            self.out_channels = trunk.out_channels + hidden_channels
        elif fusion == "attention":
            self.mix = AttentionFusion(trunk.out_channels, hidden_channels).to(dtype)
        else:
            _condition(trunk, hidden_channels, dtype)

    def layers(self) -> nn.ModuleList:
        """Return the trunk's message-passing layers."""
        return self.trunk.layers()

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential."""
        return (
            "it depends on the composition of the whole structure, which a domain of a simulation does not know "
            "(leave out model.composition)"
        )

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return node features ``(n_nodes, out_channels)``."""
        features = self.composition(inputs.z, inputs.node_graph, inputs.n_graphs)
        composition = self.encoder(features.to(self.encoder[0].weight.dtype))
        x = self.trunk(
            GraphInputs(
                inputs.z,
                inputs.edge_index,
                inputs.edge_vectors,
                inputs.node_counts,
                inputs.edge_counts,
                inputs.pairs,
                inputs.triplets,
                inputs.node_graph,
                inputs.n_graphs,
                inputs.states,
                composition,
                inputs.copies,
            )
        )
        if self.mix is not None:
            x = self.mix(x, composition, inputs.node_graph, inputs.n_graphs)
        return x


class NoForest(nn.Module):
    """The slot of a head that has no forest beside it."""

    def forward(self, output: Tensor, z: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return ``output``; arguments as `LateFusion.forward`'s."""
        return output


class LateFusion(nn.Module):
    """``w · network + (1 - w) · forest`` of what a head learns; of a classification, of the probabilities.

    Until there are trees, the network alone.

    Args:
        features: Features of the composition.
        classes: Classes of the head; 0 for a property.

    Attributes:
        composition: Features of the composition.
        forest: Features to values, or to the probabilities of the classes.
        weight: w.
    """

    def __init__(self, features: CompositionFeatures, classes: int) -> None:
        super().__init__()
        self.composition = features
        self.classes = classes
        self.forest = Forest()
        self.register_buffer("weight", torch.ones((), dtype=torch.float64))
        # A buffer, not a Python number: ONNX export rounds Python numbers to float32.
        self.register_buffer("smallest", torch.tensor(1e-15, dtype=torch.float64), persistent=False)
        self.weight: Tensor
        self.smallest: Tensor

    def forward(self, output: Tensor, z: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return what the head says with the forest beside it: values, or logits; float64, the shape of ``output``.

        Args:
            output: What the network says: ``(n_graphs, components)``; logits ``(n_graphs, 1)`` or
                ``(n_graphs, n_classes)``.
            z: ``(n_atoms,)`` int64, atomic numbers.
            node_graph: ``(n_atoms,)`` int64, the graph of each atom; ``None`` for a single structure.
            n_graphs: Number of graphs.
        """
        if not self.forest.fitted:
            return output
        trees = self.forest(self.composition(z, node_graph, n_graphs))
        if self.classes == 0:
            return self.weight * output + (1 - self.weight) * trees
        if self.classes > 2:
            return torch.log((self.weight * torch.softmax(output, 1) + (1 - self.weight) * trees) + self.smallest)
        likely = self.weight * torch.sigmoid(output) + (1 - self.weight) * trees[:, 1:]
        unlikely = self.weight * torch.sigmoid(-output) + (1 - self.weight) * trees[:, :1]
        return torch.log(likely + self.smallest) - torch.log(unlikely + self.smallest)


def _condition(trunk: Any, n_composition: int, dtype: torch.dtype) -> None:
    """Put what makes features depend on the composition into all slots of a trunk but the last."""
    slots: nn.ModuleList | None = getattr(trunk, "conditions", None)
    if slots is None or len(slots) < 2:
        raise ModelError(
            "needs an architecture with two layers or more, between which the composition enters",
            where="model.composition.fusion",
            value="intermediate",
            remedy="Take more layers, or fusion: early, attention or late.",
        )
    for index in range(len(slots) - 1):
        slots[index] = FiLM(n_composition, trunk.condition_channels).to(dtype)


def _of_nodes(values: Tensor, node_graph: Tensor | None) -> Tensor:
    """Return values ``(n_nodes, n)`` of nodes, or the one row of a single structure, of those of structures."""
    return values if node_graph is None else values.index_select(0, node_graph)
