"""Graphs to a batch: what PyG's ``Batch.from_data_list`` makes of them, several times as fast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import torch
from kliff.transforms.configuration_transforms.graphs import PyGGraph
from torch import Tensor
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.transforms.graph import AtomGraph, is_target

_POINTS_INTO: Final = {
    fields.PAIR_OF_EDGE: fields.EDGE_OF_PAIR,
    fields.DISTINCT_OF_LENGTH: fields.DISTINCT_EDGES,
    fields.LENGTH_OF_DISTINCT: fields.DISTINCT_OF_LENGTH,
}
"""Field of places -> the field that they are places in."""


def collate(graphs: Sequence[PyGGraph]) -> Any:
    """Return graphs as one batch, with PyG's tensors and methods; only cutting it into graphs again is left out.

    Args:
        graphs: At least one. `AtomGraph`s of one transform go the fast way, all others PyG's.
    """
    every = [graph.tensors() for graph in graphs if type(graph) is AtomGraph]
    if len(every) < len(graphs) or not _alike(every):
        return Batch.from_data_list(list(graphs))
    columns = {name: [tensors[name] for tensors in every] for name in every[0]}
    n_nodes = _counts(columns[fields.Z])
    graph_of_node = _repeated(range(len(graphs)), n_nodes)
    batch = _batch_of(graph_of_node, torch.tensor([0, *accumulate(n_nodes)]))
    joined: dict[int, Tensor] = {}
    for name, column in columns.items():
        same = id(column[0])  # the edge lists of all layers may be one
        if same not in joined:
            joined[same] = _joined(name, column)
            if (increments := _increments(name, columns, graph_of_node)) is not None:
                joined[same] += increments
        batch[name] = joined[same]
    return batch


class JoinedGraphs:
    """Graphs joined field by field once, of which batches are cut: what `collate` makes of them, without a loop.

    Args:
        graphs: `AtomGraph`s with the same fields; their tensors become parts of the joined ones.
    """

    def __init__(self, graphs: Sequence[AtomGraph]) -> None:
        every = [graph.tensors() for graph in graphs]
        first: dict[int, str] = {}
        self._same = {name: first.setdefault(id(tensor), name) for name, tensor in every[0].items()}
        self._joined: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        for name in first.values():
            column = [tensors[name] for tensors in every]
            joined, dim = _joined(name, column), _dim(name)
            counts = _counts(column, dim) if column[0].dim() else [1] * len(column)
            parts = torch.split(joined, counts, dim) if column[0].dim() else joined.unbind()
            for graph, part in zip(graphs, parts, strict=True):
                graph[name] = part
            if name == fields.IMAGES:
                self._n_images = torch.tensor([int(part.max()) + 1 if part.shape[0] else 0 for part in parts])
            self._joined[name], self._counts[name] = joined, torch.tensor(counts)
        for name, other in self._same.items():
            for graph in graphs:
                graph[name] = graph[other]
        # Fields with as many rows in each graph are cut alike.
        alike: dict[bytes, str] = {}
        self._cut_like = {
            name: alike.setdefault(counts.numpy().tobytes(), name) for name, counts in self._counts.items()
        }
        self._starts = {name: _starts_of(self._counts[name]) for name in alike.values()}

    @classmethod
    def of(cls, graphs: Sequence[Any]) -> JoinedGraphs | None:
        """Return the graphs joined, or ``None`` where they are not all `AtomGraph`s with the same fields."""
        if not graphs or any(type(graph) is not AtomGraph for graph in graphs):
            return None
        return cls(graphs) if _alike([graph.tensors() for graph in graphs]) else None

    def batch(self, indices: Sequence[int]) -> Any:
        """Return the batch of some of the graphs, in this order."""
        chosen = torch.tensor(indices)
        counts = {name: self._counts[name][chosen] for name in self._starts}
        rows = {name: _rows(self._starts[name][chosen], counts[name]) for name in self._starts}
        n_nodes = counts[self._cut_like[fields.Z]]
        graph_of_node = torch.arange(len(indices)).repeat_interleave(n_nodes)
        batch = _batch_of(graph_of_node, torch.cat([n_nodes.new_zeros(1), n_nodes.cumsum(0)]))
        cut: dict[str, Tensor] = {}
        for name, joined in self._joined.items():
            cut[name] = joined.index_select(_dim(name), rows[self._cut_like[name]])
            units: Tensor | None = None
            if name == fields.CONTRIBUTIONS:
                cut[name] += 2 * graph_of_node
            elif name == fields.IMAGES:
                units = self._n_images[chosen]
            elif (entries := _counted_in(name)) is not None:
                units = counts[self._cut_like[self._same[entries]]]
            if units is not None:
                cut[name] += _starts_of(units).repeat_interleave(counts[self._cut_like[name]])
        for name, same in self._same.items():
            batch[name] = cut[same]
        return batch


def _batch_of(graph_of_node: Tensor, ptr: Tensor) -> Any:
    """Return a batch without fields."""
    batch = Batch(_base_cls=AtomGraph)
    batch.num_nodes = graph_of_node.shape[0]
    batch.batch = graph_of_node
    batch.ptr = ptr
    batch._num_graphs = ptr.shape[0] - 1
    return batch


def _rows(starts: Tensor, counts: Tensor) -> Tensor:
    """Return ``counts`` numbers from each of ``starts`` on."""
    shift = (starts - _starts_of(counts)).repeat_interleave(counts)
    return shift + torch.arange(shift.shape[0])


def _starts_of(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


def _dim(name: str) -> int:
    """Return the dimension along which a field is joined."""
    return 1 if _is_edge_list(name) or name == fields.TRIPLETS else 0


def _alike(every: Sequence[dict[str, Tensor]]) -> bool:
    """Whether all graphs have the same fields, and only those that `_increments` knows."""
    names = every[0].keys()
    known = all(name in fields.FIELDS or _is_edge_list(name) or is_target(name) for name in names)
    return known and all(tensors.keys() == names for tensors in every)


def _is_edge_list(name: str) -> bool:
    return name.startswith("edge_index")


def _joined(name: str, column: list[Tensor]) -> Tensor:
    return torch.cat(column, _dim(name)) if column[0].dim() else torch.stack(column)


def _counted_in(name: str) -> str | None:
    """Return the field that an element of this one is the number of an entry of, or ``None``."""
    if _is_edge_list(name):
        return fields.Z
    if name in (fields.EDGE_OF_PAIR, fields.TRIPLETS, fields.DISTINCT_EDGES):
        return fields.EDGE_INDEX
    return _POINTS_INTO.get(name)


def _increments(name: str, columns: dict[str, list[Tensor]], graph_of_node: Tensor) -> Tensor | None:
    """Return what is added to each element of a joined field, so that it counts through the batch."""
    if (entries := _counted_in(name)) is not None:
        return _repeated(_starts(_counts(columns[entries], -1)), _counts(columns[name], -1))
    if name == fields.CONTRIBUTIONS:
        return 2 * graph_of_node
    if name == fields.IMAGES:
        n_images = [int(images.max()) + 1 if images.shape[0] else 0 for images in columns[name]]
        return _repeated(_starts(n_images), _counts(columns[name]))
    return None


def _counts(column: list[Tensor], dim: int = 0) -> list[int]:
    return [tensor.shape[dim] for tensor in column]


def _starts(counts: list[int]) -> list[int]:
    return [0, *accumulate(counts[:-1])]


def _repeated(values: Sequence[int], repeats: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.tensor(values), torch.tensor(repeats), output_size=sum(repeats))
