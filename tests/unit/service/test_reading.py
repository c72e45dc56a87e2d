"""Structures of requests: each format, strictly, and none that would cost the service more than a message."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from kimgnn.errors import DataError
from kimgnn.service.formats import FORMATS, Given
from kimgnn.service.messages import CIF, DATA, EXTXYZ, POSCAR
from kimgnn.service.reading import Read, TooLargeError, check_possible, read_all


def read(format_name: str, data: Any, max_atoms: int = 100, max_frames: int = 5) -> list[Read]:
    return read_entry(Given("model", "it", format_name, data, {}), max_atoms, max_frames)


def read_entry(entry: Given, max_atoms: int, max_frames: int) -> list[Read]:
    (found,) = read_all([entry], max_atoms, max_frames)
    if isinstance(found, DataError):
        raise found
    return found


def refusal(format_name: str, data: Any, **bounds: int) -> str:
    with pytest.raises(DataError) as raised:
        read(format_name, data, **bounds)
    assert all(problem.where.startswith("it") for problem in raised.value.problems)
    return str(raised.value)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_crystal_in_every_format(format_name: str) -> None:
    (found,) = read(format_name, DATA[format_name])
    atoms = found.atoms
    assert found.identifier == ("it:0" if format_name == "extxyz" else "it")  # as `kimgnn predict` calls them
    assert atoms.get_chemical_formula() == "CSi"
    assert atoms.get_volume() == pytest.approx(2 * 2.18**3, rel=3e-3)  # the CIF's edge is rounded
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(3**0.5 * 1.09, rel=1e-3)
    assert atoms.pbc.all()


@pytest.mark.parametrize("format_name", ["pymatgen", "ase"])
def test_json_may_come_as_text(format_name: str) -> None:
    assert read(format_name, json.dumps(DATA[format_name]))[0].atoms == read(format_name, DATA[format_name])[0].atoms


def test_frames_are_numbered_and_states_given_to_each() -> None:
    given = Given("model", "md", "extxyz", EXTXYZ * 3, {"temperature": 300.0})
    found = read_entry(given, 100, 3)
    assert [one.identifier for one in found] == ["md:0", "md:1", "md:2"]
    assert all(one.atoms.info["temperature"] == 300.0 for one in found)
    assert "up to 2 structures" in refusal("extxyz", EXTXYZ * 3, max_frames=2)


@pytest.mark.parametrize(
    ("format_name", "data", "part"),
    [
        ("cif", POSCAR, "is not CIF"),
        ("poscar", CIF, "is CIF, not POSCAR"),
        ("cif", json.dumps(DATA["pymatgen"]), "is JSON, not cif"),
        ("poscar", " [1]", "is JSON, not poscar"),
        ("extxyz", CIF, "cannot be read as extxyz"),
        ("cif", {"a": 1}, "cif is text"),
        ("ase", "{", "is not JSON"),
        ("ase", "[" * 100_000, "is not JSON"),
        ("pymatgen", DATA["ase"], "is not pymatgen's JSON"),
        ("ase", DATA["pymatgen"], "is not ASE's JSON"),
        ("cif", "", "there is no structure"),
        ("extxyz", " \n", "there is no structure"),
        ("cif", CIF.replace("0.25 0.25 0.25", "0.25 0.25"), "does not parse"),
        ("cif", CIF.replace("Si1 Si", "Xx1 Xx"), "of no element"),
        ("cif", CIF.replace("0.25 0.25 0.25", "nan 0.25 0.25"), ""),
        ("poscar", POSCAR.replace("Si C", "Xx C"), "element"),
        ("poscar", POSCAR.replace("2.18 0.0 2.18", "nan 0.0 2.18"), ""),
        ("extxyz", EXTXYZ.replace("1.09 1.09 1.09", "nan 1.09 1.09"), "NaN"),
        ("extxyz", EXTXYZ.replace("1.09 1.09 1.09", "1.09 1.09"), "cannot be read as extxyz"),
        ("ase", DATA["ase"] | {"positions": [[0, 0, 0], [float("inf"), 0, 0]]}, "NaN or infinite"),
        ("ase", DATA["ase"] | {"cell": np.zeros((3, 3)).tolist()}, "no volume"),
        ("ase", DATA["ase"] | {"cell": np.full((3, 3), float("nan")).tolist()}, "NaN or infinite"),
        ("ase", {"numbers": [], "positions": []}, "no atoms"),
        ("ase", {"ids": []}, "there is no structure"),
        ("ase", {"ids": [1, "1"], "1": DATA["ase"]}, "an id is there twice"),
        ("pymatgen", json.dumps(DATA["pymatgen"]).replace("Si", "\\ud800"), "is not JSON"),
    ],
)
def test_bad_input_is_told(format_name: str, data: Any, part: str) -> None:
    assert part in refusal(format_name, data)


HUGE_CIF = CIF + "".join(f"C{i} C {i % 97 / 97} {i % 89 / 89} {i % 83 / 83}\n" for i in range(100_000))
HUGE_EXTXYZ = f"{100_000}\n\n" + "C 0.0 0.0 0.0\n" * 100_000


@pytest.mark.parametrize(
    ("format_name", "data"),
    [
        ("cif", HUGE_CIF),
        ("cif", HUGE_CIF.replace("\nC", "\n\nC")),
        ("extxyz", HUGE_EXTXYZ),
        ("extxyz", EXTXYZ + HUGE_EXTXYZ),
        ("extxyz", "9" * 5000 + "\n"),
        ("poscar", POSCAR.replace("1 1\nD", "100000 1\nD")),
        ("poscar", POSCAR.replace("1 1\nD", f"{10**30} 1\nD")),
        ("poscar", POSCAR.replace("1 1\nD", "10000000 1  # atoms\nD")),
        ("poscar", POSCAR.replace("1 1\nD", "1_000_0000 +1\nD")),
        ("poscar", POSCAR.replace("carbide", "\x0bcarbide").replace("1 1\nD", "10000000 1\nD")),
        ("poscar", "\n\n\n" + POSCAR[POSCAR.index("\n") + 1 :].replace("1 1\nD", "10000000 1\nD")),
        ("poscar", POSCAR.replace("Si C\n1 1\n", "Si\nC\nC\n1\n1\n10000000\n")),
        ("ase", {"numbers": [6] * 100_000, "positions": [[0, 0, 0]] * 100_000}),
        ("ase", {"numbers": {"__ndarray__": [[100_000], "int64", [6] * 100_000]}, "positions": []}),
        ("pymatgen", {"sites": [{}] * 100_000}),
    ],
)
def test_a_huge_structure_is_refused_before_it_is_read(format_name: str, data: Any) -> None:
    """To read the CIF would take minutes, to count its lines takes milliseconds: a second is far from both."""
    began = time.process_time()
    with pytest.raises(TooLargeError, match="up to 2000 atoms"):
        read(format_name, data, max_atoms=2000)
    assert time.process_time() - began < 1.0


def test_symmetry_may_make_too_many_atoms_of_few_lines() -> None:
    general = CIF.replace("'P 1'", "'F m -3 m'").replace("60\n", "90\n").replace("0.25 0.25 0.25", "0.11 0.23 0.31")
    assert "up to 100 atoms" in refusal("cif", general, max_atoms=100)


IMPOSSIBLE = pytest.mark.parametrize(
    ("atoms", "part"),
    [
        (bulk("Si", a=0.01), "too thin"),
        (Atoms("C", cell=[1000, 1000, 1e-6], pbc=True), "too thin"),
        (Atoms("C", cell=[[10, 0, 0], [10, 0.01, 0], [0, 0, 10]], pbc=[1, 1, 0]), "too thin"),
        (Atoms("C100", positions=np.random.default_rng(0).random((100, 3)), cell=[2, 2, 2], pbc=True), "too small"),
        (Atoms("C", positions=[[1e300, 0, 0]]), "too far out"),
        (Atoms("C", cell=[1e200] * 3, pbc=True), "too far out"),
        (Atoms("C", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "no volume"),
        (Atoms("C", positions=[[np.nan, 0, 0]], cell=[4, 4, 4], pbc=True), "position is NaN"),
        (Atoms("C", cell=[4, np.inf, 4], pbc=True), "cell vector is NaN"),
    ],
)


@IMPOSSIBLE
def test_what_cannot_be_is_refused_before_its_neighbours_are_counted(atoms: Atoms, part: str) -> None:
    with pytest.raises(DataError, match=part):
        check_possible(atoms, "it")


@IMPOSSIBLE
def test_it_is_refused_among_others_and_they_are_not(atoms: Atoms, part: str) -> None:
    """Structures of several entries, and of one entry, are looked at together."""

    def entry(name: str, *frames: Atoms) -> Given:
        content = {str(index): plain(frame) for index, frame in enumerate(frames)}
        return Given("model", name, "ase", content | {"ids": list(range(len(frames)))}, {})

    slab = Atoms("Si", cell=[3, 3, 20], pbc=[1, 1, 0])
    good = [bulk("Si"), slab, Atoms("He"), bulk("Cu", cubic=True)]
    batch = [entry("first", *good), entry("the bad one", bulk("Si"), atoms, bulk("Si")), entry("last", *good)]
    first, second, last = read_all(batch, 100, 5)
    assert isinstance(second, DataError)
    assert [(problem.where, part in problem.message) for problem in second.problems] == [("the bad one:1", True)]
    for found in (first, last):
        assert isinstance(found, list)
        assert [read.atoms for read in found] == good


def plain(atoms: Atoms) -> dict[str, Any]:
    return {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")} | {
        "cell": atoms.cell.array.tolist()
    }


@pytest.mark.parametrize("pbc", [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
def test_what_can_be_may_be_small_flat_or_skewed(pbc: list[int]) -> None:
    for atoms in (bulk("C"), bulk("H", "bcc", a=2.0), Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[4, 4, 1], pbc=True)):
        atoms.pbc = pbc
        if not atoms.pbc[2]:
            atoms.cell[2] = 0
        check_possible(atoms, "it")


@given(st.sampled_from(FORMATS), st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@settings(deadline=None)
def test_any_text_is_read_or_refused(format_name: str, text: str) -> None:
    try:
        read(format_name, text)
    except DataError:
        pass


@given(st.sampled_from(FORMATS), st.data())
@settings(deadline=None)
def test_any_damage_is_read_or_refused(format_name: str, data: Any) -> None:
    """A good structure with a piece cut out or put in."""
    text = DATA[format_name] if isinstance(DATA[format_name], str) else json.dumps(DATA[format_name])
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    piece = data.draw(st.sampled_from(["", "nan", "1e999", "-", "\n", "\0", "'", "{", "0 0 0\n", "9" * 20]))
    try:
        read(format_name, text[:first] + piece + text[last if data.draw(st.booleans()) else first :])
    except DataError:
        pass
