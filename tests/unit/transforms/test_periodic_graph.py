"""PeriodicGraph against ASE's neighbour list, its invariances, its errors, and its collation."""

from __future__ import annotations

import pickle

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.geometry import complete_cell
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms.graphs import PyGGraph, RadialGraph
from torch_geometric.data import Batch

from kimgnn import fields
from kimgnn.errors import DataError, ExportError, ManifestError
from kimgnn.transforms.graph import AtomGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph

CUTOFF = 3.0


def configuration(atoms: ase.Atoms, **labels: object) -> Configuration:
    return Configuration(
        cell=np.array(atoms.cell),
        species=atoms.get_chemical_symbols(),
        coords=atoms.positions.copy(),
        PBC=list(atoms.pbc),
        **labels,
    )


def silicon() -> ase.Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def edge_vectors(graph: AtomGraph) -> torch.Tensor:
    sender, receiver = graph.edge_index0
    return graph.coords[receiver] - graph.coords[sender] + graph.shifts


def edge_table(graph: AtomGraph) -> np.ndarray:
    """(n_edges, 5): sender, receiver, vector, in an order that does not depend on how they were found."""
    table = np.c_[graph.edge_index0.T.numpy(), edge_vectors(graph).numpy()]
    return table[np.lexsort(table.round(6).T[::-1])]


def unambiguous(distances: np.ndarray) -> bool:
    """No pair so near the cutoff that rounding decides, none so near each other that it is an error."""
    return not len(distances) or bool(abs(distances - CUTOFF).min() > 1e-6 and distances.min() > 0.01)


@st.composite
def structures(draw: st.DrawFn) -> ase.Atoms:
    """Cells of 1-7 Å edges, skewed, any periodicity; atoms up to three cells outside."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_atoms = draw(st.integers(1, 6))
    lengths = [draw(st.floats(1.0, 7.0)) for _ in range(3)]
    skew = draw(st.floats(0.0, 1.5))
    cell = np.diag(lengths) @ (np.eye(3) + skew * np.tril(rng.uniform(-1, 1, (3, 3)), -1))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    spread = draw(st.sampled_from([0.0, 1.0, 3.0]))
    positions = rng.uniform(-spread, 1 + spread, (n_atoms, 3)) @ cell @ rotation
    pbc = [draw(st.booleans()) for _ in range(3)]
    return ase.Atoms(numbers=rng.choice([1, 6, 14], n_atoms), positions=positions, cell=cell @ rotation, pbc=pbc)


@settings(max_examples=150, deadline=None)
@given(structures())
def test_edges_are_those_of_ase(atoms: ase.Atoms) -> None:
    """Every edge of ASE's neighbour list is there once, with its vector, whatever the cell and the periodicity."""
    assume(unambiguous(neighbor_list("d", atoms, CUTOFF + 1e-5)))
    first, second, vectors = neighbor_list("ijD", atoms, CUTOFF)
    graph = PeriodicGraph(CUTOFF)(configuration(atoms))
    expected = np.c_[first, second, vectors]
    expected = expected[np.lexsort(expected.round(6).T[::-1])]
    np.testing.assert_allclose(edge_table(graph), expected, atol=1e-9)
    assert (graph.edge_index0[1].diff() >= 0).all()


