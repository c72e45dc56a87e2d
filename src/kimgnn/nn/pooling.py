"""Pooling: features of atoms to those of structures."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Readout: TypeAlias = Literal["mean", "sum", "max"]
"""How the features of a structure's atoms become those of the structure."""


def addable(values: Tensor) -> Tensor:
    """Return values as sums take them: those of 16 bits in single precision, else 256 and 1 would add up to 256."""
    narrow = values.dtype == torch.bfloat16 or values.dtype == torch.float16
    return values.to(torch.float32) if narrow else values


def pool(x: Tensor, node_graph: Tensor | None, n_graphs: int, how: str) -> Tensor:
    """Return ``(n_graphs, n_channels)``, the mean, sum or maximum of ``x`` over the atoms of each graph.

    Every graph has at least one atom.

    Args:
        x: ``(n_atoms, n_channels)``.
        node_graph: ``(n_atoms,)`` int64, the graph of each atom; ``None`` when there is but one graph, which exports
            without operations on indices.
        n_graphs: Number of graphs.
        how: ``mean``, ``sum`` or ``max``.
    """
    x = addable(x)
    if node_graph is None:
        if how == "max":
            return x.amax(0, keepdim=True)
        return x.mean(0, keepdim=True) if how == "mean" else x.sum(0, keepdim=True)
    if how == "max":
        index = node_graph.unsqueeze(-1).expand_as(x)
        return x.new_full((n_graphs, x.shape[1]), -float("inf")).scatter_reduce(0, index, x, "amax")
    summed = x.new_zeros(n_graphs, x.shape[1]).index_add(0, node_graph, x)
    if how == "sum":
        return summed
    return summed / count_atoms(node_graph, n_graphs).to(x.dtype).unsqueeze(-1)


def count_atoms(node_graph: Tensor, n_graphs: int) -> Tensor:
    """Return the number of atoms of each graph, ``(n_graphs,)`` int64."""
    return torch.bincount(node_graph, minlength=n_graphs)
