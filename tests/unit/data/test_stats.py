"""What a data set holds, counted."""

from __future__ import annotations

import ase
import numpy as np
from ase.build import bulk, molecule

from kimgnn.data.records import Record
from kimgnn.data.stats import data_statistics


def test_counts_of_crystals() -> None:
    """Elements, sizes and symmetry are those of rock salt, silicon, a strained cell, and a molecule without any."""
    strained = bulk("Si")
    strained.set_cell(strained.cell.array @ np.diag([1, 1.02, 1.05]), scale_atoms=True)
    crystals = [bulk("NaCl", "rocksalt", a=5.64, cubic=True), bulk("Si"), strained, molecule("H2O")]
    found = data_statistics([Record(str(number), atoms, {}) for number, atoms in enumerate(crystals)])
    assert found.n_atoms.tolist() == [8, 2, 2, 3]
    assert found.elements == {"Si": 2, "Na": 1, "Cl": 1, "H": 1, "O": 1}
    assert found.space_groups == {"Fm-3m (225)": 1, "Fd-3m (227)": 1, "Fddd (70)": 1}
    assert found.crystal_systems == {"cubic": 2, "orthorhombic": 1}
    assert found.n_without_symmetry == 1


def test_atoms_on_top_of_one_another_have_no_symmetry() -> None:
    """What spglib cannot make sense of does not stop the others."""
    twice = ase.Atoms("Cu2", positions=np.zeros((2, 3)), cell=[3, 3, 3], pbc=True)
    found = data_statistics([Record("a", twice, {}), Record("b", bulk("Cu"), {})])
    assert found.n_without_symmetry == 1
    assert found.space_groups == {"Fm-3m (225)": 1}


def test_values() -> None:
    """Numbers in any form, classes and arrays are told apart; missing ones are counted."""
    rows = [
        {"gap": f"{number / 4}", "metal": number == 0, "kind": "a" if number else "b", "forces": np.ones((1, 3))}
        for number in range(20)
    ]
    rows[3]["gap"] = ""
    rows[4]["gap"] = float("nan")
    rows[5].pop("kind")
    rows[6]["empty"] = None
    found = {value.name: value for value in data_statistics([Record("", bulk("Cu"), row) for row in rows]).values}
    assert list(found) == ["gap", "metal", "kind", "forces"]
    gap = found["gap"]
    assert (gap.n_labelled, gap.n_missing, gap.classes) == (18, 2, {})
    np.testing.assert_allclose(gap.numbers, [number / 4 for number in range(20) if number not in (3, 4)])
    assert found["metal"].classes == {"False": 19, "True": 1}
    assert (found["kind"].classes, found["kind"].n_missing) == ({"a": 18, "b": 1}, 1)
    assert len(found["kind"].numbers) == 0
    assert (found["forces"].n_labelled, len(found["forces"].numbers)) == (20, 60)
