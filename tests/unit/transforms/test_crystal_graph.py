"""CrystalGraph: the nearest neighbours, told apart by nothing but the crystal, and its errors."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ExportError, ManifestError
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.graph import AtomGraph
from kimgnn.transforms.nearest import SAME
from kimgnn.transforms.periodic_graph import PeriodicGraph

CUTOFF = 6.0


def graph_of(atoms: Atoms, **options: object) -> AtomGraph:
    """The graph of a structure, few neighbours or none at all allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return CrystalGraph(**({"cutoff": CUTOFF} | options))(configuration_from_atoms(atoms))


def lengths_of(graph: AtomGraph) -> np.ndarray:
    """(n_edges,) Å."""
    sender, receiver = graph.edge_index0
    return (graph.coords[receiver] - graph.coords[sender] + graph.shifts).norm(dim=1).numpy()


def neighborhoods(graph: AtomGraph) -> list[np.ndarray]:
    """For each atom, the distances and atomic numbers of its neighbours, nearest first."""
    sender, receiver = graph.edge_index0.numpy()
    lengths, numbers = lengths_of(graph), graph.z.numpy()[sender]
    found = []
    for atom in range(len(graph.z)):
        mine = receiver == atom
        # What is equal within the tolerance may stand in any order.
        shell = np.concatenate([[0], np.cumsum(np.diff(lengths[mine]) > SAME)])[: mine.sum()]
        order = np.lexsort((numbers[mine], shell))
        found.append(np.c_[lengths[mine], numbers[mine]][order])
    return found


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    """The same neighbours atom by atom; distances within a shell differ by no more than its tolerance."""
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a[:, 1], b[:, 1])
        np.testing.assert_allclose(a[:, 0], b[:, 0], atol=SAME)


