"""The edges that a message-passing layer uses, with what is known of their lengths."""

from typing import NamedTuple

import torch
from torch import Tensor

from kimgnn.nn.inputs import GraphInputs


class LayerEdges(NamedTuple):
    """The edges of a layer.

    Attributes:
        sender: ``(n_edges,)`` int64.
        receiver: ``(n_edges,)`` int64, below ``n_receivers``.
        basis: ``(n_edges, num_gaussians)``, or of the pairs that ``pair_of_edge`` points to.
        envelope: ``(n_edges,)``, or of the pairs likewise; ``None`` where there is none.
        n_receivers: Nodes, from the first, that are updated.
        pair_of_edge: ``(n_edges,)`` int64; ``None`` where edges form no pairs.
        copies: ``(n_edges,)``, how many edges each stands for; ``None`` for one each.
    """

    sender: Tensor
    receiver: Tensor
    basis: Tensor
    envelope: Tensor | None
    n_receivers: int
    pair_of_edge: Tensor | None
    copies: Tensor | None = None


def lengths_of(inputs: GraphInputs, dtype: torch.dtype) -> Tensor:
    """Return the lengths, Å, of the pairs ``(n_pairs,)``, or of the edges ``(n_edges,)`` where these form none."""
    vectors, pairs = inputs.edge_vectors, inputs.pairs
    if pairs is not None:
        vectors = vectors.index_select(0, pairs[0])
    return torch.linalg.vector_norm(vectors.to(dtype), dim=-1)


def edges_of_layer(inputs: GraphInputs, layer: int, basis: Tensor, envelope: Tensor | None) -> LayerEdges:
    """Return the edges of a layer, of what was made of `lengths_of` for all layers."""
    n_edges, pairs = inputs.edge_counts[layer], inputs.pairs
    n_lengths = n_edges
    pair_of_edge: Tensor | None = None
    if pairs is not None:
        n_lengths, pair_of_edge = pairs[2][layer], pairs[1][:n_edges]
    envelope_of_layer: Tensor | None = None
    if envelope is not None:
        envelope_of_layer = envelope[:n_lengths]
    copies = inputs.copies
    if copies is not None:
        copies = copies[:n_edges].to(basis.dtype)
    return LayerEdges(
        inputs.edge_index[0][:n_edges],
        inputs.edge_index[1][:n_edges],
        basis[:n_lengths],
        envelope_of_layer,
        inputs.node_counts[layer],
        pair_of_edge,
        copies,
    )


def strengths_of(edges: LayerEdges) -> Tensor | None:
    """Return what the messages of edges are multiplied with, ``(n_edges, 1)``, or ``None`` for nothing."""
    envelope, copies = edges.envelope, edges.copies
    if envelope is None:
        return None if copies is None else copies.unsqueeze(-1)
    strengths = of_edges(envelope, edges.pair_of_edge)
    return (strengths if copies is None else strengths * copies).unsqueeze(-1)


def of_edges(values: Tensor, pair_of_edge: Tensor | None) -> Tensor:
    """Return values of edges, given those of pairs, or of edges where there are no pairs."""
    return values if pair_of_edge is None else values.index_select(0, pair_of_edge)
