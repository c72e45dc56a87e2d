"""Two bonds that follow one another, which enclose an angle: the edges of a line graph."""

import torch
from torch import Tensor


def find_triplets(
    edge_index: Tensor, inner: Tensor, n_nodes: int, edge_counts: list[int]
) -> tuple[Tensor, Tensor, list[int]]:
    """Return every pair of edges of which the second begins where the first ends, sorted by the second.

    An edge and its reverse are such a pair too. Scripts in TorchScript.

    Args:
        edge_index: ``(2, n_edges)`` int64, sender and receiver.
        inner: ``(n_edges,)`` bool, edges that form triplets.
        n_nodes: Number of nodes.
        edge_counts: Edges, from the first, that each message-passing layer uses.

    Returns:
        The first edge of each triplet ``(n_triplets,)`` int64, the second ``(n_triplets,)``, and the triplets, from the
        first, that each layer needs for the edges that the next one uses.
    """
    sender, receiver = edge_index[0], edge_index[1]
    counts_after = edge_counts[1:] + [0]
    edges = inner.nonzero().view(-1)
    n_into = torch.bincount(receiver[edges], minlength=n_nodes)
    into = edges[torch.sort(receiver[edges], stable=True)[1]]  # node by node
    begin_of_node = n_into.cumsum(0) - n_into
    seconds = edges[edges < counts_after[0]]
    n_firsts = n_into[sender[seconds]]
    second = seconds.repeat_interleave(n_firsts)
    begin = begin_of_node[sender[seconds]] - (n_firsts.cumsum(0) - n_firsts)
    first = into[begin.repeat_interleave(n_firsts) + torch.arange(second.shape[0], device=second.device)]
    counts = [int((second < count).sum()) for count in counts_after]
    return first, second, counts


def count_triplets(edge_index: Tensor, inner: Tensor, n_nodes: int) -> int:
    """Return how many triplets `find_triplets` would find of all edges, without memory for them."""
    sender, receiver = edge_index[0], edge_index[1]
    edges = inner.nonzero().view(-1)
    n_into = torch.bincount(receiver[edges], minlength=n_nodes)
    return int(n_into[sender[edges]].sum())
