"""A data set in another format holds the same structures, ids and values; what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kimgnn.data.convert import write_records
from kimgnn.data.from_atoms import values_of
from kimgnn.data.parsing import decoded, is_missing
from kimgnn.data.records import Record
from kimgnn.data.sources import read_configurations, read_records, source_of
from kimgnn.errors import DataError

OUTPUTS = ["o.extxyz", "o.xyz", "o.db", "o.csv", "o.csv.gz", "o.jsonl", "o.ndjson.gz", "o.json", "o.parquet", "cifs"]


def salt(identifier: str, **values: Any) -> Record:
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((1, 1, 2))
    atoms.rattle(0.05, seed=len(identifier))
    return Record(identifier, atoms, values)


def read(path: Path) -> list[Record]:
    return read_records(source_of(path))


def plain(value: Any) -> Any:
    """Return a value as any format may have it: text as what it spells, arrays as lists."""
    value = decoded(value)
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return str(value) if isinstance(value, bool) else value


@pytest.mark.parametrize("name", OUTPUTS)
def test_there_and_back(tmp_path: Path, name: str) -> None:
    """Every format gives back what it was given: to the last bit, or to the digits that text has."""
    records = [
        salt("mp-1", gap=1.25, metal=False, kind="rock salt", dipole=[1.0, 2.0, 3.0], tags=["a", "b"]),
        salt("1234", gap=None, metal=True, n=3, note="", energy_above_hull=1e-17 / 3),
    ]
    write_records(records, tmp_path / name)
    back = read(tmp_path / name)
    assert [record.identifier for record in back] == ["mp-1", "1234"]
    for record, other in zip(records, back, strict=True):
        given_values = {key: plain(value) for key, value in record.values.items() if not is_missing(value)}
        values = {key: plain(value) for key, value in other.values.items() if not is_missing(value)}
        values.pop("material_id", None)
        assert values == given_values
        assert sorted(other.atoms.numbers) == sorted(record.atoms.numbers)
        assert other.atoms.pbc.all()
        tolerance = 1e-7 if name in ("o.extxyz", "o.xyz", "cifs") else 1e-13  # eight digits, ten, or all
        distances = [
            np.sort(atoms.get_all_distances(mic=True)[atoms.numbers == 11][:, atoms.numbers == 17].ravel())
            for atoms in (record.atoms, other.atoms)
        ]
        np.testing.assert_allclose(*distances, atol=tolerance)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cell=arrays(float, (3, 3), elements=st.floats(-3, 3)), coords=arrays(float, (3, 3), elements=st.floats(-9, 9)))
def test_any_cell(tmp_path: Path, cell: np.ndarray, coords: np.ndarray) -> None:
    """Tables keep the cell and the positions themselves, left-handed and skew cells too, atoms outside as well."""
    record = salt("a")
    volume = abs(cell[0] @ np.cross(cell[1], cell[2]))  # np.linalg.det warns of cells of subnormal numbers
    record.atoms.set_cell(cell + 7 * np.eye(3) if volume < 1 else cell)
    record.atoms.positions[:3] = coords
    write_records([record], tmp_path / "o.jsonl", force=True)
    (back,) = read(tmp_path / "o.jsonl")
    np.testing.assert_allclose(back.atoms.cell.array, record.atoms.cell.array, atol=1e-12)
    # Positions pass through fractional coordinates, whose rounding a flat cell enlarges.
    np.testing.assert_allclose(back.atoms.positions, record.atoms.positions, atol=1e-9)


@pytest.mark.parametrize("between", ["b.db", "b.jsonl"])
@pytest.mark.parametrize("name", ["o.extxyz", "o.db", "o.jsonl", "o.csv", "o.parquet"])
def test_labels_of_a_potential(tmp_path: Path, name: str, between: str) -> None:
    """Energy, forces and stress are labels again, whatever the format in between."""
    atoms = bulk("Si").repeat(2)
    forces = np.random.default_rng(0).normal(size=(16, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=forces, stress=np.arange(6) / 100)
    (tmp_path / "in").mkdir()
    write_records([Record("a", atoms, values_of(atoms) | {"ragged": [[1], [2, 3]]})], tmp_path / "in" / between)
    write_records(read(tmp_path / "in" / between), tmp_path / name)
    (item,) = read_configurations(source_of(tmp_path / name))
    assert item.identifier == "a"
    assert item.energy == -5.0
    np.testing.assert_allclose(item.forces, forces, atol=1e-8)
    np.testing.assert_allclose(item.stress, np.arange(6) / 100, atol=1e-12)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file only by force, a folder with something in it never; what fails leaves nothing behind."""
    (tmp_path / "o.csv").write_text("mine")
    with pytest.raises(DataError, match=r"o\.csv: exists already"):
        write_records([salt("a")], tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text() == "mine"
    write_records([salt("a")], tmp_path / "o.csv", force=True)
    assert [record.identifier for record in read(tmp_path / "o.csv")] == ["a"]
    write_records([salt("a")], tmp_path / "cifs")
    with pytest.raises(DataError, match="cifs: exists already"):
        write_records([salt("a")], tmp_path / "cifs", force=True)
    (tmp_path / "empty").mkdir()
    write_records([salt("a")], tmp_path / "empty")
    for name in ("new.jsonl", "new.csv", "new.parquet", "new"):
        with pytest.raises(DataError, match="b: the structure is not periodic in all directions"):
            write_records([salt("a"), Record("b", molecule("H2O"), {})], tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifs", "empty", "o.csv"]


def test_molecules_go_where_they_can(tmp_path: Path) -> None:
    """Extended XYZ and databases keep what is not periodic."""
    for name in ("o.extxyz", "o.db"):
        write_records([Record("water", molecule("H2O"), {"gap": 1})], tmp_path / name)
        (back,) = read(tmp_path / name)
        assert not back.atoms.pbc.any()
        assert back.values["gap"] == 1


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    """Ids that would be one file, a value in the place of the ids, and an unknown format are told."""
    with pytest.raises(DataError, match=r"a/b: another structure would have the same file .*'a_b\.cif'"):
        write_records([salt("a/b"), salt("a:b")], tmp_path / "cifs")
    with pytest.raises(DataError, match="a value is called 'material_id'"):
        write_records([salt("a", material_id="b")], tmp_path / "o.csv")
    with pytest.raises(DataError, match=r"no such format to write .*'\.pdf'"):
        write_records([salt("a")], tmp_path / "o.pdf")
