"""collate: the tensors of PyG's Batch.from_data_list, whatever the graphs."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms.graphs import RadialGraph
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.physics.potential import graph_of_node
from kimgnn.transforms import collate as collate_module
from kimgnn.transforms.collate import JoinedGraphs, collate
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.graph import TARGETS, AtomGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph
from kimgnn.transforms.radial_graph import radial_graph


def structure(rng: np.random.Generator, largest: int = 6) -> Configuration:
    """Return a cell of 1 to 6 atoms on a lattice, shaken, or one atom too far from everything, with some labels."""
    n_atoms = int(rng.integers(1, largest + 1))
    alone = n_atoms == 1 and rng.random() < 0.5
    corners = rng.permutation([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])[:n_atoms]
    item = Configuration(
        np.eye(3) * (30.0 if alone else 4.0),
        list(rng.choice(["Si", "C"], n_atoms)),
        corners * 2.0 + rng.uniform(-0.3, 0.3, (n_atoms, 3)),
        [True, bool(rng.integers(2)), True],
        energy=float(rng.normal()) if rng.random() < 0.7 else None,
        forces=rng.normal(size=(n_atoms, 3)) if rng.random() < 0.7 else None,
        stress=rng.normal(size=6) if rng.random() < 0.7 else None,
    )
    item.metadata = {
        "index": int(rng.integers(1000)),
        TARGETS: {
            # KLIFF counts up what contains "face" or "index", and PyG what contains "batch".
            "surface_energy": np.array([rng.normal()]),
            "refractive_index": rng.normal(size=3),
            "charge_batch": rng.normal(size=(n_atoms, 2)),
            "images": np.array([np.nan]),
        },
    }
    return item


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    assert set(ours.keys()) == set(theirs.keys())
    for name in theirs.keys():
        if name == "num_nodes":
            assert ours.num_nodes == theirs.num_nodes
            continue
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].shape == theirs[name].shape, name
        assert ours[name].is_contiguous(), name
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, equal_nan=True, msg=name)
    assert ours.num_graphs == theirs.num_graphs == len(theirs.ptr) - 1


TRANSFORMS = [PeriodicGraph(3.0, n_layers=3), CrystalGraph(3.0, 4), CrystalGraph(3.0, None, species=["C", "Si"])]


@pytest.mark.filterwarnings("ignore:.*neighbour:UserWarning")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(TRANSFORMS))
def test_batches_are_those_of_pyg(seed: int, n_graphs: int, transform: Any) -> None:
    """Every field of a batch of any structures, alone or together, with and without pairs, edges, labels."""
    rng = np.random.default_rng(seed)
    graphs = [transform(structure(rng)) for _ in range(n_graphs)]
    theirs = Batch.from_data_list(graphs)
    assert_same(collate(graphs), theirs)
    joined = JoinedGraphs.of(graphs)
    assert_same(joined.batch(range(n_graphs)), theirs)
    chosen = rng.integers(n_graphs, size=int(rng.integers(1, 6))).tolist()
    assert_same(joined.batch(chosen), Batch.from_data_list([graphs[index] for index in chosen]))


def test_joined_graphs_are_the_graphs_still() -> None:
    """Their tensors are as they were, views of the joined ones; the edge lists of all layers stay one tensor."""
    rng = np.random.default_rng(4)
    items = [structure(rng) for _ in range(5)]
    graphs, expected = ([PeriodicGraph(3.0, n_layers=2)(item) for item in items] for _ in range(2))
    joined = JoinedGraphs.of(graphs)
    for graph, other in zip(graphs, expected, strict=True):
        assert graph.edge_index1 is graph.edge_index0
        for name, tensor in other.tensors().items():
            torch.testing.assert_close(graph[name], tensor, rtol=0, atol=0, equal_nan=True)
    batch = joined.batch([1, 1])
    assert batch.edge_index1 is batch.edge_index0
    before = graphs[1].coords.clone()
    batch.coords.zero_()  # a batch is a copy
    assert torch.equal(graphs[1].coords, before)
    assert JoinedGraphs.of([]) is None
    other = PeriodicGraph(3.0)(items[0])  # of one layer: other fields
    assert JoinedGraphs.of([*graphs, other]) is None


def test_targets_are_stacked_whatever_they_are_called() -> None:
    """A target of a structure is a row, one of atoms a row for each; the name is nothing to KLIFF or PyG."""
    rng = np.random.default_rng(0)
    items = [structure(rng) for _ in range(4)]
    batch = collate([PeriodicGraph(3.0)(item) for item in items])
    for target in ("surface_energy", "refractive_index", "charge_batch"):
        expected = np.concatenate([np.atleast_2d(item.metadata[TARGETS][target]) for item in items])
        np.testing.assert_array_equal(batch[fields.target_field(target)], expected)


def test_edges_and_pairs_count_through_the_batch() -> None:
    """Every edge joins atoms of one graph and keeps its vector; a pair's two edges name the pair."""
    rng = np.random.default_rng(1)
    graphs = [PeriodicGraph(3.0)(structure(rng)) for _ in range(5)]
    batch = collate(graphs)
    node_graph = graph_of_node(batch)
    torch.testing.assert_close(node_graph, batch.batch)
    sender, receiver = batch.edge_index0
    assert torch.equal(node_graph[sender], node_graph[receiver])
    vectors = [g.coords[g.edge_index0[1]] - g.coords[g.edge_index0[0]] + g.shifts for g in graphs]
    torch.testing.assert_close(batch.coords[receiver] - batch.coords[sender] + batch.shifts, torch.cat(vectors))
    assert torch.equal(batch.pair_of_edge[batch.edge_of_pair], torch.arange(len(batch.edge_of_pair)))


