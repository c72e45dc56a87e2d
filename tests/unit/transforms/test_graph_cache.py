"""CachedTransform: the transform's graphs, made once; other content or options are another graph."""

from __future__ import annotations

import pickle
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration
from kliff.dataset.weight import Weight
from kliff.transforms.configuration_transforms.graphs import RadialGraph

import kimgnn.transforms.graph_cache as graph_cache
from kimgnn.cache import Cache
from kimgnn.errors import DataError
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.graph import TARGETS, AtomGraph
from kimgnn.transforms.graph_cache import CachedTransform, with_cache
from kimgnn.transforms.periodic_graph import PeriodicGraph


def structure(seed: int = 0, **changes: Any) -> Configuration:
    """Return three atoms in a cell, labelled."""
    rng = np.random.default_rng(seed)
    parts = {
        "cell": np.eye(3) * 4 + rng.uniform(-0.1, 0.1, (3, 3)),
        "species": ["Si", "C", "Si"],
        "coords": np.array([[0.0, 0, 0], [2, 2, 0], [0, 2, 2]]) + rng.uniform(-0.1, 0.1, (3, 3)),
        "PBC": [True, True, False],
        "energy": float(rng.normal()),
        "forces": rng.normal(size=(3, 3)),
    }
    made = Configuration(**(parts | changes))
    made.metadata = {"index": seed, TARGETS: {"gap": rng.normal(size=1)}}
    return made


def assert_same(ours: AtomGraph, theirs: AtomGraph) -> None:
    assert ours.num_nodes == theirs.num_nodes
    ours_, theirs_ = ours.tensors(), theirs.tensors()
    assert ours_.keys() == theirs_.keys()
    for name, tensor in theirs_.items():
        assert ours_[name].dtype == tensor.dtype, name
        torch.testing.assert_close(ours_[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


class Counting(PeriodicGraph):
    """A transform that counts what it makes."""

    _made = 0

    def forward(self, configuration: Configuration) -> AtomGraph:
        type(self)._made += 1
        return super().forward(configuration)


@pytest.mark.parametrize(
    "transform",
    [PeriodicGraph(3.0), PeriodicGraph(3.0, ["C", "Si"], 3), CrystalGraph(4.0, 2), CrystalGraph(3.0, None)],
    ids=repr,
)
def test_cached_graphs_are_those_of_the_transform(tmp_path: Path, transform: Any) -> None:
    """Cold and warm, from this object and from one that was pickled: every tensor, bit for bit."""
    cached = CachedTransform(transform, tmp_path)
    for again in (cached, cached, pickle.loads(pickle.dumps(cached)), CachedTransform(transform, tmp_path)):
        for seed in range(3):
            assert_same(again(structure(seed)), transform(structure(seed)))
    assert len(cached.cache) == 3
    warm = cached(structure(0))
    assert warm.edge_index0 is getattr(warm, f"edge_index{transform.n_layers - 1}")


def test_labels_are_those_of_the_configuration(tmp_path: Path) -> None:
    """One structure with other labels, weights, targets and place in the data set: made once, labelled each time."""
    cached = CachedTransform(Counting(3.0), tmp_path)
    Counting._made = 0
    cached(structure())
    other = structure(energy=7.0, forces=None, stress=np.ones(6), weight=Weight(2.0, 3.0, 4.0, 5.0))
    other.metadata = {"index": 8, TARGETS: {"metal": np.array([1.0])}}
    assert_same(cached(other), PeriodicGraph(3.0)(other))
    assert Counting._made == 1


def test_graph_may_be_changed(tmp_path: Path) -> None:
    """What is written into a graph reaches neither the cache nor the configuration."""
    cached = CachedTransform(PeriodicGraph(3.0), tmp_path)
    cached(structure())
    for tensor in cached(structure()).tensors().values():
        tensor.zero_()
    assert_same(cached(structure()), PeriodicGraph(3.0)(structure()))


def test_every_bit_of_a_structure_counts(tmp_path: Path) -> None:
    """The last bit of a position or cell vector, an element, the order of atoms, a direction's periodicity."""
    cached = CachedTransform(PeriodicGraph(3.0), tmp_path)
    first = structure()
    moved, strained = deepcopy(first), deepcopy(first)
    moved._coords[2, 1] = np.nextafter(moved._coords[2, 1], 9)
    strained._cell[0, 2] = np.nextafter(strained._cell[0, 2], 9)
    order = [1, 0, 2]
    others = [
        moved,
        strained,
        structure(species=["Si", "Si", "C"]),
        structure(species=["C", "Si", "Si"], coords=first.coords[order]),
        structure(PBC=[True, False, True]),
        structure(coords=first.coords[:2], species=["Si", "C"]),
    ]
    assert len({cached.key(item) for item in [first, *others]}) == 7
    assert cached.key(structure(coords=np.asfortranarray(first.coords))) == cached.key(first)
    assert cached.key(structure(PBC=np.array([1, 1, 0]))) == cached.key(first)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["C", "Cu", "U", "Si", "S", "I"]), min_size=1, max_size=4))
def test_species_are_not_run_together(species: list[str]) -> None:
    """CuS is not C, U, S: the key of a list of symbols is the list's own."""
    joined = " ".join(species)
    assert joined.split() == species


