"""What an export is tried on: valid structures of every kind, the same in each run."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from kimgnn.verify.parity_structures import parity_structures

CARBIDE = bulk("SiC", "zincblende", a=4.36)
CUTOFF = 4.0


def test_every_kind_is_there() -> None:
    """Samples first, then what is made of them and of the species."""
    names = ["sample 1", "sample 2", "rattled", "strained", "species permuted", "one C atom", "one Si atom"]
    structures = parity_structures([molecule("CH4"), CARBIDE], ["C", "Si"], CUTOFF)
    assert list(structures) == [*names, "molecule", "small cell"]
    assert "species permuted" not in parity_structures([bulk("Si")], ["Si"], CUTOFF)


def test_they_are_what_they_are_called() -> None:
    """Rattled and strained come from the sample that is a crystal; each differs from it as its name says."""
    structures = parity_structures([molecule("CH4"), CARBIDE], ["C", "Si"], CUTOFF)
    rattled, strained, permuted = (structures[name] for name in ("rattled", "strained", "species permuted"))
    displacements = np.linalg.norm(rattled.positions - CARBIDE.positions, axis=1)
    assert np.all((displacements > 0.01) & (displacements < 0.4))
    assert np.array_equal(rattled.cell, CARBIDE.cell)
    strain = np.linalg.solve(CARBIDE.cell.array, strained.cell.array) - np.eye(3)
    assert 0.02 < np.abs(strain).max() <= 0.05
    np.testing.assert_allclose(strained.get_scaled_positions(), CARBIDE.get_scaled_positions(), atol=1e-12)
    assert permuted.get_chemical_symbols() == ["C", "Si"]
    assert not structures["molecule"].pbc.any()
    assert structures["small cell"].cell.lengths().max() < CUTOFF
    assert structures["small cell"].pbc.all()


@pytest.mark.parametrize("species", [["Si"], ["H", "C", "O", "Cs", "Pu"]])
@pytest.mark.parametrize("cutoff", [1.2, 6.0])
def test_without_samples_they_are_made_from_the_species(species: list[str], cutoff: float) -> None:
    """All species occur, atoms have neighbours, none sits on another, and every run has the same."""
    structures = parity_structures([], species, cutoff)
    assert {symbol for atoms in structures.values() for symbol in atoms.symbols} == set(species)
    for name, atoms in structures.items():
        if name.startswith("one"):
            continue
        distances = neighbor_list("d", atoms, cutoff)
        assert len(distances) >= 3 * len(atoms), name
        assert distances.min() > 0.5 * min(cutoff, 2.0), name
    again = parity_structures([], species, cutoff)
    assert all(again[name] == atoms for name, atoms in structures.items())
