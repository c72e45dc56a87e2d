"""Staging: a system with ghost atoms, ordered by message-passing hop, so that every layer works on a prefix."""

import torch
from torch import Tensor


def stage_by_hop(
    edge_index: Tensor, contributing: Tensor, n_layers: int
) -> tuple[Tensor, Tensor, Tensor, list[int], list[int]]:
    """Return the nodes and edges that the contributing atoms' energies depend on, ordered by hop.

    The hop of a node is the number of messages it is away from the nearest contributing atom. Layer ``k`` of ``L``
    has to update the nodes within ``L - 1 - k`` hops, from the edges that they receive. Scripts in TorchScript.

    Args:
        edge_index: (2, n_edges) int64, sender and receiver; all edges received within ``n_layers - 1`` hops, at least.
        contributing: (n_nodes,) bool; False for ghosts.
        n_layers: Number of message-passing layers, at least one.

    Returns:
        nodes: (n_staged_nodes,) int64, the input's index of each staged node; contributing first, in their order.
        edges: (n_staged_edges,) int64, the input's index of each staged edge, sorted by receiver.
        staged_edge_index: (2, n_staged_edges) int64, into the staged nodes.
        node_counts: ``n_layers`` ints, in the order in which layers are applied.
        edge_counts: ``n_layers`` ints, likewise.
    """
    sender, receiver = edge_index[0], edge_index[1]
    unreached = n_layers + 1
    hop = torch.full_like(contributing, unreached, dtype=torch.int64)
    hop[contributing] = 0
    for k in range(n_layers):
        reached = torch.zeros_like(contributing)
        reached[sender[hop[receiver] == k]] = True
        hop[reached & (hop == unreached)] = k + 1

    nodes = torch.argsort(hop, stable=True)[: int((hop <= n_layers).sum())]
    position = torch.full_like(hop, -1)
    position[nodes] = torch.arange(nodes.shape[0], device=hop.device)

    node_counts = [int((hop < n_layers - k).sum()) for k in range(n_layers)]
    edge_counts = [int((hop[receiver] < n_layers - k).sum()) for k in range(n_layers)]

    received = torch.nonzero(hop[receiver] < n_layers).view(-1)
    edges = received[torch.argsort(position[receiver[received]], stable=True)]
    return nodes, edges, position[edge_index[:, edges]], node_counts, edge_counts
