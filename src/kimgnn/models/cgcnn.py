"""CGCNN: crystal graph convolutions (Xie & Grossman, Phys. Rev. Lett. 120, 145301, 2018)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kimgnn.models.convolutions import ConvolutionOptions, ConvolutionTrunk, reset_as_one, why_not_smooth
from kimgnn.nn.activations import make_activation
from kimgnn.nn.layer_edges import LayerEdges, of_edges, strengths_of
from kimgnn.nn.normalization import make_normalization
from kimgnn.nn.pooling import addable


@dataclass(frozen=True)
class CGCNNOptions(ConvolutionOptions):
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

    convolution: Literal["gated", "shared", "none"] = "gated"
    activate_output: bool = False


class GatedConvolution(nn.Module):
    """``v_i + Σ_j σ(z_ij W_f + b_f) ⊙ g(z_ij W_s + b_s)`` with ``z_ij = v_i ⊕ v_j ⊕ u_ij``: the paper's equation 5.

    What the linear maps make of v_i, of v_j and of u_ij is computed apart, once an atom or once a distance, and added
    on the edge. The first half of its outputs is that of W_f, the second of W_s.
    """

    distance_map: ClassVar = "of_distance"

    def __init__(self, options: CGCNNOptions) -> None:
        super().__init__()
        hidden, gaussians = options.hidden_channels, options.gaussians
        self.of_receiver = nn.Linear(hidden, 2 * hidden)
        self.of_sender = nn.Linear(hidden, 2 * hidden, bias=False)
        self.of_distance = nn.Linear(gaussians, 2 * hidden, bias=False)
        reset_as_one([self.of_receiver, self.of_sender, self.of_distance])
        self.normalize_messages = make_normalization(options.normalization, 2 * hidden)
        # Not by layer: an atom's last neighbour would be normalised to full strength until right before the cutoff.
        after = "batch" if options.normalization == "batch" else "none"
        self.normalize_sum = make_normalization(after, hidden)
        self.activation = make_activation(options.activation)
        self.output = make_activation(options.activation) if options.activate_output else nn.Identity()

    def forward(self, x: Tensor, edges: LayerEdges) -> Tensor:
        """Return new features ``(n_receivers, hidden_channels)`` of the first nodes; ``x`` has all that they hear."""
        sender, receiver, basis, _, n_receivers, pair_of_edge, copies = edges
        own = x[:n_receivers]
        # In place: a batch has so many edges that new memory for each sum takes longer than the sum.
        z = self.of_sender(x).index_select(0, sender)
        z += self.of_receiver(own).index_select(0, receiver)
        z += of_edges(self.of_distance(basis), pair_of_edge)
        gate, core = self.normalize_messages(z, copies).chunk(2, dim=1)
        messages = torch.sigmoid(gate) * self.activation(core)
        strengths = strengths_of(edges)
        if strengths is not None:
            messages = messages * strengths
        messages = addable(messages)
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
        reset_as_one([self.of_receiver, self.of_senders, self.of_distances])
        self.normalize = make_normalization(options.normalization, hidden)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor, edges: LayerEdges) -> Tensor:
        """Return new features ``(n_receivers, hidden_channels)`` of the first nodes; ``x`` has all that they hear."""
        sender, receiver, basis, _, n_receivers, pair_of_edge, _ = edges
        senders, distances = x.index_select(0, sender), of_edges(basis, pair_of_edge)
        strengths = strengths_of(edges)
        if strengths is not None:
            senders, distances = senders * strengths, distances * strengths
        senders = addable(senders)
        heard = senders.new_zeros(n_receivers, x.shape[1]).index_add(0, receiver, senders)
        measured = distances.new_zeros(n_receivers, distances.shape[1]).index_add(0, receiver, distances)
        return self.activation(
            self.normalize(self.of_receiver(x[:n_receivers]) + self.of_senders(heard) + self.of_distances(measured))
        )


class CGCNN(ConvolutionTrunk):
    """CGCNN's trunk: atomic numbers and edge vectors to node features; see `ConvolutionTrunk`.

    Args:
        options: See `CGCNNOptions`.
    """

    Options = CGCNNOptions

    def __init__(self, options: CGCNNOptions) -> None:
        kind = SharedConvolution if options.convolution == "shared" else GatedConvolution
        super().__init__(
            options, lambda: kind(options), 0 if options.convolution == "none" else options.num_convolutions
        )
        self.options = options

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential, or an empty string."""
        if self.options.convolution == "none":
            return "without a convolution the energy does not depend on positions (take convolution: gated)"
        return why_not_smooth(self.options.cutoff_function, self.options.normalization, self.options.activation)