@pytest.mark.parametrize("pbc", [[True] * 3, [True, False, True], [False] * 3])
def test_edges_of_many_atoms_are_those_of_ase(pbc: list[bool]) -> None:
    """The same for 400 atoms in a skewed cell, a third of them outside it: enough for the cell-list algorithm."""
    rng = np.random.default_rng(5)
    cell = np.array([[20.0, 0.0, 0.0], [9.0, 18.0, 0.0], [-8.0, 5.0, 17.0]])
    atoms = ase.Atoms("Si400", positions=rng.uniform(-0.2, 1.2, (400, 3)) @ cell, cell=cell, pbc=pbc)
    first, second, vectors = neighbor_list("ijD", atoms, CUTOFF)
    expected = np.c_[first, second, vectors]
    expected = expected[np.lexsort(expected.round(6).T[::-1])]
    np.testing.assert_allclose(edge_table(PeriodicGraph(CUTOFF)(configuration(atoms))), expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(structures())
def test_lattice_translations_and_wrapping_change_nothing(atoms: ase.Atoms) -> None:
    """Moving any atom by lattice vectors of the periodic directions leaves every edge vector as it was."""
    assume(unambiguous(neighbor_list("d", atoms, CUTOFF + 1e-5)))
    moved = atoms.copy()
    steps = np.random.default_rng(0).integers(-3, 4, (len(atoms), 3)) * atoms.pbc
    moved.positions += steps @ atoms.cell.array
    wrapped = atoms.copy()
    wrapped.wrap()
    transform = PeriodicGraph(CUTOFF)

    def lengths(structure: ase.Atoms) -> np.ndarray:
        graph = transform(configuration(structure))
        table = np.c_[graph.edge_index0.T.numpy(), edge_vectors(graph).norm(dim=1).numpy()]
        return table[np.lexsort(table.round(6).T[::-1])]

    np.testing.assert_allclose(lengths(moved), lengths(atoms), atol=1e-9)
    np.testing.assert_allclose(lengths(wrapped), lengths(atoms), atol=1e-9)


def test_supercell_has_as_many_edges_an_atom() -> None:
    """A primitive cell far smaller than the cutoff counts the neighbours of its 27-fold supercell."""
    primitive = bulk("Si")
    transform = PeriodicGraph(6.0)
    small = transform(configuration(primitive))
    large = transform(configuration(primitive * 3))
    assert large.edge_index0.shape[1] == 27 * small.edge_index0.shape[1]


def test_fcc_shells() -> None:
    """Copper's one-atom cell has 12 nearest and 6 next-nearest neighbours, all images of itself."""
    copper = configuration(bulk("Cu", a=3.6))
    assert PeriodicGraph(3.0)(copper).edge_index0.shape[1] == 12
    assert PeriodicGraph(3.7)(copper).edge_index0.shape[1] == 18


@settings(max_examples=100, deadline=None)
@given(structures())
def test_pairs_are_edges_and_their_reverses(atoms: ase.Atoms) -> None:
    """Every pair holds an edge and its exact reverse; the named edge is one of the two."""
    assume(unambiguous(neighbor_list("d", atoms, CUTOFF + 1e-5)))
    graph = PeriodicGraph(CUTOFF)(configuration(atoms))
    pair_of_edge, edge_of_pair = graph.pair_of_edge.numpy(), graph.edge_of_pair.numpy()
    n_edges = graph.edge_index0.shape[1]
    assert len(pair_of_edge) == n_edges == 2 * len(edge_of_pair)
    np.testing.assert_array_equal(np.bincount(pair_of_edge, minlength=len(edge_of_pair)), 2)
    np.testing.assert_array_equal(pair_of_edge[edge_of_pair], np.arange(len(edge_of_pair)))
    first, second = np.argsort(pair_of_edge, kind="stable").reshape(-1, 2).T
    np.testing.assert_array_equal(graph.edge_index0[:, first], graph.edge_index0.flip(0)[:, second])
    vectors = edge_vectors(graph)
    np.testing.assert_allclose(vectors[first], -vectors[second], atol=1e-12)


def test_molecule_without_cell() -> None:
    """Three atoms in a row, no cell: two bonds, both directions, no shifts."""
    graph = PeriodicGraph(1.5)(configuration(ase.Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])))
    assert sorted(graph.edge_index0.T.tolist()) == [[0, 1], [0, 2], [1, 0], [2, 0]]
    assert not graph.shifts.any()


def test_cell_vectors_that_are_not_periodic_do_not_matter() -> None:
    """A slab has the same edges whether its third vector is zero, in the plane or long."""
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    tables = []
    for third in ([0, 0, 0], slab.cell[0], [0, 0, 50]):
        slab.cell[2] = third
        tables.append(edge_table(PeriodicGraph(4.0)(configuration(slab))))
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-9)
    np.testing.assert_allclose(tables[0], tables[2], atol=1e-9)


