"""GAT: graph attention with distances (Veličković et al., ICLR 2018), by GATv2's scores (Brody et al., ICLR 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kimgnn.models.convolutions import ConvolutionOptions, ConvolutionTrunk, reset_as_one, why_not_smooth
from kimgnn.nn.activations import LeakyReLU, make_activation
from kimgnn.nn.layer_edges import LayerEdges, of_edges, strengths_of
from kimgnn.nn.normalization import make_normalization
from kimgnn.nn.pooling import addable


@dataclass(frozen=True)
class GATOptions(ConvolutionOptions):
    """Options of the attention network; layers are GATv2's, distances are expanded as in CGCNN.

    For a potential, take all neighbours (``max_neighbors: null``), a ``cutoff_function``, ``score_activation: silu``
    and another ``normalization`` than ``batch``.

    Attributes:
        cutoff: Å; edges reach this far.
        hidden_channels: Features of an atom; a multiple of ``num_heads``.
        num_convolutions: Layers; each widens the reach by one cutoff.
        num_heads: Attention heads of a layer, each of ``hidden_channels / num_heads`` features, concatenated.
        num_gaussians: Gaussians that expand a distance, from 0 to the cutoff; as many as are 0.2 Å apart when absent
            (41 for 8 Å).
        element_features: What an atom begins with: ``embedding`` (learned), ``onehot``, ``properties`` (CGCNN's 92
            binned ones), or a JSON file in CGCNN's format.
        score_activation: Inside the score of a neighbour: ``leaky_relu`` (the paper's, of slope 0.2) or ``silu``, which
            is smooth.
        activation: After attention, before the skip connection.
        normalization: Before that activation: ``batch``, ``layer``, or ``none``.
        cutoff_function: Takes the weight of a neighbour smoothly to zero at the cutoff: ``cosine``, ``polynomial``, or
            ``none``.
        polynomial_exponent: p of the polynomial envelope.
        dropout: Probability that a feature is dropped after a layer.
        max_z: Largest atomic number with an embedding.
    """

    num_heads: int = 4
    score_activation: Literal["leaky_relu", "silu"] = "leaky_relu"

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        super().__post_init__()
        if self.num_heads < 1 or self.hidden_channels % self.num_heads:
            raise ValueError(
                f"num_heads must divide hidden_channels, {self.hidden_channels}, evenly (got {self.num_heads})"
            )


class AttentionConvolution(nn.Module):
    """``v_i + g(Norm(Σ_j α_ij (W_s v_j + W_m u_ij) + b))`` over an atom's neighbours and itself, head by head.

    ``α_ij`` is the softmax over j of ``a · f(W_r v_i + W_s v_j + W_d u_ij)`` with ``u_ij`` the expanded distance, none
    for the atom itself: Brody et al., equation 7, with features of edges as in PyG's ``GATv2Conv``. There they are in
    the weights alone, which add up to one: of a single element, every structure would look the same. So the message has
    them too.

    An envelope multiplies the exponential of a neighbour in numerator and denominator. The atom's own term always stays
    in both, so that all is smooth where the last neighbour leaves; without neighbours an atom attends to itself alone.
    """

    distance_map: ClassVar = "of_distance"

    def __init__(self, options: GATOptions) -> None:
        super().__init__()
        hidden = options.hidden_channels
        self.of_receiver = nn.Linear(hidden, hidden)
        self.of_sender = nn.Linear(hidden, hidden, bias=False)
        self.of_distance = nn.Linear(options.gaussians, 2 * hidden, bias=False)
        reset_as_one([self.of_receiver, self.of_sender, self.of_distance])
        self.attention = nn.Parameter(torch.empty(options.num_heads, hidden // options.num_heads))
        nn.init.xavier_uniform_(self.attention)
        # One-hot, (hidden_channels, num_heads): ONNX Runtime's sums over no edges go wrong, its products do not.
        head_of_feature = torch.eye(options.num_heads).repeat_interleave(hidden // options.num_heads, dim=0)
        self.register_buffer("head_of_feature", head_of_feature, persistent=False)
        self.head_of_feature: Tensor
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.score_activation = LeakyReLU() if options.score_activation == "leaky_relu" else nn.SiLU()
        self.normalize = make_normalization(options.normalization, hidden)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor, edges: LayerEdges) -> Tensor:
        """Return new features ``(n_receivers, hidden_channels)`` of the first nodes; ``x`` has all that they hear."""
        sender, receiver, basis, _, n_receivers, pair_of_edge, _ = edges
        own = x[:n_receivers]
        asked, told = self.of_receiver(own), self.of_sender(x)
        own_message, message = told[:n_receivers], told.index_select(0, sender)
        in_score, in_message = of_edges(self.of_distance(basis), pair_of_edge).chunk(2, dim=1)
        scores = self.scores(asked.index_select(0, receiver) + message + in_score)
        own_scores = self.scores(asked + own_message)
        message = message + in_message
        # The largest score is taken off all: it changes no weight, and no exponential is above 1.
        index = receiver.unsqueeze(-1).expand_as(scores)
        largest = own_scores.detach().scatter_reduce(0, index, scores.detach(), "amax")
        weights = torch.exp(scores - largest.index_select(0, receiver))
        own_weights = torch.exp(own_scores - largest)
        strengths = strengths_of(edges)
        if strengths is not None:
            weights = weights * strengths
        weighted, weights = addable(self.of_heads(weights) * message), addable(weights)
        heard = weighted.new_zeros(n_receivers, weighted.shape[1]).index_add(0, receiver, weighted)
        heard = heard + self.of_heads(own_weights) * own_message
        total = weights.new_zeros(n_receivers, weights.shape[1]).index_add(0, receiver, weights) + own_weights
        return own + self.activation(self.normalize(heard / self.of_heads(total) + self.bias))

    def scores(self, z: Tensor) -> Tensor:
        """Return ``(n, num_heads)`` scores of ``(n, hidden_channels)``."""
        return (self.score_activation(z) * self.attention.view(-1)) @ self.head_of_feature

    def of_heads(self, values: Tensor) -> Tensor:
        """Return ``(n, hidden_channels)``, those of each head the head's, of ``(n, num_heads)``."""
        return values @ self.head_of_feature.T


class GAT(ConvolutionTrunk):
    """The attention network's trunk: atomic numbers and edge vectors to node features; see `ConvolutionTrunk`.

    Args:
        options: See `GATOptions`.
    """

    Options = GATOptions

    def __init__(self, options: GATOptions) -> None:
        super().__init__(options, lambda: AttentionConvolution(options), options.num_convolutions)
        self.options = options

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential, or an empty string."""
        if self.options.score_activation == "leaky_relu":
            return "with leaky_relu the forces jump (take score_activation: silu)"
        return why_not_smooth(self.options.cutoff_function, self.options.normalization, self.options.activation)