def test_graphs_are_left_alone() -> None:
    """A batch of one is a copy: what is written into it does not reach the graph."""
    graph = PeriodicGraph(3.0)(structure(np.random.default_rng(2)))
    before = {name: tensor.clone() for name, tensor in graph.tensors().items()}
    batch = collate([graph])
    for name in before:
        batch[name].zero_()
    for name, tensor in before.items():
        torch.testing.assert_close(graph[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_batches_move_and_travel() -> None:
    """`to`, pickling and a loader's worker processes work as with PyG's."""
    rng = np.random.default_rng(3)
    graphs = [PeriodicGraph(3.0, n_layers=2)(structure(rng)) for _ in range(4)]
    batch, theirs = collate(graphs), Batch.from_data_list(graphs)
    assert_same(batch.to("cpu"), theirs)
    assert {tensor.device.type for tensor in batch.to("meta").tensors().values()} == {"meta"}
    assert_same(pickle.loads(pickle.dumps(collate(graphs))), theirs)
    (loaded,) = DataLoader(graphs, batch_size=4, collate_fn=collate, num_workers=1)
    assert_same(loaded, theirs)


@pytest.mark.gpu
def test_batches_are_pinned() -> None:
    """A loader pins them, for copies that do not wait."""
    graphs = [PeriodicGraph(3.0)(structure(np.random.default_rng(3))) for _ in range(4)]
    (loaded,) = DataLoader(graphs, batch_size=4, collate_fn=collate, pin_memory=True)
    assert loaded.coords.is_pinned()
    assert_same(loaded.to("cuda", non_blocking=True).cpu(), Batch.from_data_list(graphs))


def test_other_graphs_go_the_way_of_pyg(monkeypatch: pytest.MonkeyPatch) -> None:
    """KLIFF's graphs, and ours with fields of somebody else's, are collated by what their class says."""
    rng = np.random.default_rng(4)
    structures = [structure(rng) for _ in range(3)]
    for item in structures:
        item.metadata.pop(TARGETS)  # no network on these graphs learns any
    staged = [radial_graph(item, RadialGraph(["Si", "C"], 3.0, 2)) for item in structures]
    assert_same(collate(staged), Batch.from_data_list(staged))
    ours = [PeriodicGraph(3.0)(structure(rng)) for _ in range(3)]
    for graph in ours:
        graph.angle_index = torch.zeros(3, 2, dtype=torch.int64)
    assert_same(collate(ours), Batch.from_data_list(ours))
    assert collate(ours).angle_index.shape == (3, 6)
    monkeypatch.setattr(collate_module, "_joined", None)  # what our own way would need
    collate(staged)
    collate(ours)


def test_ghosts_and_empty_graphs() -> None:
    """Images that are fewer than nodes, and a graph without any: as with PyG."""
    graph = PeriodicGraph(3.0)(structure(np.random.default_rng(5), largest=3))
    ghosts = AtomGraph(
        graph.tensors() | {fields.IMAGES: torch.zeros_like(graph.images), fields.CONTRIBUTIONS: graph.contributions + 1}
    )
    empty = AtomGraph(
        {
            name: tensor[..., :0]
            if name == fields.EDGE_INDEX
            else tensor[: None if tensor.dim() == 0 else 0]
            if tensor.dim() and name not in (fields.CELL, fields.PBC, fields.STRESS)
            else tensor
            for name, tensor in graph.tensors().items()
            if not name.startswith("target_")
        }
    )
    bare = [AtomGraph({k: v for k, v in g.tensors().items() if not k.startswith("target_")}) for g in (graph, ghosts)]
    for graphs in ([graph, ghosts, graph], [bare[0], empty, bare[1]]):
        assert_same(collate(graphs), Batch.from_data_list(graphs))
