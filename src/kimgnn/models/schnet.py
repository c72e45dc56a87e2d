"""SchNet: continuous-filter convolutions (Schütt et al., J. Chem. Phys. 148, 241722, 2018)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kimgnn.nn.activations import ShiftedSoftplus
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.cutoffs import make_cutoff
from kimgnn.nn.fusion import no_conditions
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.layer_edges import LayerEdges, edges_of_layer, lengths_of, of_edges
from kimgnn.nn.mlp import draw_xavier
from kimgnn.nn.options import Options
from kimgnn.nn.pair_convolution import PairEnds, pair_convolution, pair_ends
from kimgnn.nn.tables import Table


@dataclass(frozen=True)
class SchNetOptions(Options):
    """Options of SchNet, by the paper's names.

    Attributes:
        cutoff: Å; edges reach this far.
        hidden_channels: Features of an atom (the paper's F); 64 to 128.
        num_filters: Features inside a convolution.
        num_interactions: Interaction blocks (the paper's T); each widens the reach by one cutoff.
        num_gaussians: Gaussians that expand a distance, from 0 to the cutoff.
        gaussian_width: Their width σ in Å; the spacing of their centres when absent.
        cutoff_function: ``cosine`` (continuous forces) or ``polynomial`` (continuous second derivatives too).
        polynomial_exponent: p of the polynomial envelope.
        shared_interactions: One set of weights for all interaction blocks.
        max_z: Largest atomic number with an embedding.
    """

    cutoff: float
    hidden_channels: int = 128
    num_filters: int = 128
    num_interactions: int = 3
    num_gaussians: int = 50
    gaussian_width: float | None = None
    cutoff_function: Literal["cosine", "polynomial"] = "cosine"
    polynomial_exponent: int = 6
    shared_interactions: bool = False
    max_z: int = 100

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        self._require_positive("cutoff", "gaussian_width")
        self._require_at_least(1, "hidden_channels", "num_filters", "num_interactions", "max_z")
        self._require_at_least(2, "num_gaussians", "polynomial_exponent")


class Interaction(nn.Module):
    """One interaction block: filter from distances, convolution, update (the paper's figure 2, middle)."""

    distance_map: ClassVar = "filter"

    def __init__(self, options: SchNetOptions) -> None:
        super().__init__()
        hidden, filters = options.hidden_channels, options.num_filters
        self.filter = nn.Sequential(
            nn.Linear(options.num_gaussians, filters), ShiftedSoftplus(), nn.Linear(filters, filters)
        )
        self.to_filters = nn.Linear(hidden, filters, bias=False)
        self.update = nn.Sequential(nn.Linear(filters, hidden), ShiftedSoftplus(), nn.Linear(hidden, hidden))

    def forward(self, x: Tensor, edges: LayerEdges, ends: PairEnds | None = None) -> Tensor:
        """Return the change of the first ``n_receivers`` rows of ``x`` ``(n_nodes, hidden_channels)``.

        Args:
            x: Features.
            edges: Of the layer.
            ends: The atoms of the pairs, where edges are no more than those pairs, there and back.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            if isinstance(self.filter, Table) and edges.pair_of_edge is not None and edges.copies is None:
                return self.update(self.filter.sum_of_messages(self.to_filters(x), edges))
        weights, features, envelope = self.filter(edges.basis), self.to_filters(x), edges.envelope
        if envelope is not None:  # SchNet always has one
            weights = weights * envelope.unsqueeze(-1)
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            if ends is not None and features.dtype == weights.dtype:  # else they are of mixed precision
                return self.update(pair_convolution(weights, features, ends))
        weights = of_edges(weights, edges.pair_of_edge)
        messages = features.index_select(0, edges.sender) * weights
        summed = messages.new_zeros(edges.n_receivers, messages.shape[1]).index_add(0, edges.receiver, messages)
        return self.update(summed)


class SchNet(nn.Module):
    """SchNet's trunk: atomic numbers and edge vectors to node features.

    Args:
        options: See `SchNetOptions`.

    Attributes:
        num_layers: Message-passing layers; the reach is ``num_layers * cutoff``.
        cutoff: Å.
        out_channels: Features of a node.
    """

    Options = SchNetOptions

    def __init__(self, options: SchNetOptions) -> None:
        super().__init__()
        self.options = options
        self.num_layers = options.num_interactions
        self.cutoff = options.cutoff
        self.out_channels = options.hidden_channels
        self.embedding = nn.Embedding(options.max_z + 1, options.hidden_channels)
        self.basis = GaussianBasis(options.cutoff, options.num_gaussians, options.gaussian_width)
        self.envelope = make_cutoff(options.cutoff_function, options.cutoff, options.polynomial_exponent)
        blocks = [Interaction(options) for _ in range(1 if options.shared_interactions else options.num_interactions)]
        self.interactions = nn.ModuleList(blocks * options.num_interactions if options.shared_interactions else blocks)
        self.conditions = no_conditions(options.num_interactions)
        self.condition_channels = options.hidden_channels
        draw_xavier(self)  # as the authors' code does

    def layers(self) -> nn.ModuleList:
        """Return the message-passing layers."""
        return self.interactions

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential, or an empty string: a SchNet always can."""
        return ""

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return node features ``(node_counts[-1], hidden_channels)``; pairs share what depends on distances."""
        x = self.embedding(inputs.z)
        lengths = lengths_of(inputs, x.dtype)
        basis, envelope = self.basis(lengths), self.envelope(lengths)
        ends: PairEnds | None = None
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            if self.training:
                ends = pair_ends(inputs)
        # B905: TorchScript's zip has no strict.
        for layer, (interaction, condition) in enumerate(zip(self.interactions, self.conditions)):  # noqa: B905
            change = interaction(x, edges_of_layer(inputs, layer, basis, envelope), ends)
            x = condition(x[: inputs.node_counts[layer]] + change, inputs.composition, inputs.node_graph)
        return x
