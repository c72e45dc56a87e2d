"""LineGraph: every triplet of bonds and no other, whatever the cell; which bonds form angles; and its bounds."""

import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ManifestError
from kimgnn.nn.triplets import count_triplets, find_triplets
from kimgnn.transforms.collate import collate
from kimgnn.transforms.line_graph import LineGraph


def random_crystal(seed: int) -> Atoms:
    """One to five atoms in a skewed cell, not all of it periodic."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    cell = np.diag(rng.uniform(3, 5, 3)) + rng.uniform(-0.6, 0.6, (3, 3))
    corners = rng.permutation([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])[:n]
    positions = (corners * 0.5 + rng.uniform(-0.08, 0.08, (n, 3))) @ cell
    return Atoms(rng.choice([6, 14], n), positions, cell=cell, pbc=rng.random(3) < 0.8)


def graph_of(atoms: Atoms, **options: object):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return LineGraph(**({"cutoff": 4.0} | options))(configuration_from_atoms(atoms))


def triplets_by_search(sender, receiver, inner) -> list[tuple[int, int]]:
    """Every inner edge b and every inner edge a that ends where b begins."""
    edges = range(len(sender))
    return [(a, b) for b in edges for a in edges if inner[a] and inner[b] and receiver[a] == sender[b]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([None, 3, 12]), st.booleans())
def test_triplets_are_those_of_a_search(seed: int, nearest: int | None, few: bool) -> None:
    """Sorted by the second edge; with fewer bonds in them, by length or by rank."""
    options: dict[str, object] = {"max_neighbors": nearest}
    if few:
        options |= {"angle_cutoff": 3.0} if nearest is None else {"angle_neighbors": 2}
    graph = graph_of(random_crystal(seed), **options)
    sender, receiver = graph.edge_index0
    lengths = (graph.coords[receiver] - graph.coords[sender] + graph.shifts).norm(dim=1)
    inner = torch.ones(len(sender), dtype=torch.bool)
    if few and nearest is None:
        inner = lengths < 3.0
    elif few:
        # Nearest first, receiver by receiver.
        rank = torch.arange(len(sender)) - torch.searchsorted(receiver.contiguous(), receiver.contiguous())
        inner = rank < 2
        assert all(lengths[receiver == i][:2].max() <= lengths[receiver == i].max() for i in receiver.unique())
    found = list(map(tuple, graph[fields.TRIPLETS].T.tolist()))
    assert found == sorted(found, key=lambda pair: pair[1])
    if few and nearest is not None:
        # Which of equally near ones are inner, ties decide: the lengths are the same.
        used = graph[fields.TRIPLETS].unique()
        assert len(found) == len(triplets_by_search(sender, receiver, torch.isin(torch.arange(len(sender)), used)))
        for atom in receiver.unique():
            mine = used[receiver[used] == atom]
            assert len(mine) <= 2
            torch.testing.assert_close(lengths[mine], lengths[receiver == atom][: len(mine)], rtol=0, atol=2e-3)
    else:
        assert sorted(found) == sorted(triplets_by_search(sender, receiver, inner))


def test_silicon_has_16_neighbours_squared() -> None:
    """Four and twelve neighbours within 4 Å: 256 triplets an atom, their cosines those of the diamond lattice."""
    graph = graph_of(bulk("Si", cubic=True), max_neighbors=None)
    assert graph[fields.TRIPLETS].shape == (2, 8 * 256)
    assert graph[fields.TRIPLETS].dtype == torch.int64
    close = graph_of(bulk("Si", cubic=True), max_neighbors=None, angle_cutoff=3.0)
    first, second = close[fields.TRIPLETS]
    sender, receiver = close.edge_index0
    vectors = close.coords[receiver] - close.coords[sender] + close.shifts
    cosines = -(vectors[first] * vectors[second]).sum(1) / (vectors[first].norm(dim=1) * vectors[second].norm(dim=1))
    values, counts = cosines.round(decimals=9).unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([-1 / 3, 1.0], dtype=torch.float64), rtol=0, atol=1e-8)
    assert counts.tolist() == [8 * 12, 8 * 4]


def test_a_perovskite_takes_the_nearest_for_angles() -> None:
    """A whole shell of equal distances is cut by the rule of ties, or kept."""
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    cut, kept = (graph_of(atoms, cutoff=8.0, angle_neighbors=4, ties=ties) for ties in ("break", "keep"))
    assert cut[fields.TRIPLETS].shape[1] == 2 * 4 * 4
    assert kept[fields.TRIPLETS].shape[1] == 2 * 6 * 6


def test_edges_in_any_order_and_prefixes() -> None:
    """What a layer needs are the triplets of the edges that the next one uses; edges need not be sorted."""
    graph = graph_of(random_crystal(5), max_neighbors=None)
    edges, n = graph.edge_index0, len(graph.z)
    n_edges = edges.shape[1]
    order = torch.randperm(n_edges, generator=torch.Generator().manual_seed(0))
    inner = torch.ones(n_edges, dtype=torch.bool)
    first, second, counts = find_triplets(edges[:, order], inner, n, [n_edges, n_edges])
    assert counts == [len(first), 0]
    expected = {tuple(pair) for pair in graph[fields.TRIPLETS].T.tolist()}
    assert {(int(order[a]), int(order[b])) for a, b in zip(first, second, strict=True)} == expected
    half = n_edges // 2
    first, second, counts = find_triplets(edges, inner, n, [n_edges, half, 3])
    assert counts == [len(first), int((second < 3).sum()), 0]
    assert second.max() < half
    assert count_triplets(edges, inner, n) == len(expected)


def test_a_batch_counts_edges_through() -> None:
    """collate and PyG's Batch agree, with structures without a bond among them."""
    graphs = [graph_of(random_crystal(seed), max_neighbors=6) for seed in range(5)]
    graphs.insert(2, graph_of(Atoms("Si", cell=[20, 20, 20], pbc=True)))
    ours, theirs = collate(graphs), Batch.from_data_list(graphs)
    assert torch.equal(ours[fields.TRIPLETS], theirs[fields.TRIPLETS])
    first, second = ours[fields.TRIPLETS]
    sender, receiver = ours.edge_index0
    assert torch.equal(receiver[first], sender[second])
    assert ours[fields.TRIPLETS].shape[1] == sum(graph[fields.TRIPLETS].shape[1] for graph in graphs)


def test_too_many_triplets_are_told_before_memory_is_taken() -> None:
    """The structure, how many, and what to change."""
    with pytest.raises(DataError, match=r"too many triplets.*an atom.*angle_cutoff"):
        graph_of(bulk("Cu"), cutoff=8.0, max_neighbors=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_neighbors": None, "angle_neighbors": 4}, "angle_neighbors"),
        ({"angle_neighbors": 13}, "angle_neighbors"),
        ({"angle_cutoff": 3.0}, "angle_cutoff"),
        ({"max_neighbors": None, "angle_cutoff": 9.0}, "angle_cutoff"),
        ({"max_triplets": 0}, "max_triplets"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict, words: str) -> None:
    """Each by its place in the manifest."""
    with pytest.raises(ManifestError, match=words):
        LineGraph(**options)
