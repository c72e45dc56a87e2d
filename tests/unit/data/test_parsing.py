"""Structures from text and mappings are those that pymatgen, or the numbers in them, say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list
from crystals import HALF, NACL, POSCAR
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core.structure import Structure

from kimgnn.cache import _PROCESS, STRUCTURES, Cache
from kimgnn.data.parsing import decoded, is_missing, parse_structure, parsed
from kimgnn.data.records import Entry, Record
from kimgnn.errors import Problem


def rock_salt() -> ase.Atoms:
    return bulk("NaCl", "rocksalt", a=5.64, cubic=True)


def distances(atoms: ase.Atoms) -> np.ndarray:
    return np.sort(neighbor_list("d", atoms, 6.0))


def test_symmetric_copies(tmp_path: Path) -> None:
    """Two sites and four translations make the eight atoms of rock salt, from text and from a file."""
    (tmp_path / "NaCl.cif").write_text(NACL)
    for source in (NACL, tmp_path / "NaCl.cif"):
        atoms = parse_structure(source)
        assert sorted(atoms.get_chemical_symbols()) == ["Cl"] * 4 + ["Na"] * 4
        assert atoms.pbc.all()
        np.testing.assert_allclose(distances(atoms), distances(rock_salt()), atol=1e-12)


def test_group_without_operations() -> None:
    """A CIF that names its space group only gives the same crystal; a group it does not name is told."""
    named = "\n".join(line for line in NACL.splitlines() if "equiv" not in line and not line.startswith("'"))
    named = named.replace("loop_\nloop_", "loop_")
    with pytest.warns(UserWarning, match="salt: .*Spacegroup"):
        (record,) = parsed([Entry("salt", named, {})])
    assert isinstance(record, Record)
    np.testing.assert_allclose(distances(record.atoms), distances(rock_salt()), atol=1e-12)
    nameless = "\n".join(line for line in named.splitlines() if "space_group" not in line)
    with pytest.warns(UserWarning, match="salt, more salt: .*Defaulting to P1"):
        first, second = parsed([Entry("salt", nameless, {}), Entry("more salt", nameless, {})])
    assert [len(item.atoms) for item in (first, second) if isinstance(item, Record)] == [2, 2]


def test_every_form_of_one_crystal() -> None:
    """POSCAR, pymatgen dict, its JSON, and lattice with species and coordinates are one crystal."""
    silicon = ase.Atoms("Si2", scaled_positions=[[0, 0, 0], [0.25] * 3], cell=[5.43] * 3, pbc=True)
    content = Structure.from_str(POSCAR, fmt="poscar").as_dict()
    lattice, coords = silicon.cell.tolist(), silicon.positions.tolist()
    forms = [
        POSCAR,
        content,
        json.dumps(content),
        {"lattice": lattice, "species": ["Si", "Si"], "coords": coords},
        {"Lattice": [5.43, 5.43, 5.43, 90, 90, 90], "numbers": [14, 14], "frac_coords": [[0, 0, 0], [0.25] * 3]},
        {"lattice": json.dumps(lattice), "elements": "['Si', 'Si']", "positions": str(coords)},
        {"lattice": {"matrix": lattice}, "atomic_numbers": ["14", "14"], "frac_coords": "[[0, 0, 0], [.25, .25, .25]]"},
    ]
    for form in forms:
        atoms = parse_structure(form)
        assert atoms.get_chemical_symbols() == ["Si", "Si"]
        np.testing.assert_allclose(atoms.positions, silicon.positions, atol=1e-12)
        np.testing.assert_allclose(atoms.cell.array, silicon.cell.array, atol=1e-12)
        assert atoms.pbc.all()


@given(angles=st.lists(st.floats(60, 110), min_size=3, max_size=3), lengths=st.lists(st.floats(3, 9), min_size=3))
def test_skew_cells_keep_their_distances(angles: list[float], lengths: list[float]) -> None:
    """A crystal written by pymatgen, in any cell, is read with the distances it had."""
    structure = Structure(
        ase.Atoms(cell=[*lengths[:3], *angles]).cell.array,
        ["Na", "Cl", "O"],
        [[0, 0, 0], [0.4, 0.5, 0.6], [0.9, 0.1, 0.3]],
    )
    atoms = parse_structure(structure.to(fmt="cif"))
    rows = np.argsort(atoms.numbers)
    # A CIF has eight digits.
    expected = structure.distance_matrix[np.ix_([2, 0, 1], [2, 0, 1])]
    mine = atoms.get_all_distances(mic=True)[np.ix_(rows, rows)]
    np.testing.assert_allclose(mine, expected, atol=1e-6)


def test_charges_and_isotopes_are_their_element() -> None:
    """An ion is an atom of its element, and deuterium is hydrogen."""
    content = Structure(np.eye(3) * 4, ["Na+", "D"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()
    assert parse_structure(content).get_chemical_symbols() == ["Na", "H"]


BAD = {
    "half": (HALF, "a site is partly occupied .*Na.*occupancy 1"),
    "twice": (NACL.replace("Cl1 Cl 0.5 0.5 0.5 1", "Cl1 Cl 0 0 0 1"), "Occupancy 2.0 exceeded tolerance"),
    "cut": (NACL[:300], "does not parse"),
    "no_cell": (NACL.replace("_cell_length_b 5.64\n", ""), "does not parse"),
    "words": ("these are not atoms", "does not parse"),
    "empty": ("  ", "there is no structure"),
    "nothing": (3.0, "there is no structure"),
    "old_poscar": (POSCAR.replace("Si\n", ""), "does not parse: Elements in POSCAR cannot be determined"),
    "no_species": ({"lattice": np.eye(3), "coords": [[0, 0, 0]]}, "a part .* is missing .*'species'"),
    "no_coords": ({"lattice": np.eye(3), "species": ["Si"]}, "a part .* is missing .*'coords'"),
    "too_few": ({"lattice": np.eye(3), "species": ["Si"] * 2, "coords": [[0, 0, 0]]}, "do not fit the species"),
    "lattice": ({"lattice": [1, 2], "species": ["Si"], "coords": [[0, 0, 0]]}, "lattice has the wrong shape"),
    "flat": ({"lattice": np.ones((3, 3)), "species": ["Si"], "coords": [[0, 0, 0]]}, "no volume"),
    "nan": ({"lattice": np.eye(3), "species": ["Si"], "coords": [[0, 0, np.nan]]}, "NaN or infinite"),
    "no_atoms": ({"lattice": np.eye(3), "species": [], "coords": np.empty((0, 3))}, "no atoms"),
    "element": (
        {"lattice": np.eye(3), "species": ["Sj"], "coords": [[0, 0, 0]]},
        "no such chemical element.*'Sj, atom 0'",
    ),
    "number": ({"lattice": np.eye(3), "species": [0], "coords": [[0, 0, 0]]}, "no such chemical element"),
    "dummy": (Structure(np.eye(3), ["X"], [[0, 0, 0]]).as_dict(), "of no element"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_structure(name: str) -> None:
    """Each is refused with its reason."""
    source, message = BAD[name]
    (problem,) = parsed([Entry("42", source, {})])  # type: ignore[arg-type]
    assert isinstance(problem, Problem)
    assert problem.where == "42"
    assert re.search(message, str(problem))


def test_water_without_its_hydrogen() -> None:
    """Hydrogen atoms that a CIF implies without saying where they are make no structure."""
    (problem,) = parsed([Entry("42", NACL.replace("Cl1 Cl 0.5", "O1 Wat 0.5"), {})])
    assert isinstance(problem, Problem)
    assert "hydrogen atoms are implied" in problem.message


def test_bad_entries_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    """Problems bear the ids of their entries, in their places."""
    entries = [Entry("1", NACL, {"gap": 1}), Entry("2", HALF, {}), Entry("3", tmp_path / "none.cif", {})]
    first, second, third = parsed([*entries])
    assert isinstance(first, Record)
    assert first.values == {"gap": 1}
    assert isinstance(second, Problem)
    assert isinstance(third, Problem)
    assert (second.where, third.where) == ("2", "3")
    assert "cannot be read" in third.message


def test_cache_gives_the_same_structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A structure kept is the one parsed, to the last bit, and is not parsed again; what is wrong is told again."""
    entries = [Entry("1", NACL, {}), Entry("2", POSCAR, {}), Entry("3", HALF, {})]
    plain = list(parsed(entries))
    cache = Cache(tmp_path, STRUCTURES)
    assert [type(item) for item in parsed(entries, cache)] == [Record, Record, Problem]
    assert len(cache) == 2
    monkeypatch.setattr("kimgnn.data.parsing._from_cif", lambda text: pytest.fail("parsed again"))
    for kept, item in zip(parsed(entries[:2], cache), plain, strict=False):
        assert isinstance(kept, Record)
        assert isinstance(item, Record)
        assert kept.atoms == item.atoms