def test_every_option_counts(tmp_path: Path) -> None:
    """Another class, cutoff, number of neighbours, treatment of ties, species list or depth is another key."""
    transforms = [
        PeriodicGraph(3.0),
        Counting(3.0),
        PeriodicGraph(float(np.nextafter(3.0, 4))),
        PeriodicGraph(3.0, ["Si", "C"]),
        PeriodicGraph(3.0, ["C", "Si"]),
        PeriodicGraph(3.0, n_layers=2),
        CrystalGraph(3.0, None),
        CrystalGraph(3.0, 12),
        CrystalGraph(3.0, 11),
        CrystalGraph(3.0, 12, "keep"),
    ]
    keys = [CachedTransform(transform, tmp_path).key(structure()) for transform in transforms]
    assert len(set(keys)) == len(transforms)
    # Where else a graph is put does not change it.
    assert CachedTransform(PeriodicGraph(3.0, copy_to_config=True), tmp_path).key(structure()) == keys[0]


def test_another_version_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older kimgnn has kept is not taken."""
    before = CachedTransform(PeriodicGraph(3.0), tmp_path).key(structure())
    monkeypatch.setattr(graph_cache, "__version__", "0.0.1")
    assert CachedTransform(PeriodicGraph(3.0), tmp_path).key(structure()) != before


def test_other_code_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what the same version has kept, before a line of a transform was changed."""
    before = CachedTransform(PeriodicGraph(3.0), tmp_path).key(structure())
    (tmp_path / "graph_cache.py").write_text("")
    monkeypatch.setattr(graph_cache, "__file__", str(tmp_path / "graph_cache.py"))
    graph_cache._code_hash.cache_clear()
    assert CachedTransform(PeriodicGraph(3.0), tmp_path).key(structure()) != before
    graph_cache._code_hash.cache_clear()


def test_graph_is_put_where_the_transform_puts_it(tmp_path: Path) -> None:
    """copy_to_config, cold and warm."""
    cached = CachedTransform(PeriodicGraph(3.0, copy_to_config=True), tmp_path)
    for _ in range(2):
        item = structure()
        assert item.fingerprint is None
        graph = cached(item)
        assert item.fingerprint is graph


def test_errors_and_warnings_come_every_time(tmp_path: Path) -> None:
    """A structure that cannot be used, and one that is warned of, are so in each run, by their names."""
    cached = CachedTransform(CrystalGraph(3.0, 4), tmp_path)
    for run in range(2):
        with pytest.raises(DataError, match=f"twice{run}: two atoms are at one place"):
            cached(structure(coords=np.zeros((3, 3)), identifier=f"twice{run}"))
        with pytest.warns(UserWarning, match=f"alone{run}: 3 of 3 atoms have no neighbour"):
            cached(structure(cell=np.eye(3) * 90, coords=np.diag([0.0, 30, 60]), identifier=f"alone{run}"))
    assert len(cached.cache) == 0


def test_damaged_graph_is_made_anew(tmp_path: Path) -> None:
    """A value that the checksum refuses costs a warning, once, and the graph is right."""
    cached = CachedTransform(Counting(3.0), tmp_path)
    cached(structure())
    from kimgnn.cache import _PROCESS

    with _PROCESS.opened[cached.cache.path].environment.begin(write=True) as transaction:
        key = cached.key(structure())
        stored = bytearray(transaction.get(key))
        stored[len(stored) // 2] ^= 4
        transaction.put(key, bytes(stored))
    with pytest.warns(UserWarning, match="an entry is damaged, and made anew"):
        assert_same(cached(structure()), PeriodicGraph(3.0)(structure()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(cached(structure()), PeriodicGraph(3.0)(structure()))


def test_fill_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes make what is missing; what they cannot make is left to be asked for."""
    monkeypatch.setattr(graph_cache, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(graph_cache, "_SLICE", 4)
    items = [structure(seed) for seed in range(20)]
    items[5] = structure(coords=np.zeros((3, 3)))
    cached = CachedTransform(Counting(3.0), tmp_path)
    cached(items[0])
    Counting._made = 0
    cached.fill(items, 2)
    assert len(cached.cache) == 19
    assert_same(cached(items[7]), PeriodicGraph(3.0)(items[7]))
    assert Counting._made == 0  # not here
    with pytest.raises(DataError, match="two atoms are at one place"):
        cached(items[5])


def test_fill_of_a_few_starts_no_process(tmp_path: Path) -> None:
    """They are made here, each once."""
    cached = CachedTransform(Counting(3.0), tmp_path)
    Counting._made = 0
    cached.fill([structure(seed) for seed in range(4)], 2)
    cached.fill([structure(seed) for seed in range(4)], 2)
    assert len(cached.cache) == 4
    assert Counting._made == 4


def test_choice_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """false: the transform itself; true: the user's folder; a path: that folder."""
    monkeypatch.setenv("KIMGNN_CACHE", str(tmp_path / "user"))
    transform = PeriodicGraph(3.0)
    assert with_cache(transform, False) is transform
    staged = RadialGraph(["Si"], 3.0, 1)
    assert with_cache(staged, True) is staged
    for choice, folder in ((True, tmp_path / "user"), (str(tmp_path / "own"), tmp_path / "own")):
        cached = with_cache(transform, choice)
        assert isinstance(cached, CachedTransform)
        cached(structure())
        assert len(Cache(folder, "graphs")) == 1
