"""What the page draws, and sends back to be predicted."""

import json

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import chemical_symbols

from kimgnn.service.drawing import drawn, elements


def test_a_structure_comes_back_exactly() -> None:
    """Through JSON, to the last digit; a molecule stays one."""
    rattled = bulk("NaCl", "rocksalt", a=5.64)
    rattled.rattle(0.1, seed=1)
    for atoms in (rattled, molecule("H2O")):
        found = json.loads(json.dumps(drawn("x.cif", atoms, ["no symmetry"])))
        assert (found["id"], found["atoms"], found["warnings"]) == ("x.cif", len(atoms), ["no symmetry"])
        assert found["symbols"] == atoms.get_chemical_symbols()
        again = Atoms(**found["structure"])
        for name in ("numbers", "positions", "pbc"):
            assert np.array_equal(getattr(again, name), getattr(atoms, name))
        assert np.array_equal(again.cell.array, atoms.cell.array)


def test_every_element_can_be_drawn() -> None:
    """Also those for which ASE has no colour or no radius."""
    looks = elements([Atoms(chemical_symbols[1:]), bulk("Si")])
    assert sorted(looks) == sorted(chemical_symbols[1:])
    assert looks["Si"] == {"name": "Silicon", "color": "#f0c8a0", "radius": 1.11}
    for look in looks.values():
        assert 0.25 < look["radius"] < 3.0
        assert len(look["color"]) == 7
        assert int(look["color"][1:], 16) < 2**24