def test_fields_have_their_shapes_and_dtypes() -> None:
    """The graph holds every field that `fields.FIELDS` describes for a configuration, with RadialGraph's keys."""
    source = configuration(silicon(), energy=-1.0, forces=np.zeros((8, 3)), stress=np.arange(6.0))
    source.metadata = {"index": 7}
    graph = PeriodicGraph(4.0, ["Si"], n_layers=3)(source)
    assert isinstance(graph, PyGGraph)
    sizes = {"n_nodes": 8, "n_atoms": 8, "n_edges": graph.edge_index0.shape[1], "n_pairs": graph.edge_of_pair.shape[0]}
    for name, field in fields.FIELDS.items():
        if "predicted only" in field.meaning or name in (fields.TRIPLETS, *fields.DISTINCT):  # of other graphs
            continue
        assert tuple(graph[name].shape) == eval(field.shape, sizes), name
        assert str(graph[name].dtype) == f"torch.{field.dtype}", name
    assert set(RadialGraph(["Si"], 4.0, 3)(source).keys()) <= set(graph.keys())
    assert graph.edge_index1 is graph.edge_index0
    assert graph.edge_index2 is graph.edge_index0
    assert graph.idx == 7


def test_the_configuration_is_not_aliased() -> None:
    """Changing a graph leaves the structure it was made from as it was."""
    source = configuration(silicon(), forces=np.zeros((8, 3)))
    graph = PeriodicGraph(4.0)(source)
    graph.coords += 1.0
    graph.forces += 1.0
    graph.cell += 1.0
    np.testing.assert_array_equal(source.coords, silicon().positions)
    assert not source.forces.any()
    np.testing.assert_array_equal(source.cell, np.array(silicon().cell))


def test_species_are_indices_in_the_list() -> None:
    """With a list, a species code means the same element in every structure; KLIFF's RadialGraph recounts in each."""
    transform = PeriodicGraph(3.0, ["C", "Si"])
    assert transform(configuration(bulk("Si"))).species.tolist() == [1, 1]
    assert PeriodicGraph(3.0)(configuration(bulk("Si"))).species.tolist() == [0, 0]


def test_batch_of_mixed_graphs() -> None:
    """A batch of a crystal, a lone atom and a molecule keeps every field, with indices shifted and labels masked."""
    crystal = configuration(silicon(), energy=-1.0, forces=np.ones((8, 3)), stress=np.arange(6.0))
    lone = configuration(ase.Atoms("H"), energy=0.5)
    dimer = configuration(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]))
    transform = PeriodicGraph(4.0, n_layers=2)
    graphs = [transform(item) for item in (crystal, lone, dimer)]
    assert graphs[1].edge_index0.shape == (2, 0)
    batch = Batch.from_data_list(graphs)
    assert batch.num_nodes == 11
    assert batch.energy.tolist()[:2] == [-1.0, 0.5]
    assert batch.energy.isnan().tolist() == [False, False, True]
    assert batch.stress.shape == (3, 6)
    assert batch.stress.isnan().all(dim=1).tolist() == [False, True, True]
    assert batch.forces.isnan().any(dim=1).tolist() == [False] * 8 + [True] * 3
    assert batch.cell.view(-1, 3, 3).shape == (3, 3, 3)
    assert batch.pbc.tolist()[1] == [False] * 3
    assert batch.edge_index1[:, -2:].tolist() == [[10, 9], [9, 10]]
    assert batch.images.tolist() == list(range(11))
    assert batch.contributions.tolist() == [0] * 8 + [2] + [4] * 2
    assert batch.config_weight.shape == batch.energy_weight.shape == batch.stress_weight.shape == (3,)
    assert batch.forces_weight.shape == (11, 1)
    assert batch.idx.tolist() == [-1, -1, -1]


def test_batch_with_an_empty_graph() -> None:
    """A graph without nodes shifts the images of the next one by nothing; KLIFF's increment has no value there."""
    empty = AtomGraph()
    empty.num_nodes = 0
    empty.images = torch.zeros(0, dtype=torch.int64)
    other = AtomGraph()
    other.num_nodes = 2
    other.images = torch.arange(2)
    assert Batch.from_data_list([empty, other]).images.tolist() == [0, 1]


def test_kliffs_flat_cell_reads_the_same_way() -> None:
    """`view(-1, 3, 3)` gives the cells of a batch of KLIFF's graphs and of ours."""
    source = configuration(silicon(), energy=0.0, forces=np.zeros((8, 3)))
    for transform in (PeriodicGraph(4.0), RadialGraph(["Si"], 4.0, 1)):
        batch = Batch.from_data_list([transform(source), transform(source)])
        np.testing.assert_array_equal(batch.cell.view(-1, 3, 3)[1], source.cell)


