"""What trunks of convolutions by distance have in common: elements, a basis of distances, an envelope, layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from kimgnn.nn.activations import Activation
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.cutoffs import make_cutoff
from kimgnn.nn.element_features import check_element_features, make_element_features
from kimgnn.nn.fusion import no_conditions
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.layer_edges import edges_of_layer, lengths_of
from kimgnn.nn.options import Options

GAUSSIAN_STEP = 0.2
"""Å between the centres of Gaussians: CGCNN's."""


@dataclass(frozen=True)
class ConvolutionOptions(Options):
    """Options of every trunk of convolutions; the architectures say what they mean."""

    cutoff: float = 8.0
    hidden_channels: int = 64
    num_convolutions: int = 3
    num_gaussians: int | None = None
    element_features: str = "embedding"
    activation: Activation = "softplus"
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
        self._require_positive("cutoff")
        self._require_at_least(1, "hidden_channels", "num_convolutions", "max_z")
        self._require_at_least(2, "num_gaussians", "polynomial_exponent")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability below 1 (got {self.dropout})")
        check_element_features(self.element_features)

    @property
    def gaussians(self) -> int:
        """Number of Gaussians."""
        return self.num_gaussians or max(2, round(self.cutoff / GAUSSIAN_STEP) + 1)


class ConvolutionTrunk(nn.Module):
    """Atomic numbers and edge vectors to node features, by convolutions that see distances.

    Args:
        options: See the architecture.
        make_convolution: Returns a new layer: features of nodes and `LayerEdges` to new features of the first nodes.
        num_convolutions: How many; 0 leaves an atom what its element says.

    Attributes:
        num_layers: Message-passing layers; the reach is ``num_layers * cutoff``.
        cutoff: Å.
        out_channels: Features of a node.
        merges_edges: It takes `GraphInputs.copies`.
    """

    merges_edges = True

    def __init__(
        self, options: ConvolutionOptions, make_convolution: Callable[[], nn.Module], num_convolutions: int
    ) -> None:
        super().__init__()
        self.num_layers = max(1, num_convolutions)
        self.cutoff = options.cutoff
        self.out_channels = options.hidden_channels
        self.elements = make_element_features(options.element_features, options.hidden_channels, options.max_z)
        # In CGCNN's code the Gaussians are exp(-(d - μ)² / step²).
        width = options.cutoff / (options.gaussians - 1) / 2**0.5
        self.basis = GaussianBasis(options.cutoff, options.gaussians, width)
        self.envelope = None
        if options.cutoff_function != "none":
            self.envelope = make_cutoff(options.cutoff_function, options.cutoff, options.polynomial_exponent)
        self.convolutions = nn.ModuleList(make_convolution() for _ in range(num_convolutions))
        self.conditions = no_conditions(num_convolutions)
        self.condition_channels = options.hidden_channels
        self.dropout = nn.Dropout(options.dropout)

    def layers(self) -> nn.ModuleList:
        """Return the message-passing layers."""
        return self.convolutions

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return node features ``(node_counts[-1], hidden_channels)``; pairs share what depends on distances."""
        x = self.elements(inputs.z)
        lengths = lengths_of(inputs, x.dtype)
        basis = self.basis(lengths)
        envelope: Tensor | None = None
        if self.envelope is not None:
            envelope = self.envelope(lengths)
        # B905: TorchScript's zip has no strict.
        for layer, (convolution, condition) in enumerate(zip(self.convolutions, self.conditions)):  # noqa: B905
            x = convolution(x, edges_of_layer(inputs, layer, basis, envelope))
            x = self.dropout(condition(x, inputs.composition, inputs.node_graph))
        return x[: inputs.node_counts[-1]]


def why_not_smooth(cutoff_function: str, normalization: str, activation: str) -> str:
    """Return why forces of a trunk with these options would be discontinuous or of the batch, or an empty string."""
    if cutoff_function == "none":
        return (
            "without an envelope the energy jumps where a neighbour passes the cutoff "
            "(take cutoff_function: cosine or polynomial)"
        )
    if normalization == "batch":
        return (
            "with batch normalisation the forces it was trained on depend on the other structures of the batch "
            "(take normalization: none or layer)"
        )
    if activation == "relu":
        return "with relu the forces jump (take activation: softplus or silu)"
    return ""


def reset_as_one(parts: list[nn.Linear]) -> None:
    """Draw the weights of linear maps that are added as torch draws those of the one linear map that they are."""
    bound = sum(part.in_features for part in parts) ** -0.5
    for part in parts:
        nn.init.uniform_(part.weight, -bound, bound)
        if part.bias is not None:
            nn.init.uniform_(part.bias, -bound, bound)
