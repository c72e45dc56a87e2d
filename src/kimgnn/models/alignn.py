"""ALIGNN: the atomistic line graph neural network (Choudhary & DeCost, npj Comput. Mater. 7, 185, 2021)."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kimgnn.models.convolutions import why_not_smooth
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.cutoffs import make_cutoff
from kimgnn.nn.element_features import check_element_features, make_element_features
from kimgnn.nn.fusion import no_conditions
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.normalization import make_normalization
from kimgnn.nn.options import Options
from kimgnn.nn.pooling import addable
from kimgnn.nn.triplets import find_triplets

NEAR: Final = 2.0**-10
"""Å. The direction of a shorter bond fades, so that no derivative of an angle is infinite. Exact in float32."""


@dataclass(frozen=True)
class ALIGNNOptions(Options):
    """Options of ALIGNN; the defaults are the paper's, for a property.

    For a potential, take all neighbours (``max_neighbors: null``), a ``cutoff_function`` and another ``normalization``
    than ``batch``.

    Attributes:
        cutoff: Å; edges reach this far.
        angle_cutoff: Å; bonds up to this long form angles, the cutoff when absent. Which bonds do may also be the
            transform's choice (see `LineGraph`).
        alignn_layers: Layers that update bonds by angles, and atoms by bonds.
        gcn_layers: Layers after them that update atoms by bonds alone. Each layer of both kinds widens the reach by one
            cutoff.
        hidden_channels: Features of an atom, a bond and an angle.
        embedding_channels: Width of the layer between an expanded distance or angle and these.
        num_gaussians: Gaussians that expand a distance, from 0 to the cutoff.
        num_angle_gaussians: Gaussians that expand the cosine of an angle, from -1 to 1.
        element_features: What an atom begins with: ``embedding`` (learned), ``onehot``, ``properties`` (CGCNN's 92
            binned ones, as in the paper), or a JSON file in CGCNN's format.
        normalization: Before each activation: ``batch``, ``layer``, or ``none``.
        cutoff_function: Takes messages smoothly to zero at the cutoffs: ``cosine``, ``polynomial``, or ``none``.
        polynomial_exponent: p of the polynomial envelope.
        max_z: Largest atomic number with an embedding.
    """

    cutoff: float = 8.0
    angle_cutoff: float | None = None
    alignn_layers: int = 4
    gcn_layers: int = 4
    hidden_channels: int = 256
    embedding_channels: int = 64
    num_gaussians: int = 80
    num_angle_gaussians: int = 40
    element_features: str = "properties"
    normalization: Literal["none", "batch", "layer"] = "batch"
    cutoff_function: Literal["none", "cosine", "polynomial"] = "none"
    polynomial_exponent: int = 6
    max_z: int = 100

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        self._require_positive("cutoff")
        if self.angle_cutoff is not None and not 0 < self.angle_cutoff <= self.cutoff:
            raise ValueError(f"angle_cutoff must be above 0 and at most the cutoff (got {self.angle_cutoff})")
        self._require_at_least(0, "alignn_layers", "gcn_layers")
        self._require_at_least(1, "hidden_channels", "embedding_channels", "max_z")
        self._require_at_least(2, "num_gaussians", "num_angle_gaussians", "polynomial_exponent")
        if self.alignn_layers + self.gcn_layers < 1:
            raise ValueError("alignn_layers and gcn_layers must be at least one layer together")
        check_element_features(self.element_features)


class Links(NamedTuple):
    """What the edges of a graph, or of a line graph, connect.

    Attributes:
        source: ``(n_edges,)`` int64, the node that an edge comes from.
        target: ``(n_edges,)`` int64, the node that it goes to.
        weight: ``(n_edges,)``, the envelope; ``None`` where there is none.
        n_targets: Nodes, from the first, that are updated.
    """

    source: Tensor
    target: Tensor
    weight: Tensor | None
    n_targets: int


class EdgeGatedConvolution(nn.Module):
    """The edge-gated graph convolution (the paper's equations 1 to 3), on atoms and bonds or on bonds and angles.

    ``m_ij = A x_i + B x_j + C e_ij``, ``x_i' = x_i + SiLU(Norm(W x_i + Σ_j σ(m_ij) ⊙ U x_j / (Σ_j σ(m_ij) + ε)))``,
    ``e_ij' = e_ij + SiLU(Norm(m_ij))``. With an envelope each gate σ is multiplied by it, and ε, otherwise 10⁻⁶, is 1:
    what the last neighbour says fades out with it.

    Args:
        channels: Features of a node and of an edge.
        normalization: See `ALIGNNOptions`.
        updates_edges: Also return new features of edges.
    """

    def __init__(self, channels: int, normalization: str, updates_edges: bool) -> None:
        super().__init__()
        self.channels = channels
        # A and U act on the same features: one map for both.
        self.of_source = nn.Linear(channels, 2 * channels)
        self.target_gate = nn.Linear(channels, channels)
        self.edge_gate = nn.Linear(channels, channels)
        self.of_target = nn.Linear(channels, channels)
        self.normalize_nodes = make_normalization(normalization, channels)
        self.normalize_edges = make_normalization(normalization, channels) if updates_edges else None
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, edges: Tensor, links: Links) -> tuple[Tensor, Tensor]:
        """Return new features ``(n_targets, channels)`` of the first nodes, and of the edges where they are updated.

        Args:
            x: ``(n_nodes, channels)``.
            edges: ``(n_edges, channels)``; the first are used.
            links: What the edges connect.
        """
        source, target, weight, n_targets = links
        edges = edges[: source.shape[0]]
        own = x[:n_targets]
        gate_of_source, message = self.of_source(x).index_select(0, source).chunk(2, dim=1)
        gate = gate_of_source + self.target_gate(own).index_select(0, target) + self.edge_gate(edges)
        open_by = torch.sigmoid(gate)
        floor = 1e-6
        if weight is not None:
            open_by = open_by * weight.unsqueeze(-1)
            floor = 1.0
        weighted, open_by = addable(open_by * message), addable(open_by)
        zeros = open_by.new_zeros(n_targets, self.channels)
        summed = zeros.index_add(0, target, weighted) / (zeros.index_add(0, target, open_by) + floor)
        x = own + self.activation(self.normalize_nodes(self.of_target(own) + summed))
        if self.normalize_edges is not None:
            edges = edges + self.activation(self.normalize_edges(gate))
        return x, edges


class ALIGNNLayer(nn.Module):
    """Atoms and bonds by bonds, and then, where the next layer hears of angles, bonds and angles by angles.

    This is the order of the authors' code; the paper's figure has the line graph first.

    Args:
        options: See `ALIGNNOptions`.
        updates_bonds: A layer comes after this one.
        uses_angles: Bonds are updated by angles.
        updates_angles: A layer with angles comes after this one.
    """

    def __init__(self, options: ALIGNNOptions, updates_bonds: bool, uses_angles: bool, updates_angles: bool) -> None:
        super().__init__()
        channels, normalization = options.hidden_channels, options.normalization
        self.node_update = EdgeGatedConvolution(channels, normalization, updates_bonds)
        self.bond_update = EdgeGatedConvolution(channels, normalization, updates_angles) if uses_angles else None

    def forward(
        self, x: Tensor, bonds: Tensor, angles: Tensor, graph: Links, line_graph: Links
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new features of atoms, bonds and angles.

        Args:
            x: ``(n_nodes, hidden_channels)``.
            bonds: ``(n_edges, hidden_channels)``.
            angles: ``(n_triplets, hidden_channels)``.
            graph: Bonds between atoms.
            line_graph: Angles between bonds.
        """
        x, bonds = self.node_update(x, bonds, graph)
        if self.bond_update is not None:
            bonds, angles = self.bond_update(bonds, angles, line_graph)
        return x, bonds, angles


class ALIGNN(nn.Module):
    """ALIGNN's trunk: atomic numbers and edge vectors to node features.

    Args:
        options: See `ALIGNNOptions`.

    Attributes:
        num_layers: Message-passing layers; the reach is ``num_layers * cutoff``.
        cutoff: Å.
        out_channels: Features of a node.
        graph: The transform that it needs: triplets are counted there before memory is taken for them.
        uses_triplets: It takes triplets of edges.
        angle_cutoff: Å; bonds up to this long form angles.
    """

    Options = ALIGNNOptions
    graph = "LineGraph"

    def __init__(self, options: ALIGNNOptions) -> None:
        super().__init__()
        self.options = options
        self.num_layers = options.alignn_layers + options.gcn_layers
        self.cutoff = options.cutoff
        angles = min(options.alignn_layers, self.num_layers - 1)  # of the last layer, bonds are not asked
        self.uses_triplets = angles > 0
        self.angle_cutoff: float = options.angle_cutoff or options.cutoff
        # Of no triplets, ONNX Runtime's sums have the wrong shape; its products of matrices have the right one.
        self.register_buffer("ones", torch.ones(3, 1), persistent=False)
        self.ones: Tensor
        self.near: float = NEAR  # TorchScript sees no constants of a file
        self.out_channels = options.hidden_channels
        hidden, between = options.hidden_channels, options.embedding_channels
        self.elements = make_element_features(options.element_features, hidden, options.max_z)
        self.embed_atoms = nn.Sequential(make_normalization(options.normalization, hidden), nn.SiLU())
        # In the authors' code the Gaussians are exp(-(d - μ)² / step).
        step, angle_step = options.cutoff / (options.num_gaussians - 1), 2.0 / (options.num_angle_gaussians - 1)
        self.basis = GaussianBasis(options.cutoff, options.num_gaussians, (0.5 * step) ** 0.5)
        self.angle_basis = GaussianBasis(2.0, options.num_angle_gaussians, (0.5 * angle_step) ** 0.5)
        self.embed_bonds = _embedding(options.num_gaussians, between, hidden, options.normalization)
        self.embed_angles = _embedding(options.num_angle_gaussians, between, hidden, options.normalization)
        self.envelope = None
        self.angle_envelope = None
        if options.cutoff_function != "none":
            kind, exponent = options.cutoff_function, options.polynomial_exponent
            self.envelope = make_cutoff(kind, options.cutoff, exponent)
            self.angle_envelope = make_cutoff(kind, self.angle_cutoff, exponent)
        self.blocks = nn.ModuleList(
            ALIGNNLayer(options, layer < self.num_layers - 1, layer < angles, layer < angles - 1)
            for layer in range(self.num_layers)
        )

        self.conditions = no_conditions(self.num_layers)
        self.condition_channels = hidden

    def layers(self) -> nn.ModuleList:
        """Return the message-passing layers."""
        return self.blocks

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential, or an empty string."""
        return why_not_smooth(self.options.cutoff_function, self.options.normalization, "silu")

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return node features ``(node_counts[-1], hidden_channels)``.

        Triplets that are not given are found: of all edges up to the ``angle_cutoff``.
        """
        edge_index, node_counts, edge_counts = inputs.edge_index, inputs.node_counts, inputs.edge_counts
        sender, receiver = edge_index[0], edge_index[1]
        x = self.embed_atoms(self.elements(inputs.z))
        vectors = inputs.edge_vectors.to(x.dtype)
        lengths = torch.linalg.vector_norm(vectors, dim=-1)

        pairs = inputs.pairs
        if pairs is None:
            bonds = self.embed_bonds(self.basis(lengths))
        else:
            bonds = self.embed_bonds(self.basis(lengths.index_select(0, pairs[0]))).index_select(0, pairs[1])

        weight: Tensor | None = None
        if self.envelope is not None:
            weight = self.envelope(lengths)

        first, second, angles, triplet_counts = sender[:0], sender[:0], bonds[:0], [0] * self.num_layers
        angle_weight: Tensor | None = None
        if self.uses_triplets:
            triplets = inputs.triplets
            if triplets is None:
                triplets = find_triplets(edge_index, lengths < self.angle_cutoff, inputs.z.shape[0], edge_counts)
            first, second, triplet_counts = triplets
            directions = vectors / lengths.clamp(min=self.near).unsqueeze(-1)
            # Both bonds run on: of two that point the same way, the angle at the atom between them is 180°.
            cosines = -(directions.index_select(0, first) * directions.index_select(0, second)) @ self.ones
            angles = self.embed_angles(self.angle_basis(cosines.squeeze(-1) + 1.0))
            if self.angle_envelope is not None:
                of_bond = self.angle_envelope(lengths)
                angle_weight = of_bond.index_select(0, first) * of_bond.index_select(0, second)

        edges_after = edge_counts[1:] + edge_counts[-1:]
        for layer, (block, condition) in enumerate(zip(self.blocks, self.conditions)):  # noqa: B905 (TorchScript)
            n, n_triplets = edge_counts[layer], triplet_counts[layer]
            graph = Links(sender[:n], receiver[:n], _first(weight, n), node_counts[layer])
            line_graph = Links(
                first[:n_triplets], second[:n_triplets], _first(angle_weight, n_triplets), edges_after[layer]
            )
            x, bonds, angles = block(x, bonds, angles, graph, line_graph)
            x = condition(x, inputs.composition, inputs.node_graph)
        return x[: node_counts[-1]]


def _embedding(in_channels: int, between: int, channels: int, normalization: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, between),
        make_normalization(normalization, between),
        nn.SiLU(),
        nn.Linear(between, channels),
        make_normalization(normalization, channels),
        nn.SiLU(),
    )


def _first(values: Tensor | None, count: int) -> Tensor | None:
    return None if values is None else values[:count]
