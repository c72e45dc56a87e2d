"""The structures that the checks compute."""

import numpy as np
import pytest

from kimgnn.verify.checks.structures import compositions, lattice


@pytest.mark.parametrize(("kind", "sites", "neighbor"), [("bcc", 2, 0.75), ("fcc", 4, 0.5), ("diamond", 8, 0.1875)])
def test_lattices_have_their_nearest_neighbours(kind: str, sites: int, neighbor: float) -> None:
    """At sqrt(3)/2, sqrt(1/2) and sqrt(3)/4 of the lattice constant."""
    cluster = lattice(kind, 4.0, 2, ["Si"])
    distances = np.linalg.norm(cluster.positions[:, None] - cluster.positions, axis=-1)
    assert len(cluster.species) == 8 * sites
    assert distances[distances > 0].min() == pytest.approx(4.0 * np.sqrt(neighbor))


def test_the_same_seed_gives_the_same_structure() -> None:
    """Reports can be reproduced."""
    first, second = (lattice("bcc", 3.0, 2, ["Si", "C"], amplitude=0.3) for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.species == second.species
    assert first.species.count("Si") == first.species.count("C")


def test_a_doubled_cell_holds_each_atom_and_its_image() -> None:
    """One cell vector farther on, with the same species."""
    cell = lattice("fcc", 3.0, 1, ["Si", "C"], amplitude=0.3)
    doubled = cell.doubled(1)
    np.testing.assert_array_equal(doubled.positions[4:], doubled.positions[:4] + cell.cell[1])
    np.testing.assert_array_equal(doubled.cell, cell.cell * [[1], [2], [1]])
    assert doubled.species == cell.species * 2


def test_compositions_are_each_species_and_a_mix() -> None:
    """A mix of no more species than asked for; none of a single species."""
    assert compositions(["Si"], 4) == {"Si": ["Si"]}
    found = compositions(["Si", "C", "O"], 2)
    assert list(found) == ["Si", "C", "O", "mix"]
    assert len(set(found["mix"])) == 2
