"""Graphs to a batch: what PyG's ``Batch.from_data_list`` makes of them, several times as fast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from kliff.transforms.configuration_transforms.graphs import PyGGraph
from torch import Tensor
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.transforms.graph import AtomGraph, is_target


def collate(graphs: Sequence[PyGGraph]) -> Any:
    """Return graphs as one batch, with PyG's tensors and methods; only cutting it into graphs again is left out.

    Args:
        graphs: At least one. `AtomGraph`s of one transform go the fast way, all others PyG's.
    """
    every = [graph.tensors() for graph in graphs if type(graph) is AtomGraph]
    if len(every) < len(graphs) or not _alike(every):
        return Batch.from_data_list(list(graphs))
    columns = {name: [tensors[name] for tensors in every] for name in every[0]}
    n_nodes = [len(z) for z in columns[fields.Z]]
    graph_of_node = _repeated(range(len(graphs)), n_nodes)
    batch = Batch(_base_cls=AtomGraph)
    joined: dict[int, Tensor] = {}
    for name, column in columns.items():
        same = id(column[0])  # the edge lists of all layers may be one
        if same not in joined:
            joined[same] = _joined(name, column)
            if (increments := _increments(name, columns, graph_of_node)) is not None:
                joined[same] += increments
        batch[name] = joined[same]
    batch.num_nodes = sum(n_nodes)
    batch.batch = graph_of_node
    batch.ptr = torch.tensor([0, *accumulate(n_nodes)])
    batch._num_graphs = len(graphs)
    return batch


def _alike(every: Sequence[dict[str, Tensor]]) -> bool:
    """Whether all graphs have the same fields, and only those that `_increments` knows."""
    names = every[0].keys()
    known = all(name in fields.FIELDS or _is_edge_list(name) or is_target(name) for name in names)
    return known and all(tensors.keys() == names for tensors in every)


def _is_edge_list(name: str) -> bool:
    return name.startswith("edge_index")


def _joined(name: str, column: list[Tensor]) -> Tensor:
    in_columns = _is_edge_list(name) or name == fields.TRIPLETS
    return torch.cat(column, 1 if in_columns else 0) if column[0].dim() else torch.stack(column)


def _increments(name: str, columns: dict[str, list[Tensor]], graph_of_node: Tensor) -> Tensor | None:
    """Return what is added to each element of a joined field, so that it counts through the batch."""
    if _is_edge_list(name):
        return _repeated(_starts([len(z) for z in columns[fields.Z]]), [edges.shape[1] for edges in columns[name]])
    if name in (fields.EDGE_OF_PAIR, fields.TRIPLETS):
        n_edges = [edges.shape[1] for edges in columns[fields.EDGE_INDEX]]
        return _repeated(_starts(n_edges), [edges.shape[-1] for edges in columns[name]])
    if name == fields.PAIR_OF_EDGE:
        n_pairs = [len(edges) for edges in columns[fields.EDGE_OF_PAIR]]
        return _repeated(_starts(n_pairs), [len(pairs) for pairs in columns[name]])
    if name == fields.CONTRIBUTIONS:
        return 2 * graph_of_node
    if name == fields.IMAGES:
        n_images = [int(images.max()) + 1 if len(images) else 0 for images in columns[name]]
        return _repeated(_starts(n_images), [len(images) for images in columns[name]])
    return None


def _starts(counts: list[int]) -> list[int]:
    return [0, *accumulate(counts[:-1])]


def _repeated(values: Sequence[int], repeats: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.tensor(values), torch.tensor(repeats), output_size=sum(repeats))
