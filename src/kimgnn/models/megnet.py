"""MEGNet: edges, atoms and a global state that update one another (Chen et al., Chem. Mater. 31, 3564, 2019)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.nn.activations import ShiftedSoftplus
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.element_features import check_element_features, make_element_features
from kimgnn.nn.fusion import no_conditions
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.layer_edges import lengths_of
from kimgnn.nn.mlp import draw_xavier
from kimgnn.nn.options import Options
from kimgnn.nn.pooling import addable
from kimgnn.nn.set2set import Set2Set
from kimgnn.nn.states import StateEncoder, StateInput

PLACEHOLDERS = 2
"""Zeros that stand for the global state where nothing is known of it, as in the paper."""


@dataclass(frozen=True)
class MEGNetOptions(Options):
    """Options of MEGNet; the defaults are the paper's for crystals.

    The paper's graph is of all neighbours within the cutoff: ``PeriodicGraph``, or ``max_neighbors: null``. Its last
    dense layers, of 32 and 16 neurons, are the head's.

    Attributes:
        cutoff: Å; edges reach this far.
        num_blocks: MEGNet blocks.
        hidden_channels: Width of the first dense layer of each pair, and of the hidden layers of the updates.
        block_channels: Features of an edge, an atom and the state in a block.
        embedding_channels: Features of an atom before the first block.
        num_gaussians: Gaussians that expand a distance, from 0 to 1 Å beyond the cutoff.
        gaussian_width: σ of ``exp(-(d - μ)² / σ²)``, Å.
        set2set_channels: Features of an edge, and of an atom, that the readout takes.
        set2set_steps: How often the readout reads them.
        element_features: What an atom begins with: ``embedding`` (learned), ``onehot``, ``properties`` (CGCNN's 92
            binned ones), or a JSON file in CGCNN's format.
        state_inputs: What is known of every structure besides its atoms, as a list such as
            ``[{name: temperature}, {name: method, classes: [PBE, HSE]}]``: numbers, in units of their spread in the
            training set, and classes. Read from the data like targets; each structure must have them.
        dropout: Probability that a feature is dropped after a block.
        max_z: Largest atomic number with an embedding.
    """

    cutoff: float = 4.0
    num_blocks: int = 3
    hidden_channels: int = 64
    block_channels: int = 32
    embedding_channels: int = 16
    num_gaussians: int = 100
    gaussian_width: float = 0.5
    set2set_channels: int = 16
    set2set_steps: int = 3
    element_features: str = "embedding"
    state_inputs: list[StateInput] = field(default_factory=list)
    dropout: float = 0.0
    max_z: int = 100

    def __post_init__(self) -> None:
        """Check ranges; state inputs may be given as dicts.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        states = [StateInput(**state) if isinstance(state, dict) else state for state in self.state_inputs]
        object.__setattr__(self, "state_inputs", states)
        self._require_positive("cutoff", "gaussian_width")
        self._require_at_least(1, "num_blocks", "hidden_channels", "block_channels", "embedding_channels")
        self._require_at_least(1, "set2set_channels", "set2set_steps", "max_z")
        self._require_at_least(2, "num_gaussians")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability below 1 (got {self.dropout})")
        names = [state.name for state in states]
        if len(set(names)) < len(names):
            raise ValueError(f"state_inputs must have different names (got {', '.join(names)})")
        check_element_features(self.element_features)


class Dense(nn.Sequential):
    """The two dense layers before a MEGNet layer, each with the shifted softplus."""

    def __init__(self, in_channels: int, options: MEGNetOptions) -> None:
        hidden = options.hidden_channels
        super().__init__(
            nn.Linear(in_channels, hidden), ShiftedSoftplus(), nn.Linear(hidden, options.block_channels),
            ShiftedSoftplus(),
        )  # fmt: skip


class Update(nn.Sequential):
    """``W_3 ζ(W_2 ζ(W_1 x + b_1) + b_2) + b_3``, ζ the shifted softplus: the paper's equation 8.

    Args:
        parts: How many features of an edge, an atom or the state are concatenated in x.
        options: See `MEGNetOptions`.
    """

    def __init__(self, parts: int, options: MEGNetOptions) -> None:
        hidden, channels = options.hidden_channels, options.block_channels
        super().__init__(
            nn.Linear(parts * channels, hidden), ShiftedSoftplus(), nn.Linear(hidden, hidden), ShiftedSoftplus(),
            nn.Linear(hidden, channels),
        )  # fmt: skip