@st.composite
def crystals(draw: st.DrawFn) -> Atoms:
    """Symmetric crystals, whose shells are large, and cells of atoms on a coarse grid, all full of ties."""
    kind = draw(st.sampled_from(["rocksalt", "zincblende", "cesiumchloride", "fcc", "hcp", "grid", "random"]))
    if kind in ("rocksalt", "zincblende", "cesiumchloride"):
        cubic = draw(st.booleans()) and kind != "cesiumchloride"
        return bulk("NaCl", kind, a=draw(st.floats(3.5, 6.0)), cubic=cubic)
    if kind == "fcc":
        return bulk("Cu", "fcc", a=draw(st.floats(3.0, 5.0)), cubic=draw(st.booleans()))
    if kind == "hcp":
        return bulk("Mg", "hcp", a=3.2, c=5.2)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 6))
    cell = np.diag(rng.uniform(3, 5, 3)) if draw(st.booleans()) else np.eye(3) * 4.0
    places = rng.choice(64, n, replace=False)
    fractions = np.c_[places // 16, places // 4 % 4, places % 4] / 4
    if kind == "random":
        fractions = fractions + rng.uniform(0, 0.2, (n, 3))
        cell = cell + np.tril(rng.uniform(-1, 1, (3, 3)), -1)
    return Atoms(numbers=rng.choice([1, 6, 14], n), cell=cell, scaled_positions=fractions, pbc=True)


def distinct(atoms: Atoms) -> bool:
    """No two distances from an atom differ by nearly the tolerance, so that rounding decides on no shell."""
    owner, lengths = neighbor_list("id", atoms, CUTOFF + 3 * SAME)
    lengths = lengths[np.lexsort((lengths, owner))]
    gaps = np.diff(lengths)
    return not bool(((gaps > 1e-9) & (abs(gaps - SAME) < SAME / 2)).any() | (abs(lengths - CUTOFF - SAME) < 1e-6).any())


COUNTS = st.integers(1, 14)
TIES = st.sampled_from(["break", "keep"])


@settings(max_examples=40, deadline=None)
@given(crystals(), COUNTS, TIES, st.integers(0, 2**32 - 1))
def test_neither_order_nor_place_nor_direction_of_atoms_matters(atoms: Atoms, count: int, ties: str, seed: int) -> None:
    """Permuted, moved, turned, wrapped by lattice vectors: each atom has the neighbours that it had."""
    assume(distinct(atoms))
    rng = np.random.default_rng(seed)
    expected = neighborhoods(graph_of(atoms, max_neighbors=count, ties=ties))
    permutation = rng.permutation(len(atoms))
    moved = atoms[permutation]
    moved.rotate(float(rng.uniform(0, 360)), rng.normal(size=3), rotate_cell=True)
    moved.positions += rng.normal(size=3) * 10 + rng.integers(-2, 3, (len(atoms), 3)) @ moved.cell.array
    found = neighborhoods(graph_of(moved, max_neighbors=count, ties=ties))
    assert_same(found, [expected[atom] for atom in permutation])


@settings(max_examples=40, deadline=None)
@given(crystals(), COUNTS, TIES)
def test_a_supercell_is_the_same_crystal(atoms: Atoms, count: int, ties: str) -> None:
    """Every image of an atom has its neighbours."""
    assume(distinct(atoms))
    expected = neighborhoods(graph_of(atoms, max_neighbors=count, ties=ties))
    found = neighborhoods(graph_of(atoms.repeat((2, 1, 3)), max_neighbors=count, ties=ties))
    assert_same(found, expected * 6)


@settings(max_examples=40, deadline=None)
@given(crystals(), COUNTS)
def test_they_are_the_nearest(atoms: Atoms, count: int) -> None:
    """Exactly so many, or all there are; none that is left out is nearer. `keep` adds the rest of the last shell."""
    assume(distinct(atoms))
    owner, lengths = neighbor_list("id", atoms, CUTOFF + SAME)
    broken = neighborhoods(graph_of(atoms, max_neighbors=count))
    kept = neighborhoods(graph_of(atoms, max_neighbors=count, ties="keep"))
    for atom, (mine, with_ties) in enumerate(zip(broken, kept, strict=True)):
        everyone = np.sort(lengths[owner == atom])
        assert len(mine) == min(count, len(everyone))
        np.testing.assert_allclose(np.sort(mine[:, 0]), everyone[: len(mine)], atol=SAME)
        np.testing.assert_allclose(np.sort(with_ties[:, 0]), everyone[: len(with_ties)], atol=1e-9)
        if len(with_ties) < len(everyone):
            assert everyone[len(with_ties)] - everyone[len(with_ties) - 1] > SAME
        assert len(with_ties) >= len(mine)


@settings(max_examples=40, deadline=None)
@given(crystals(), st.integers(0, 2**32 - 1))
def test_a_bond_that_is_broken_is_the_same_bond(atoms: Atoms, seed: int) -> None:
    """Of a shell that is cut, the very same neighbours are taken in every order of the atoms."""
    assume(distinct(atoms))

    def bonds(structure: Atoms, identity: np.ndarray) -> np.ndarray:
        graph = graph_of(structure, max_neighbors=4)
        sender, receiver = graph.edge_index0.numpy()
        vectors = structure.positions[sender] - structure.positions[receiver] - graph.shifts.numpy()
        table = np.c_[identity[receiver], identity[sender], vectors]
        return table[np.lexsort(table.round(4).T[::-1])]

    permutation = np.random.default_rng(seed).permutation(len(atoms))
    expected = bonds(atoms, np.arange(len(atoms)))
    np.testing.assert_allclose(bonds(atoms[permutation], permutation), expected, atol=1e-9)


@pytest.mark.parametrize(("ties", "counts"), [("break", 12), ("keep", 18)])
def test_sodium_chloride(ties: str, counts: int) -> None:
    """Six neighbours at a/2 and half of the twelve at a/√2, or all of them, nearest first."""
    graph = CrystalGraph(ties=ties)(configuration_from_atoms(bulk("NaCl", "rocksalt", a=5.64, cubic=True)))
    lengths = lengths_of(graph).reshape(8, counts)
    np.testing.assert_allclose(lengths[:, :6], 5.64 / 2)
    np.testing.assert_allclose(lengths[:, 6:], 5.64 / 2**0.5)
    np.testing.assert_array_equal(graph.edge_index0[1].reshape(8, counts), np.arange(8)[:, None].repeat(counts, 1))
    assert fields.EDGE_OF_PAIR not in graph
    assert fields.PAIR_OF_EDGE not in graph


def test_rounded_coordinates_are_one_shell() -> None:
    """A third written as 0.3333 cuts no shell otherwise than a third does."""
    cell = bulk("Mg", "hcp", a=3.2, c=1.6 * 3.2).cell
    graphs = []
    for third, two_thirds in ((1 / 3, 2 / 3), (0.3333, 0.6667)):
        places = [[third, two_thirds, 0.25], [two_thirds, third, 0.75]]
        graphs.append(graph_of(Atoms("Mg2", scaled_positions=places, cell=cell, pbc=True), max_neighbors=9))
    np.testing.assert_array_equal(graphs[0].edge_index0, graphs[1].edge_index0)
    np.testing.assert_allclose(graphs[0].shifts, graphs[1].shifts, atol=1e-9)


def test_a_shell_at_the_cutoff_is_not_cut() -> None:
    """Neighbours at the cutoff itself are all in reach, whatever rounding makes of each distance."""
    atoms = bulk("Po", "sc", a=4.0)
    for angle in range(0, 90, 7):
        turned = atoms.copy()
        turned.rotate(angle, (1, 2, 3), rotate_cell=True)
        assert graph_of(turned, cutoff=4.0, max_neighbors=12).edge_index0.shape[1] == 6


def test_slabs_and_molecules() -> None:
    """Where there is no cell, ties are broken by Cartesian displacement."""
    slab = bulk("Cu", "fcc", a=3.6, cubic=True)
    slab.pbc = (True, True, False)
    assert np.bincount(graph_of(slab, max_neighbors=5).edge_index0[1]).tolist() == [5] * 4
    square = Atoms("C5", [(0, 0, 0), (2, 0, 0), (0, 2, 0), (-2, 0, 0), (0, -2, 0)])
    graph = graph_of(square, max_neighbors=2)
    assert sorted(graph.edge_index0[0][graph.edge_index0[1] == 0].tolist()) == [3, 4]  # at -x, then at -y


def test_all_neighbors_are_the_periodic_graph() -> None:
    """Without a number, every field is that of PeriodicGraph, pairs included."""
    source = configuration_from_atoms(bulk("Si", cubic=True))
    ours, other = CrystalGraph(4.0, None, n_layers=2)(source), PeriodicGraph(4.0, n_layers=2)(source)
    assert set(ours.keys()) == set(other.keys())
    for name in ours.keys():
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(other[name]), err_msg=name)


