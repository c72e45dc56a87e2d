"""JSON of pymatgen and ASE: read as their own readers read it, and as nothing but numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import jsonio
from pymatgen.core import Lattice, Molecule, Structure

from kimgnn.errors import DataError
from kimgnn.service.structure_json import from_ase, from_pymatgen, sizes_in

SKEWED = Atoms(
    "SiC3", positions=np.random.default_rng(0).normal(size=(4, 3)), cell=[3, 4, 5, 70, 80, 95], pbc=[1, 1, 0]
)


def as_database(*structures: Atoms) -> Any:
    with NamedTemporaryFile(suffix=".json") as file:
        with connect(file.name, append=False) as database:
            for atoms in structures:
                database.write(atoms)
        return json.loads(Path(file.name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("atoms", [SKEWED, bulk("Si"), molecule("H2O")], ids=["skewed", "bulk", "molecule"])
@pytest.mark.parametrize(
    "written",
    [
        lambda atoms: json.loads(jsonio.encode(atoms)),
        lambda atoms: json.loads(jsonio.encode(atoms.todict())),
        as_database,
        lambda atoms: {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.tolist(),
            "pbc": atoms.pbc.tolist(),
        },
    ],
    ids=["object", "dictionary", "database", "lists"],
)
def test_ase_is_read_bit_by_bit(atoms: Atoms, written: Any) -> None:
    (found,) = from_ase(written(atoms))
    assert found == atoms
    assert list(sizes_in(written(atoms))) == [len(atoms)]


def test_a_database_has_many() -> None:
    assert from_ase(as_database(SKEWED, bulk("Si"))) == [SKEWED, bulk("Si")]


def test_pymatgen_is_read_as_pymatgen_reads_it() -> None:
    lattice = Lattice.from_parameters(3.0, 4.0, 5.0, 70.0, 80.0, 95.0)
    structure = Structure(lattice, ["Si", "C", "O2-"], np.random.default_rng(0).random((3, 3)))
    content = json.loads(json.dumps(structure.as_dict()))
    (found,) = from_pymatgen(content)
    np.testing.assert_array_equal(found.numbers, [14, 6, 8])
    np.testing.assert_allclose(found.cell.array, lattice.matrix, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.positions, structure.cart_coords, rtol=0, atol=1e-12)
    assert found.pbc.all()
    assert list(sizes_in(content)) == [3]
    del content["lattice"]["matrix"]
    np.testing.assert_allclose(from_pymatgen(content)[0].cell.cellpar(), [3, 4, 5, 70, 80, 95], rtol=0, atol=1e-9)


def test_a_molecule_has_no_cell() -> None:
    water = molecule("H2O")
    content = json.loads(Molecule(water.symbols, water.positions).to_json())
    (found,) = from_pymatgen(content)
    np.testing.assert_array_equal(found.positions, water.positions)
    assert not found.pbc.any()


def test_no_class_is_made_of_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """monty would import the module, and ask the class to make itself of the rest; so ASE's hook, of its own."""
    for name in ("antigravity", "this"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    evil = {"@module": "this", "@class": "s", "@version": None, "value": 1}
    site = {"species": [{"element": "Si", "occu": 1}], "abc": [0, 0, 0], "properties": {"x": evil}}
    content = {"lattice": {"matrix": np.eye(3).tolist(), "@module": "antigravity"}, "sites": [site], "properties": evil}
    assert len(from_pymatgen(content | evil)[0]) == 1
    marked = {"__ase_objtype__": "bandstructure", "numbers": [14], "positions": [[0, 0, 0]], "info": evil}
    assert from_ase(marked)[0] == Atoms("Si")
    assert not {"antigravity", "this"} & sys.modules.keys()


BAD_ASE: list[Any] = [
    [],
    {},
    {"numbers": [14]},
    {"numbers": "Si", "positions": [[0, 0, 0]]},
    {"numbers": [14.5], "positions": [[0, 0, 0]]},
    {"numbers": [14], "positions": [[0, 0]]},
    {"numbers": [14], "positions": [["a", 0, 0]]},
    {"numbers": [14], "positions": [[0, 0, 0], [1, 1, 1]]},
    {"numbers": [999], "positions": [[0, 0, 0]]},
    {"numbers": [-1], "positions": [[0, 0, 0]]},
    {"numbers": [10**400], "positions": [[0, 0, 0]]},
    {"numbers": [14], "positions": [[0, 0, 0]], "cell": [1, 2]},
    {"numbers": [14], "positions": [[0, 0, 0]], "pbc": True},
    {"numbers": {"__ndarray__": [[1], "object", [None]]}, "positions": [[0, 0, 0]]},
    {"numbers": {"__ndarray__": 3}, "positions": [[0, 0, 0]]},
    {"ids": [1]},
    {"ids": [[1]], "1": {}},
]


@pytest.mark.parametrize("content", BAD_ASE)
def test_what_is_not_ase_is_told(content: Any) -> None:
    with pytest.raises(DataError):
        from_ase(content)
    list(sizes_in(content))


SITE: dict[str, Any] = {"species": [{"element": "Si", "occu": 1}], "abc": [0, 0, 0]}
BAD_PYMATGEN: list[Any] = [
    [],
    {},
    {"sites": 3},
    {"sites": ["Si"]},
    {"sites": [SITE], "lattice": 3},
    {"sites": [SITE], "lattice": {"matrix": [[1, 0, 0]]}},
    {"sites": [SITE]},
    {"sites": [SITE | {"species": []}], "lattice": {"matrix": np.eye(3).tolist()}},
    {"sites": [SITE | {"species": 1}], "lattice": {"matrix": np.eye(3).tolist()}},
    {"sites": [SITE | {"species": [{"element": "Si", "occu": 0.5}]}], "lattice": {"matrix": np.eye(3).tolist()}},
    {
        "sites": [SITE | {"species": [{"element": "Si", "occu": float("nan")}]}],
        "lattice": {"matrix": np.eye(3).tolist()},
    },
    {"sites": [SITE | {"species": [{"element": "Xx", "occu": 1}]}], "lattice": {"matrix": np.eye(3).tolist()}},
    {"sites": [SITE | {"species": [{"element": ["Si"], "occu": 1}]}], "lattice": {"matrix": np.eye(3).tolist()}},
    {"sites": [SITE | {"abc": None}], "lattice": {"matrix": np.eye(3).tolist()}},
    {"sites": [SITE], "lattice": {"matrix": np.eye(3).tolist()}, "properties": {"implicit_hydrogens": 1}},
]


@pytest.mark.parametrize("content", BAD_PYMATGEN)
def test_what_is_not_pymatgen_is_told(content: Any) -> None:
    with pytest.raises(DataError):
        from_pymatgen(content)
    list(sizes_in(content))