class MEGNetBlock(nn.Module):
    """Two dense layers, the updates of edges, atoms and state in this order, and skip connections (figure 2).

    ``e' = φ_e(v_s ⊕ v_r ⊕ e ⊕ u)``, ``v' = φ_v(⟨e'⟩ ⊕ v ⊕ u)``, ``u' = φ_u(⟨e'⟩ ⊕ ⟨v'⟩ ⊕ u)`` with means over the edges
    that an atom receives, and over all edges and atoms (equations 1 to 7).

    Args:
        options: See `MEGNetOptions`.
        is_first: The dense layers are those that bring the inputs to ``block_channels``, and not here.
    """

    def __init__(self, options: MEGNetOptions, is_first: bool) -> None:
        super().__init__()
        width = options.block_channels
        self.dense_nodes = nn.Identity() if is_first else Dense(width, options)
        self.dense_edges = nn.Identity() if is_first else Dense(width, options)
        self.dense_state = nn.Identity() if is_first else Dense(width, options)
        self.update_edges = Update(4, options)
        self.update_nodes = Update(3, options)
        self.update_state = Update(3, options)
        self.dropout = nn.Dropout(options.dropout)

    def forward(
        self, x: Tensor, edges: Tensor, state: Tensor, sender: Tensor, receiver: Tensor, node_graph: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new features of atoms, edges and states, each with ``block_channels`` columns.

        Args:
            x: ``(n_nodes, block_channels)``.
            edges: ``(n_edges, block_channels)``.
            state: ``(n_graphs, block_channels)``.
            sender: ``(n_edges,)`` int64.
            receiver: ``(n_edges,)`` int64.
            node_graph: ``(n_nodes,)`` int64.
        """
        v, e, u = self.dense_nodes(x), self.dense_edges(edges), self.dense_state(state)
        edge_graph = node_graph.index_select(0, receiver)
        e = self.update_edges(
            torch.cat([v.index_select(0, sender), v.index_select(0, receiver), e, u.index_select(0, edge_graph)], dim=1)
        )
        heard = _mean(e, receiver, v.shape[0])
        v = self.update_nodes(torch.cat([heard, v, u.index_select(0, node_graph)], dim=1))
        n_graphs = u.shape[0]
        u = self.update_state(torch.cat([_mean(e, edge_graph, n_graphs), _mean(v, node_graph, n_graphs), u], dim=1))
        return x + self.dropout(v), edges + self.dropout(e), state + self.dropout(u)


class MEGNet(nn.Module):
    """MEGNet's trunk: atomic numbers, edge vectors and states to features of a structure, the same for all its atoms.

    The mean and the maximum over atoms of the same features are these features, so that a head reads out what MEGNet
    does. A property of each atom cannot be read from them, and is refused.

    Args:
        options: See `MEGNetOptions`.

    Attributes:
        num_layers: Blocks.
        cutoff: Å.
        out_channels: Features of a structure.
        tells_atoms_apart: That it does not.
    """

    Options = MEGNetOptions

    def __init__(self, options: MEGNetOptions) -> None:
        super().__init__()
        self.num_layers = options.num_blocks
        self.cutoff = options.cutoff
        self.tells_atoms_apart = False
        self.out_channels = 4 * options.set2set_channels + options.block_channels
        self.elements = make_element_features(options.element_features, options.embedding_channels, options.max_z)
        self.basis = GaussianBasis(options.cutoff + 1.0, options.num_gaussians, options.gaussian_width / 2**0.5)
        self.encode_states = StateEncoder(options.state_inputs) if options.state_inputs else None
        self.n_states = PLACEHOLDERS if self.encode_states is None else self.encode_states.out_channels
        self.dense_nodes = Dense(options.embedding_channels, options)
        self.dense_edges = Dense(options.num_gaussians, options)
        self.dense_state = Dense(self.n_states, options)
        self.blocks = nn.ModuleList(MEGNetBlock(options, is_first=block == 0) for block in range(options.num_blocks))
        self.conditions = no_conditions(options.num_blocks)
        self.condition_channels = options.block_channels
        self.of_nodes = nn.Linear(options.block_channels, options.set2set_channels)
        self.of_edges = nn.Linear(options.block_channels, options.set2set_channels)
        self.read_nodes = Set2Set(options.set2set_channels, options.set2set_steps)
        self.read_edges = Set2Set(options.set2set_channels, options.set2set_steps)
        draw_xavier(self)  # as the authors' code does

    def layers(self) -> nn.ModuleList:
        """Return the blocks."""
        return self.blocks

    def potential_refusal(self) -> str:
        """Return why this cannot be a staged potential: it never can."""
        return (
            "the global state and the set2set readout of MEGNet couple all atoms of a structure, however far apart: "
            "there is no energy of an atom by its surroundings (take schnet, cgcnn, gat or alignn)"
        )

    def forward(self, inputs: GraphInputs) -> Tensor:
        """Return ``(n_nodes, out_channels)``, of each atom what its structure's edges, atoms and state are read to."""
        sender, receiver = inputs.edge_index[0], inputs.edge_index[1]
        x = self.elements(inputs.z)
        node_graph = inputs.node_graph
        if node_graph is None:
            node_graph = torch.zeros_like(inputs.z)
        if self.encode_states is None:
            state = x.new_zeros(inputs.n_graphs, self.n_states)
        else:
            states = inputs.states
            if states is None:
                raise ModelError("the network takes state inputs, and is given none")
            state = self.encode_states(states).to(x.dtype)
        edges, pairs = self.dense_edges(self.basis(lengths_of(inputs, x.dtype))), inputs.pairs
        if pairs is not None:
            edges = edges.index_select(0, pairs[1])
        x, state = self.dense_nodes(x), self.dense_state(state)
        # B905: TorchScript's zip has no strict.
        for block, condition in zip(self.blocks, self.conditions):  # noqa: B905
            x, edges, state = block(x, edges, state, sender, receiver, node_graph)
            x = condition(x, inputs.composition, node_graph)
        of_nodes = self.read_nodes(self.of_nodes(x), node_graph, inputs.n_graphs)
        of_edges = self.read_edges(self.of_edges(edges), node_graph.index_select(0, receiver), inputs.n_graphs)
        return torch.cat([of_nodes, of_edges, state], dim=1).index_select(0, node_graph)


def _mean(values: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Return the mean of the rows of each group, ``(n_groups, n_channels)``; zero where there are none."""
    values = addable(values)
    summed = values.new_zeros(n_groups, values.shape[1]).index_add(0, group, values)
    counts = values.new_zeros(n_groups, 1).index_add(0, group, values.new_ones(values.shape[0], 1))
    return summed / counts.clamp(min=1.0)
