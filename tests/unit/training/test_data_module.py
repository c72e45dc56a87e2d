"""Loaders: order, shares of processes, graphs made once or on demand."""

import pickle

import numpy as np
import pytest
import torch
from kliff.dataset import Configuration

from kimgnn.errors import DataError
from kimgnn.training.data_module import BoundedBatches, EpochSampler, GraphDataModule, GraphDataset
from kimgnn.transforms.batches import Bounds
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.graph_cache import CachedTransform
from kimgnn.transforms.periodic_graph import PeriodicGraph


def structures(n):
    return [
        Configuration(np.eye(3) * 5, ["Si"] * (1 + i % 3), np.arange(3 * (1 + i % 3)).reshape(-1, 3), [True] * 3)
        for i in range(n)
    ]


def test_order_depends_on_seed_and_epoch_alone():
    """The same seed and epoch give the same order, whatever was drawn before; other ones another."""
    sampler = EpochSampler(20, seed=3)
    sampler.set_epoch(5)
    order = list(sampler)
    assert list(sampler) == order
    assert sorted(order) == list(range(20))
    sampler.set_epoch(6)
    assert list(sampler) != order
    other = EpochSampler(20, seed=4)
    other.set_epoch(5)
    assert list(other) != order


@pytest.mark.parametrize(("size", "batch_size"), [(12, 2), (8, 4)])
def test_processes_share_the_batches_of_one(size, batch_size):
    """The k-th batches of two processes are together the k-th batch, twice as large, of one."""
    whole = list(EpochSampler(size, seed=1))
    parts = [list(EpochSampler(size, 1, rank, 2)) for rank in range(2)]
    for start in range(0, size // 2, batch_size):
        together = {index for part in parts for index in part[start : start + batch_size]}
        assert together == set(whole[2 * start : 2 * (start + batch_size)])


@pytest.mark.parametrize(("size", "world_size"), [(7, 2), (7, 4), (2, 5), (1, 3)])
def test_uneven_shares(size, world_size):
    """In training every process has as many; in evaluation every structure is seen once, and nobody has none."""
    training = [list(EpochSampler(size, 1, rank, world_size)) for rank in range(world_size)]
    assert len({len(part) for part in training}) == 1
    assert set().union(*training) == set(range(size))
    evaluation = [list(EpochSampler(size, None, rank, world_size)) for rank in range(world_size)]
    assert all(evaluation)
    if size >= world_size:
        assert sorted(index for part in evaluation for index in part) == list(range(size))


def test_graphs_are_made_once_or_on_demand():
    """Static: each graph is made once. Dynamic: whenever it is asked for, and the set can be pickled."""
    made = []

    def transform(configuration):
        made.append(configuration)
        return PeriodicGraph(2.0)(configuration)

    static = GraphDataset(structures(3), transform)
    assert (len(made), static[0] is static[0]) == (3, True)
    dynamic = GraphDataset(structures(3), PeriodicGraph(2.0), dynamic=True)
    assert dynamic[0] is not dynamic[0]
    assert len(pickle.loads(pickle.dumps(dynamic))) == 3


@pytest.mark.parametrize("dynamic", [False, True])
def test_cached_graphs_are_made_once_for_all_runs(tmp_path, dynamic):
    """A second run makes no graph, whether the first made them before training or in it."""
    made = []

    class Counting(PeriodicGraph):
        def forward(self, configuration):
            made.append(configuration)
            return super().forward(configuration)

    for _ in range(2):
        dataset = GraphDataset(structures(3), CachedTransform(Counting(2.0), tmp_path), dynamic)
        assert [dataset[index].num_nodes for index in range(3)] == [1, 2, 3]
    assert len(made) == 3


def test_what_is_wrong_with_a_structure_is_told_before_training(tmp_path):
    """Though graphs come from the cache when they are needed: an error at once, a warning then and never again."""
    twice = Configuration(np.eye(3) * 5, ["Si"] * 2, np.zeros((2, 3)), [True] * 3, identifier="twice")
    with pytest.raises(DataError, match="twice: two atoms are at one place"):
        GraphDataset([*structures(2), twice], CachedTransform(PeriodicGraph(2.0), tmp_path), dynamic=True)
    lone = Configuration(np.eye(3) * 9, ["Si"], np.zeros((1, 3)), [True] * 3, identifier="lone")
    with pytest.warns(UserWarning, match="lone: 1 of 1 atoms have no neighbour"):
        dataset = GraphDataset([lone], CachedTransform(CrystalGraph(2.0), tmp_path), dynamic=True)
    assert [dataset[0].num_nodes for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_draws_no_random_numbers(num_workers):
    """What the network's dropout draws does not depend on who loads the batches."""
    module = GraphDataModule(GraphDataset(structures(4), PeriodicGraph(2.0)), None, None, 2, num_workers, seed=0)
    loader = module.train_dataloader()
    torch.manual_seed(1)
    for _ in range(2):
        list(loader)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_graphs_of_any_size(num_workers):
    """The last batch may be smaller; structures without edges are no obstacle."""
    module = GraphDataModule(GraphDataset(structures(5), PeriodicGraph(2.0)), None, None, 2, num_workers, seed=0)
    batches = list(module.train_dataloader())
    assert [batch.num_graphs for batch in batches] == [2, 2, 1]
    assert module.val_dataloader() == []
    assert module.test_dataloader() == []


def bounded(n, rank=0, world_size=1, seed=0, epoch=0, **bounds):
    """The batches of one process."""
    dataset = GraphDataset(structures(n), PeriodicGraph(4.0))
    sampler = EpochSampler(n, seed)
    sampler.set_epoch(epoch)
    limits = Bounds(100, **bounds)
    return list(BoundedBatches(sampler, limits, dataset.sizes(limits.edges is not None), rank, world_size))


@pytest.mark.parametrize("bounds", [{"atoms": 5}, {"edges": 40}, {"atoms": 6, "edges": 30}])
def test_bounded_batches_depend_on_seed_and_epoch_alone(bounds):
    """Each structure once, in the epoch's order, in batches within the bounds."""
    batches = bounded(20, **bounds)
    assert batches == bounded(20, **bounds)
    assert batches != bounded(20, epoch=1, **bounds)
    assert sorted(index for batch in batches for index in batch) == list(range(20))
    dataset = GraphDataset(structures(20), PeriodicGraph(4.0))
    for batch in batches:
        atoms = sum(dataset[index].num_nodes for index in batch)
        edges = sum(dataset[index].edge_index0.shape[1] for index in batch)
        assert len(batch) == 1 or (atoms <= bounds.get("atoms", atoms) and edges <= bounds.get("edges", edges))


@pytest.mark.parametrize("world_size", [2, 3, 50])
def test_processes_take_turns_with_bounded_batches(world_size):
    """In training every process has as many, in the order of one process; in evaluation each batch is seen once."""
    whole = bounded(20, atoms=5)
    parts = [bounded(20, rank, world_size, atoms=5) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    dealt = [batch for turn in zip(*parts, strict=True) for batch in turn]
    assert dealt[: len(whole)] == whole
    assert all(batch in whole for batch in dealt)
    parts = [bounded(20, rank, world_size, seed=None, atoms=5) for rank in range(world_size)]
    assert all(parts)
    if world_size < 4:
        assert sorted(index for part in parts for batch in part for index in batch) == list(range(20))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_bound_training_and_validation(num_workers):
    """Batches of graphs, none with more atoms or edges than allowed, of all parts of the data."""
    parts = [GraphDataset(structures(n), PeriodicGraph(4.0)) for n in (12, 7, 5)]
    module = GraphDataModule(*parts, 100, num_workers, seed=0, max_atoms=6, max_edges=200)
    for get, n in ((module.train_dataloader, 12), (module.val_dataloader, 7), (module.test_dataloader, 5)):
        batches = list(get())
        assert sum(batch.num_graphs for batch in batches) == n
        assert all(batch.num_nodes <= 6 and batch.edge_index0.shape[1] <= 200 for batch in batches)
        assert len(batches) < n


def test_large_structures_are_alone_and_told_of_once():
    """A structure above the bound trains too."""
    dataset = GraphDataset(structures(6), PeriodicGraph(2.0))
    with pytest.warns(UserWarning, match="2 structures have more than 2 atoms each: .* largest with 3 atoms") as told:
        module = GraphDataModule(dataset, None, None, 100, 0, seed=0, max_atoms=2)
    batches = [batch.num_nodes for _ in range(2) for batch in module.train_dataloader()]
    assert len(told) == 1
    assert sorted(batches)[-4:] == [3, 3, 3, 3]
