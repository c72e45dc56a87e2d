"""find_neighbors: every edge has its reverse. That the edges are the right ones is tested on PeriodicGraph."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from kimgnn.errors import DataError
from kimgnn.transforms.neighbors import Neighbors, find_neighbors


def neighbors(atoms: Atoms, cutoff: float) -> Neighbors:
    return find_neighbors(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)


def skewed() -> Atoms:
    """Sixteen rattled atoms, some outside their cell, which is periodic along two of its vectors."""
    atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
    atoms.set_cell(atoms.cell + [[0, 0, 0], [0.9, 0, 0], [0, -0.7, 0]], scale_atoms=True)
    atoms.rattle(1.0, seed=3)
    atoms.pbc = (True, False, True)
    return atoms


STRUCTURES = {
    "a cell far smaller than the cutoff": (bulk("Cu"), 9.0),
    "a shell of neighbours at the cutoff": (bulk("Po", "sc", a=4.0).repeat(3), 4.0),
    "skewed, periodic along two vectors": (skewed(), 5.0),
    "one lone atom": (Atoms("Si"), 5.0),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_reverse_edges_run_back_between_the_same_images(name: str) -> None:
    """The reverse has sender and receiver exchanged, the opposite shift, and the edge itself for its reverse."""
    (sender, receiver), shifts, reverse = neighbors(*STRUCTURES[name])
    np.testing.assert_array_equal(sender[reverse], receiver)
    np.testing.assert_array_equal(shifts[reverse], -shifts)
    np.testing.assert_array_equal(reverse[reverse], np.arange(len(reverse)))
    assert (reverse != np.arange(len(reverse))).all()
    assert (np.diff(receiver) >= 0).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_pairs_are_known_by_their_first_edge(name: str) -> None:
    """Ascending first edges; an edge and its reverse are in one pair, which no other edge is in."""
    found = neighbors(*STRUCTURES[name])
    edge_of_pair, pair_of_edge = found.pairs()
    assert (np.diff(edge_of_pair) > 0).all()
    assert (edge_of_pair < found.reverse_edge[edge_of_pair]).all()
    np.testing.assert_array_equal(pair_of_edge[edge_of_pair], np.arange(len(edge_of_pair)))
    np.testing.assert_array_equal(pair_of_edge[found.reverse_edge], pair_of_edge)
    assert 2 * len(edge_of_pair) == len(pair_of_edge)


def test_the_search_is_repeatable() -> None:
    """The same edges in the same order each time: sums over them are the same to the last bit."""
    atoms = bulk("Si", cubic=True).repeat(3)
    atoms.rattle(0.1, seed=1)
    first = neighbors(atoms, 5.0)
    for _ in range(3):
        for one, other in zip(first, neighbors(atoms, 5.0), strict=True):
            np.testing.assert_array_equal(one, other)


def test_messages_say_which_structure() -> None:
    """Where it is, and what is wrong with it."""
    atoms = bulk("Si")
    atoms.positions[1] = np.nan
    with pytest.raises(DataError, match=r"silicon\.cif: a position is NaN"):
        find_neighbors(atoms.positions, atoms.cell.array, atoms.pbc, 4.0, "silicon.cif")