def test_it_is_a_kliff_transform() -> None:
    """It pickles, copies its graph to the configuration when asked, and goes to a dict and back."""
    source = configuration(silicon())
    transform = pickle.loads(pickle.dumps(PeriodicGraph(4.0, ["Si"], 2, copy_to_config=True)))
    graph = transform(source)
    assert source.fingerprint is graph
    again = pickle.loads(pickle.dumps(graph))
    torch.testing.assert_close(edge_vectors(again), edge_vectors(graph), rtol=0, atol=0)
    back = AtomGraph.from_dict(graph.to_dict())
    assert set(back.keys()) == set(graph.keys())
    assert "cutoff=4.0" in repr(transform)


def test_stock_kliff_export_is_refused_with_the_way_out() -> None:
    """KLIFF's save_kim_model would write a staged-graph file for a network that is not staged."""
    with pytest.raises(ExportError, match="kimgnn export"):
        PeriodicGraph(4.0).export_kim_model("anywhere", "model.pt")


def test_two_atoms_at_one_place() -> None:
    """The message names both atoms and the structure, also when they meet only across the cell's boundary."""
    atoms = ase.Atoms("Si3", [[0, 0, 0], [1, 2, 3], [5.4, 5.4, 5.4]], cell=[5.4] * 3, pbc=True)
    with pytest.raises(DataError, match=r"doubled\.xyz:4: two atoms.*atoms (0 and 2|2 and 0)"):
        PeriodicGraph(4.0)(configuration(atoms, identifier="doubled.xyz:4"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_and_cells_must_be_finite(bad: float) -> None:
    """NaN and infinity are refused before the neighbour search."""
    broken = silicon()
    broken.positions[3, 1] = bad
    with pytest.raises(DataError, match="a position is NaN or infinite"):
        PeriodicGraph(4.0)(configuration(broken))
    broken = silicon()
    broken.cell[1, 1] = bad
    with pytest.raises(DataError, match="a cell vector is NaN or infinite"):
        PeriodicGraph(4.0)(configuration(broken))


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), [True] * 3),
        ([[5, 0, 0], [0, 5, 0], [5, 5, 0]], [True] * 3),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 5]], [True, True, False]),
        ([[0, 0, 0], [0, 5, 0], [0, 0, 5]], [True, False, False]),
    ],
)
def test_periodic_vectors_must_span_a_volume(cell: object, pbc: list[bool]) -> None:
    """A zero or dependent vector is refused only where the structure is periodic."""
    atoms = ase.Atoms("Si", cell=np.array(cell, dtype=float))
    assert PeriodicGraph(4.0)(configuration(atoms)).num_edges == 0
    atoms.pbc = pbc
    with pytest.raises(DataError, match="no volume"):
        PeriodicGraph(4.0)(configuration(atoms))


def test_completed_cell_is_that_of_ase() -> None:
    """A slab with a zero third vector is what ASE completes it to."""
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    slab.cell[2] = 0.0
    table = edge_table(PeriodicGraph(4.0)(configuration(slab)))
    slab.cell = complete_cell(slab.cell)
    assert len(table) == len(neighbor_list("i", slab, 4.0))


@pytest.mark.parametrize(("symbols", "message"), [(["Si", "X"], "not a chemical element"), ([], "no atoms")])
def test_unknown_elements_and_empty_structures(symbols: list[str], message: str) -> None:
    """KLIFF's C++ has undefined behaviour for a symbol it does not know; here it is an error."""
    source = Configuration(np.eye(3) * 9, symbols, np.arange(3.0 * len(symbols)).reshape(-1, 3), [True] * 3)
    with pytest.raises(DataError, match=message):
        PeriodicGraph(4.0)(source)


def test_species_outside_the_list() -> None:
    """The message names the species, those allowed, and where to add it."""
    with pytest.raises(DataError, match=r"'Si'.*Allowed: C, H.*transforms\.configuration\.kwargs\.species"):
        PeriodicGraph(4.0, ["C", "H"])(configuration(silicon()))


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({"cutoff": 0.0}, "cutoff"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"cutoff": float("nan")}, "cutoff"),
        ({"cutoff": 4.0, "n_layers": 0}, "n_layers"),
        ({"cutoff": 4.0, "species": ["Sj"]}, "species"),
    ],
)
def test_bad_settings(kwargs: dict[str, object], where: str) -> None:
    """Settings are checked when the transform is made, and the message says which."""
    with pytest.raises(ManifestError, match=rf"transforms\.configuration\.kwargs\.{where}"):
        PeriodicGraph(**kwargs)