def test_few_neighbors_and_none_are_told() -> None:
    """By the structure's identifier; the graph is made, and collates with others."""
    lone, dimer = Atoms("Si"), Atoms("Si2", [(0, 0, 0), (0, 0, 2.3)])
    graphs = []
    for atoms, words in ((lone, "1 of 1 atoms have no neighbour"), (dimer, "2 of 2 atoms have fewer than 12")):
        source = configuration_from_atoms(atoms)
        source.identifier = "made.cif"
        with pytest.warns(UserWarning, match=rf"made\.cif: {words}"):
            graphs.append(CrystalGraph()(source))
    graphs.append(CrystalGraph()(configuration_from_atoms(bulk("Si"))))
    batch = Batch.from_data_list(graphs)
    assert batch.edge_index0.shape == (2, 2 + 24)
    assert batch.edge_index0[:, :2].tolist() == [[2, 1], [1, 2]]
    assert torch.equal(batch.contributions, torch.tensor([0, 2, 2, 4, 4]))


def test_it_is_a_kliff_transform() -> None:
    """It pickles, says what it is, and refuses KLIFF's own export."""
    transform = pickle.loads(pickle.dumps(CrystalGraph(5.0, 8, "keep", ["Si"])))
    assert repr(transform) == "CrystalGraph(cutoff=5.0, max_neighbors=8, ties='keep', species=['Si'], n_layers=1)"
    with pytest.raises(ExportError, match="trained on CrystalGraph"):
        transform.export_kim_model("anywhere", "model.pt")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"cutoff": 0.0}, "cutoff"),
        ({"max_neighbors": 0}, "max_neighbors"),
        ({"ties": "random"}, "ties"),
        ({"species": ["Sj"]}, "species"),
    ],
)
def test_bad_settings(options: dict[str, object], where: str) -> None:
    """Settings are checked when the transform is made, and the message says which."""
    with pytest.raises(ManifestError, match=rf"transforms\.configuration\.kwargs\.{where}"):
        CrystalGraph(**options)


def test_species_outside_the_list_and_atoms_at_one_place() -> None:
    """The errors are PeriodicGraph's."""
    with pytest.raises(DataError, match="does not list"):
        CrystalGraph(species=["C"])(configuration_from_atoms(bulk("Si")))
    with pytest.raises(DataError, match="two atoms are at one place"):
        CrystalGraph()(Configuration(np.eye(3) * 5, ["Si"] * 2, np.zeros((2, 3)), [True] * 3))
