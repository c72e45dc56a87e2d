"""What a trunk is given: a graph of edge vectors, whole or staged, and what belongs to its structures."""

from typing import NamedTuple

from torch import Tensor


class GraphInputs(NamedTuple):
    """The inputs of a trunk; `kimgnn.models.network` says how layers work on prefixes of nodes and edges.

    Attributes:
        z: ``(n_nodes,)`` int64, atomic numbers.
        edge_index: ``(2, n_edges)`` int64, sender and receiver.
        edge_vectors: ``(n_edges, 3)`` float, Å, receiver minus sender.
        node_counts: Nodes, from the first, that each layer updates.
        edge_counts: Edges, from the first, that each layer uses.
        pairs: An edge of each pair of atoms ``(n_pairs,)``, the pair of each edge ``(n_edges,)``, and the number of
            pairs, from the first, that each layer uses; ``None`` where edges form no pairs.
        triplets: Of two bonds that follow one another, the first edge ``(n_triplets,)`` and the second, by which they
            are sorted, and the number of triplets, from the first, that each layer uses; ``None`` for all that the
            edges form (see `kimgnn.nn.triplets`).
        node_graph: ``(n_nodes,)`` int64, the structure of each node; ``None`` for a single one.
        n_graphs: Number of structures.
        states: ``(n_graphs, n_states)`` float64, what is known of a structure besides its atoms, such as a temperature.
        composition: ``(n_graphs, n_channels)``, an encoding of the composition, for trunks that depend on one.
        copies: ``(n_edges,)`` int64, how many edges of one sender, receiver and length each of these stands for, of
            trunks that say they merge edges; ``pairs`` are then edges of one length. ``None`` for one each.
    """

    z: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    node_counts: list[int]
    edge_counts: list[int]
    pairs: tuple[Tensor, Tensor, list[int]] | None = None
    triplets: tuple[Tensor, Tensor, list[int]] | None = None
    node_graph: Tensor | None = None
    n_graphs: int = 1
    states: Tensor | None = None
    composition: Tensor | None = None
    copies: Tensor | None = None
