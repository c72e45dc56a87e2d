"""The nearest neighbours in many structures at once are those in each."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.transforms import nearest
from kimgnn.transforms.nearest import SAME, Ties, find_nearest, find_nearest_of_all, nearest_edges
from kimgnn.transforms.neighbors import find_neighbors
from kimgnn.transforms.structure import Structure


def structure(atoms: Atoms, name: str = "") -> Structure:
    return Structure(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc, name)


def crystals() -> list[Structure]:
    """With ties, without; skewed, flat, a molecule, and a lone atom that has no neighbour."""
    rattled = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    rattled.rattle(0.2, seed=0)
    skewed = bulk("Ti", "hcp")
    skewed.set_cell(skewed.cell.array + [[0, 0, 0], [4, 0, 0], [0, -3, 0]], scale_atoms=True)
    slab = bulk("Si", cubic=True)
    slab.pbc = [True, True, False]
    found = [bulk("Si"), rattled, Atoms("He"), skewed, bulk("CsCl", "cesiumchloride", a=4.1), slab, molecule("C2H6")]
    return [structure(atoms) for atoms in found]


@pytest.mark.parametrize("ties", ["break", "keep"])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_together_as_alone(count: int, ties: Ties) -> None:
    """The same edges in the same order, bit for bit."""
    together = find_nearest_of_all(crystals(), 6.0, count, ties)
    first_atom = first_edge = 0
    for one in crystals():
        alone = find_nearest(one, 6.0, count, ties)
        edges = slice(first_edge, first_edge + len(alone.shifts))
        np.testing.assert_array_equal(together.edge_index[:, edges] - first_atom, alone.edge_index)
        np.testing.assert_array_equal(together.shifts[edges], alone.shifts)
        first_atom, first_edge = first_atom + len(one.z), edges.stop
    assert first_edge == len(together.shifts)


def misleading() -> list[Structure]:
    """Crystals whose mean density does not tell how far away the nearest are: layers, clusters, and a chain apart."""
    layers = bulk("Ti", "hcp")
    layers.set_cell(layers.cell.array * [[1], [1], [4]])
    cluster = molecule("C2H6", vacuum=10.0)
    cluster.pbc = True
    dense = bulk("Cu", cubic=True) * (2, 1, 1)
    dense.positions[:4] += dense.positions[4:] - dense.positions[:4] - [2.0, 0.3, 0.2]
    chain = Atoms("H3", [[0, 0, 0], [0.8, 0, 0], [0, 9, 9]], cell=[1.7, 18, 18], pbc=True)
    return [structure(atoms) for atoms in (layers, cluster, dense, chain, bulk("Po", "sc", a=3.35))]


@pytest.mark.parametrize("looked_at", [0, nearest.MOST_LOOKED_AT, 10**9])
@pytest.mark.parametrize("ties", ["break", "keep"])
@pytest.mark.parametrize("count", [1, 4, 12, 40])
@pytest.mark.parametrize("cutoff", [2.0, 6.0])
def test_they_are_the_nearest_of_all(
    cutoff: float, count: int, ties: Ties, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though not all within the cutoff are looked at, by whichever of both searches; the order is of no account."""
    monkeypatch.setattr(nearest, "MOST_LOOKED_AT", looked_at)
    for one in [*crystals(), *misleading()]:
        every = find_neighbors(one.coords, one.cell, one.pbc, cutoff + SAME)
        chosen = nearest_edges(every, one, count, ties)
        found = find_nearest(one, cutoff, count, ties)
        expected = _sorted(every.edge_index[:, chosen], every.shifts[chosen])
        np.testing.assert_allclose(_sorted(found.edge_index, found.shifts), expected, rtol=0, atol=1e-9)


def _sorted(edge_index: NDArray[np.int64], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a row for each edge, in an order that rounding does not change."""
    rows = np.column_stack([edge_index[1], edge_index[0], shifts])
    return rows[np.lexsort((rows.round(6) + 0.0).T[::-1])]


@pytest.mark.parametrize(
    "bad",
    [
        Atoms("He2", positions=np.zeros((2, 3))),
        Atoms("He2", positions=[[0, 0, 0], [0, 0, 8]], cell=[4, 4, 4], pbc=True),
        Atoms("He", positions=[[np.nan, 0, 0]], cell=[4, 4, 4], pbc=True),
        Atoms("He", cell=[4, 4, np.inf], pbc=True),
        Atoms("He", cell=[[4, 0, 0], [0, 4, 0], [4, 4, 0]], pbc=True),
    ],
    ids=["molecule", "crystal", "position", "cell", "flat"],
)
def test_the_first_that_is_bad_is_named(bad: Atoms) -> None:
    """In the words that are said of it alone."""
    first, second = structure(bad, "the first"), structure(Atoms("He", cell=[np.nan] * 3, pbc=True), "the second")
    with pytest.raises(DataError) as alone:
        find_nearest(first, 6.0, 3, "break")
    with pytest.raises(DataError) as together:
        find_nearest_of_all([*crystals(), first, *crystals(), second], 6.0, 3, "break")
    assert together.value.problems == alone.value.problems
    assert {problem.where for problem in alone.value.problems} == {"the first"}
