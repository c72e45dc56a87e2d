"""CGCNN: crystal graph convolutions (Xie & Grossman, Phys. Rev. Lett. 120, 145301, 2018)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kimgnn.nn.activations import Activation, make_activation
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.cutoffs import make_cutoff
from kimgnn.nn.element_features import check_element_features, make_element_features
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.normalization import make_normalization
from kimgnn.nn.options import Options

GAUSSIAN_STEP = 0.2
"""Å between the centres of Gaussians: the paper's."""


@dataclass(frozen=True)
class CGCNNOptions(Options):
    """Options of CGCNN, by the paper's names.

    For a property, the defaults are the paper's; give the transform's ``max_neighbors``. For a potential, take all
    neighbours (``max_neighbors: null``), a ``cutoff_function`` and another ``normalization`` than ``batch``.

    Attributes:
        cutoff: Å; edges reach this far.
        hidden_channels: Features of an atom.
        num_convolutions: Convolutions; each widens the reach by one cutoff.
        convolution: ``gated`` (the paper's equation 5), ``shared`` (equation 4: one weight for all neighbours), or
            ``none``, which leaves an atom what its element says: no structure, the floor to compare with.
        num_gaussians: Gaussians that expand a distance, from 0 to the cutoff; as many as are 0.2 Å apart when absent
            (41 for 8 Å).
        element_features: What an atom begins with: ``embedding`` (learned), ``onehot``, ``properties`` (the paper's 92
            binned properties), or a JSON file in CGCNN's format, ``{"1": [0, 1, ...], ...}`` by atomic number.
        activation: g in the paper's equations.
        activate_output: Apply it to the updated features too, as the authors' code does and equation 5 does not.
        normalization: ``batch`` (of messages before the gate, and of their sum, as in the authors' code), ``layer`` (of
            a message before the gate alone), or ``none``.
        cutoff_function: Takes messages smoothly to zero at the cutoff: ``cosine``, ``polynomial``, or ``none``.
        polynomial_exponent: p of the polynomial envelope.
        dropout: Probability that a feature is dropped after a convolution.
        max_z: Largest atomic number with an embedding.
    """

    cutoff: float = 8.0
    hidden_channels: int = 64
    num_convolutions: int = 3
    convolution: Literal["gated", "shared", "none"] = "gated"
    num_gaussians: int | None = None
    element_features: str = "embedding"
    activation: Activation = "softplus"
    activate_output: bool = False
    normalization: Literal["none", "batch", "layer"] = "batch"
    cutoff_function: Literal["none", "cosine", "polynomial"] = "none"
    polynomial_exponent: int = 6
    dropout: float = 0.0
    max_z: int = 100

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        if not self.cutoff > 0:
            raise ValueError(f"cutoff must be positive, in Å (got {self.cutoff})")
        for name in ("hidden_channels", "num_convolutions", "max_z"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 (got {getattr(self, name)})")
        for name in ("num_gaussians", "polynomial_exponent"):
            if getattr(self, name) is not None and getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2 (got {getattr(self, name)})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability below 1 (got {self.dropout})")
        check_element_features(self.element_features)

    @property
    def gaussians(self) -> int:
        """Number of Gaussians."""
        return self.num_gaussians or max(2, round(self.cutoff / GAUSSIAN_STEP) + 1)


class GatedConvolution(nn.Module):
    """``v_i + Σ_j σ(z_ij W_f + b_f) ⊙ g(z_ij W_s + b_s)`` with ``z_ij = v_i ⊕ v_j ⊕ u_ij``: the paper's equation 5.

    What the linear maps make of v_i, of v_j and of u_ij is computed apart, once an atom or once a distance, and added
    on the edge. The first half of its outputs is that of W_f, the second of W_s.
    """

    def __init__(self, options: CGCNNOptions) -> None:
        super().__init__()
        hidden, gaussians = options.hidden_channels, options.gaussians
        self.of_receiver = nn.Linear(hidden, 2 * hidden)
        self.of_sender = nn.Linear(hidden, 2 * hidden, bias=False)
        self.of_distance = nn.Linear(gaussians, 2 * hidden, bias=False)
        _reset_as_one([self.of_receiver, self.of_sender, self.of_distance])
        self.normalize_messages = make_normalization(options.normalization, 2 * hidden)
        # Not by layer: an atom's last neighbour would be normalised to full strength until right before the cutoff.
        after = "batch" if options.normalization == "batch" else "none"
        self.normalize_sum = make_normalization(after, hidden)
        self.activation = make_activation(options.activation)
        self.output = make_activation(options.activation) if options.activate_output else nn.Identity()

    def forward(
        self,
        x: Tensor,
        sender: Tensor,
        receiver: Tensor,
        basis: Tensor,
        envelope: Tensor | None,
        n_receivers: int,
        pair_of_edge: Tensor | None,
    ) -> Tensor:
        """Return new features ``(n_receivers, hidden_channels)`` of the first nodes.

        Args:
            x: ``(n_nodes, hidden_channels)``.
            sender: ``(n_edges,)`` int64.
            receiver: ``(n_edges,)`` int64, below ``n_receivers``.
            basis: ``(n_edges, num_gaussians)``, or of the pairs that ``pair_of_edge`` points to.
            envelope: ``(n_edges,)``, or of the pairs likewise.
            n_receivers: Nodes, from the first, that are updated.
            pair_of_edge: ``(n_edges,)`` int64.
        """
        own = x[:n_receivers]
        # In place: a batch has so many edges that new memory for each sum takes longer than the sum.
        z = self.of_sender(x).index_select(0, sender)
        z += self.of_receiver(own).index_select(0, receiver)
        z += _of_edges(self.of_distance(basis), pair_of_edge)
        gate, core = self.normalize_messages(z).chunk(2, dim=1)
        messages = torch.sigmoid(gate) * self.activation(core)
        if envelope is not None:
            messages = messages * _of_edges(envelope, pair_of_edge).unsqueeze(-1)
        summed = messages.new_zeros(n_receivers, messages.shape[1]).index_add(0, receiver, messages)
        return self.output(own + self.normalize_sum(summed))


class SharedConvolution(nn.Module):
    """``g(Σ_j (v_j ⊕ u_ij) W_c + v_i W_s + b)``: the paper's equation 4. The sum is taken before the linear map."""

    def __init__(self, options: CGCNNOptions) -> None:
        super().__init__()
        hidden, gaussians = options.hidden_channels, options.gaussians
        self.of_receiver = nn.Linear(hidden, hidden)
        self.of_senders = nn.Linear(hidden, hidden, bias=False)
        self.of_distances = nn.Linear(gaussians, hidden, bias=False)
        _reset_as_one([self.of_receiver, self.of_senders, self.of_distances])
        self.normalize = make_normalization(options.normalization, hidden)
        self.activation = make_activation(options.activation)

    def forward(
        self,
        x: Tensor,
        sender: Tensor,
        receiver: Tensor,
        basis: Tensor,
        envelope: Tensor | None,
        n_receivers: int,
        pair_of_edge: Tensor | None,
    ) -> Tensor:
        """Return new features of the first nodes; arguments as `GatedConvolution.forward`'s."""
        senders, distances = x.index_select(0, sender), basis
        if envelope is not None:
            distances = distances * envelope.unsqueeze(-1)
            senders = senders * _of_edges(envelope, pair_of_edge).unsqueeze(-1)
        distances = _of_edges(distances, pair_of_edge)
        heard = x.new_zeros(n_receivers, x.shape[1]).index_add(0, receiver, senders)
        measured = x.new_zeros(n_receivers, distances.shape[1]).index_add(0, receiver, distances)
        return self.activation(
            self.normalize(self.of_receiver(x[:n_receivers]) + self.of_senders(heard) + self.of_distances(measured))
        )


class CGCNN(nn.Module):
    """CGCNN's trunk: atomic numbers and edge vectors to node features.

    Args:
        options: See `CGCNNOptions`.

    Attributes:
        num_layers: Message-passing layers; the reach is ``num_layers * cutoff``.
        cutoff: Å.
        out_channels: Features of a node.
    """

    Options = CGCNNOptions

    def __init__(self, options: CGCNNOptions) -> None:
        super().__init__()
        self.options = options
        kinds = {"gated": GatedConvolution, "shared": SharedConvolution}
        n_convolutions = options.num_convolutions if options.convolution in kinds else 0
        self.num_layers = max(1, n_convolutions)
        self.cutoff = options.cutoff
        self.out_channels = options.hidden_channels
        self.elements = make_element_features(options.element_features, options.hidden_channels, options.max_z)
        # In the paper's code the Gaussians are exp(-(d - μ)² / step²).
        width = options.cutoff / (options.gaussians - 1) / 2**0.5
        self.basis = GaussianBasis(options.cutoff, options.gaussians, width)
        self.envelope = None
        if options.cutoff_function != "none":
            self.envelope = make_cutoff(options.cutoff_function, options.cutoff, options.polynomial_exponent)
        self.convolutions = nn.ModuleList(kinds[options.convolution](options) for _ in range(n_convolutions))
        self.dropout = nn.Dropout(options.dropout)

    def layers(self) -> nn.ModuleList:
        """Return the message-passing layers."""
        return self.convolutions

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential, or an empty string."""
        options = self.options
        if options.convolution == "none":
            return "without a convolution the energy does not depend on positions (take convolution: gated)"
        if options.cutoff_function == "none":
            return (
                "without an envelope the energy jumps where a neighbour passes the cutoff "
                "(take cutoff_function: cosine or polynomial)"
            )
        if options.normalization == "batch":
            return (
                "with batch normalisation the forces it was trained on depend on the other structures of the batch "
                "(take normalization: none or layer)"
            )
        if options.activation == "relu":
            return "with relu the forces jump (take activation: softplus or silu)"
        return ""

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return node features ``(node_counts[-1], hidden_channels)``; pairs share what depends on distances."""
        sender, receiver = inputs.edge_index[0], inputs.edge_index[1]
        vectors, distance_counts, pairs = inputs.edge_vectors, inputs.edge_counts, inputs.pairs
        if pairs is not None:
            vectors, distance_counts = vectors.index_select(0, pairs[0]), pairs[2]
        x = self.elements(inputs.z)
        distances = torch.linalg.vector_norm(vectors.to(x.dtype), dim=-1)
        basis = self.basis(distances)
        envelope: Tensor | None = None
        if self.envelope is not None:
            envelope = self.envelope(distances)
        for layer, convolution in enumerate(self.convolutions):
            nodes, edges, counted = inputs.node_counts[layer], inputs.edge_counts[layer], distance_counts[layer]
            envelope_of_layer: Tensor | None = None
            if envelope is not None:
                envelope_of_layer = envelope[:counted]
            pair_of_edge: Tensor | None = None
            if pairs is not None:
                pair_of_edge = pairs[1][:edges]
            x = convolution(
                x, sender[:edges], receiver[:edges], basis[:counted], envelope_of_layer, nodes, pair_of_edge
            )
            x = self.dropout(x)
        return x[: inputs.node_counts[-1]]


def _of_edges(values: Tensor, pair_of_edge: Tensor | None) -> Tensor:
    """Return values of edges, given those of pairs, or of edges where there are no pairs."""
    return values if pair_of_edge is None else values.index_select(0, pair_of_edge)


def _reset_as_one(parts: list[nn.Linear]) -> None:
    """Draw the weights of linear maps that are added as torch draws those of the one linear map that they are."""
    bound = sum(part.in_features for part in parts) ** -0.5
    for part in parts:
        nn.init.uniform_(part.weight, -bound, bound)
        if part.bias is not None:
            nn.init.uniform_(part.bias, -bound, bound)