def test_damaged_cache_is_told_as_such_and_mended(tmp_path: Path) -> None:
    """An entry that the checksum refuses is the cache's matter, not the structure's, and is kept anew."""
    cache = Cache(tmp_path, STRUCTURES)
    entries = [Entry("1", NACL, {})]
    (plain,) = parsed(entries, cache)
    environment = _PROCESS.opened[cache.path].environment
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        cursor.first()
        cursor.put(cursor.key(), cursor.value()[:-1] + b"?")
    with pytest.warns(UserWarning, match=r"^/.*structures\.lmdb: an entry is damaged, and made anew$"):
        (mended,) = parsed(entries, cache)
    (again,) = parsed(entries, cache)
    assert isinstance(plain, Record)
    for record in (mended, again):
        assert isinstance(record, Record)
        assert record.atoms == plain.atoms


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (" -2.5e3 ", -2500.0),
        ("[1, null]", [1, None]),
        ("(1, 2)", (1, 2)),
        ("['a']", ["a"]),
        ("1_000", "1_000"),
        ("InF", "InF"),
        ("[1", "[1"),
        ("metal", "metal"),
        ("", ""),
        (None, None),
        (True, True),
    ],
)
def test_decoded(text: object, value: object) -> None:
    """Text that spells a number or a list is one; everything else stays as it is."""
    assert decoded(text) == value
    assert type(decoded(text)) is type(value)


def test_missing() -> None:
    """Absent, empty, and NaN in any spelling are missing; zero and false are not."""
    assert all(map(is_missing, [None, "", " ", float("nan"), "NaN", "None", "null", "N/A", np.float64("nan")]))
    assert not any(map(is_missing, [0, 0.0, False, "0", "no", [], float("inf")]))
