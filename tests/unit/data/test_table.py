"""Tables in every format: the same rows; columns found, and told when they are not there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from crystals import NACL, POSCAR
from pyarrow import parquet as pq
from pymatgen.core.structure import Structure

from kimgnn.data.labels import has_label
from kimgnn.data.records import Entry
from kimgnn.data.sources import read_configurations, source_of
from kimgnn.data.table import read_table
from kimgnn.data.targets import TargetSpec
from kimgnn.errors import DataError, Problem
from kimgnn.fields import LABELS

SILICON = Structure.from_str(POSCAR, fmt="poscar").as_dict()
for part in (SILICON, *SILICON["sites"]):
    part.pop("properties")  # Parquet has no empty mappings


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of the name."""
    frame, name = pd.DataFrame(rows), path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
        return path
    lines = "\n".join(map(json.dumps, rows)) + "\n"
    text = {
        ".csv": lambda: frame.to_csv(index=False),
        "jsonl": lambda: lines,
        "djson": lambda: lines,
        ".json": lambda: json.dumps(rows),
    }[name[-5:] if not name.endswith(".csv") else ".csv"]()
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def entries(path: Path, **options: str) -> list[Entry]:
    items = list(read_table(path, **options))
    assert all(isinstance(item, Entry) for item in items)
    return items  # type: ignore[return-value]


NAMES = ["t.csv", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.ndjson", "t.json", "t.json.gz", "t.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_formats(tmp_path: Path, name: str) -> None:
    """A table of CIF text is the same in every format."""
    rows = [{"material_id": "mp-1", "cif": NACL, "gap": 1.5}, {"material_id": "mp-2", "cif": NACL, "gap": None}]
    path = write(tmp_path / name, rows)
    first, second = read_configurations({"type": "table", "path": str(path)}, targets=[TargetSpec("gap", "number")])
    assert (first.identifier, second.identifier) == ("mp-1", "mp-2")
    assert sorted(first.species) == ["Cl"] * 4 + ["Na"] * 4
    assert first.metadata["targets"]["gap"].tolist() == [1.5]
    assert np.isnan(second.metadata["targets"]["gap"]).all()
    assert source_of(path) == {"type": "table", "path": str(path)}


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_pymatgen_dicts(tmp_path: Path, name: str) -> None:
    """pymatgen dicts, as mappings or as their JSON, are structures."""
    rows = [{"id": number, "structure": SILICON if name != "t.csv" else json.dumps(SILICON)} for number in (7, 8)]
    items = read_configurations({"type": "table", "path": str(write(tmp_path / name, rows))})
    assert [(item.identifier, list(item.species)) for item in items] == [("7", ["Si", "Si"]), ("8", ["Si", "Si"])]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_lattice_species_coords(tmp_path: Path, name: str) -> None:
    """Three columns make a structure, and are none of its values."""
    row = {
        "lattice": np.diag([3.0, 4, 5]).tolist(),
        "species": ["Cu", "O"],
        "frac_coords": [[0, 0, 0], [0.5] * 3],
        "q": 1,
    }
    path = write(tmp_path / name, [row])
    (entry,) = entries(path)
    assert entry.identifier == f"{path}:0"
    assert list(entry.values) == ["q"]
    (item,) = read_configurations({"type": "table", "path": str(path)})
    np.testing.assert_allclose(item.coords, [[0, 0, 0], [1.5, 2, 2.5]])
    np.testing.assert_allclose(item.cell, np.diag([3.0, 4, 5]))


def test_columns_asked_for(tmp_path: Path) -> None:
    """Of two structures the one that is named is taken; so is the id."""
    rows = [{"name": "salt", "key": "k1", "relaxed": NACL, "start": POSCAR}]
    path = write(tmp_path / "t.csv", rows)
    (entry,) = entries(path)
    assert (entry.identifier, entry.source) == ("salt", NACL)
    (entry,) = entries(path, id_column="key", structure_column="start")
    assert (entry.identifier, entry.source) == ("k1", POSCAR)
    assert entry.values == {"name": "salt", "relaxed": NACL}
    with pytest.raises(
        DataError, match=r"dataset\.structure_column: .* no such column .*'strat'.*Did you mean 'start'"
    ):
        entries(path, structure_column="strat")


def test_no_structure_column(tmp_path: Path) -> None:
    """A table without structures says which columns it has."""
    path = write(tmp_path / "t.csv", [{"id": "a", "gap": 1.0}])
    with pytest.raises(DataError, match="no column of structures .*id, gap.*Allowed: CIF"):
        entries(path)


def test_rows_without_a_structure(tmp_path: Path) -> None:
    """A row without a structure, and a line that is no JSON, are told; the others are read."""
    path = write(tmp_path / "t.jsonl", [{"id": "a", "cif": NACL}, {"id": "b", "cif": None}, {"id": "c"}])
    path.write_text(path.read_text() + '{"id": "d"\n[1]\n')
    items = list(read_table(path))
    assert [item.identifier for item in items if isinstance(item, Entry)] == ["a"]
    assert [item.where for item in items if isinstance(item, Problem)] == [
        f"{path}, line 4",
        f"{path}, line 5",
        "b",
        "c",
    ]


def test_other_json(tmp_path: Path) -> None:
    """pandas' columns and matminer's layout are tables too; a number is not."""
    frame = pd.DataFrame({"id": ["a", "b"], "structure": [SILICON, SILICON]})
    frame.to_json(tmp_path / "columns.json")
    frame.to_json(tmp_path / "split.json", orient="split")
    for name in ("columns.json", "split.json"):
        assert [entry.identifier for entry in entries(tmp_path / name)] == ["a", "b"]
    (tmp_path / "number.json").write_text("3")
    with pytest.raises(DataError, match="is not a table"):
        entries(tmp_path / "number.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "cannot be read"),
        ("t.csv", b"id,cif\n", "has no rows"),
        ("t.csv", b"id,cif\na,b,c\n", "cannot be read"),
        ("t.csv", b"id,cif\na,b\nc,d,e\n", "cannot be read"),
        ("t.csv.gz", b"id,cif\n", "cannot be read"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.json", b"[", "cannot be read"),
        ("t.xlsx", b"", "is not a table"),
        ("t.json", b'{"columns": ["a"], "data": [[1, 2]]}', "a row does not have all columns"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """A file that is no table is told by its name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        entries(tmp_path / name)


def test_repeated_ids(tmp_path: Path) -> None:
    """Copies could be in two parts of a split: all are told, or the first of each id is kept."""
    rows = [{"id": name, "cif": NACL, "gap": gap} for name, gap in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("a", 4.0))]
    dataset = {"type": "table", "path": str(write(tmp_path / "t.csv", rows))}
    targets = [TargetSpec("gap", "number")]
    with pytest.raises(DataError) as caught:
        read_configurations(dataset, targets=targets)
    assert [(item.where, item.message) for item in caught.value.problems] == [
        ("a, number 2", "the id is there already"),
        ("a, number 3", "the id is there already"),
    ]
    with pytest.warns(UserWarning, match=r"(?s)2 entries are left out, 2 stay:.*a, number 2: .*\na, number 3: "):
        items = read_configurations(dataset | {"on_error": "skip"}, targets=targets)
    assert [(item.identifier, item.metadata["targets"]["gap"].item()) for item in items] == [("a", 1.0), ("b", 2.0)]
    # A slice takes rows before anything is left out, and copies outside of it do not count.
    assert len(read_configurations(dataset | {"slices": ":2"})) == 2


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """One would take the place of the other; columns without a name may be several, as those of an index are."""
    (tmp_path / "t.csv").write_text(f'id,gap,cif,gap,n,n\na,1,"{NACL}",2,3,4\n')
    columns = pa.table([["a"], [1.0], [2.0]], names=["id", "gap", "gap"])
    pq.write_table(columns, tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps({"columns": ["id", "gap", "gap"], "data": [["a", 1, 2]]}))
    for name, doubled in (("t.csv", "gap, n"), ("t.parquet", "gap"), ("t.json", "gap")):
        with pytest.raises(DataError, match=rf"{name}: has several columns of one name \(got '{doubled}'\)"):
            entries(tmp_path / name)
    (tmp_path / "t.csv").write_text(f',,id,cif\n0,0,a,"{NACL}"\n')
    assert [entry.identifier for entry in entries(tmp_path / "t.csv")] == ["a"]


def test_energies_of_a_table(tmp_path: Path) -> None:
    """Energy, forces and stress in columns are labels, under their keys and in their units."""
    row = {
        "lattice": np.eye(3).tolist(),
        "species": ["H", "H"],
        "coords": [[0, 0, 0], [0.5] * 3],
        "e_total": 2.0,
        "forces": [[1, 2, 3], [-1, -2, -3]],
        "stress": [1, 2, 3, 4, 5, 6],
        "bonds": [[1], [2, 3]],
    }
    for name in ("t.csv", "t.jsonl"):
        dataset = {"type": "table", "path": str(write(tmp_path / name, [row]))}
        (item,) = read_configurations(dataset | {"keys": {"energy": "e_total"}, "units": {"energy": "meV"}})
        assert item.energy == pytest.approx(0.002)
        np.testing.assert_allclose(item.forces, [[1, 2, 3], [-1, -2, -3]])
        np.testing.assert_allclose(item.stress, [1, 2, 3, 4, 5, 6])


def test_columns_that_no_energy_head_reads(tmp_path: Path) -> None:
    """They may hold anything, also for atoms in no order; a target of such a name is read as a target."""
    row = {"id": "a", "cif": NACL, "energy": 2.5, "forces": [[0.0] * 3] * 8, "stress": "high"}
    dataset = {"type": "table", "path": str(write(tmp_path / "t.jsonl", [row]))}
    (item,) = read_configurations(dataset, targets=[TargetSpec("energy", "number")], labels=())
    assert item.metadata["targets"]["energy"].tolist() == [2.5]
    assert not any(has_label(item, label) for label in LABELS)
    with pytest.raises(DataError, match=r"a \(forces\): the atoms of a CIF are in no order"):
        read_configurations(dataset)
    write(tmp_path / "t.jsonl", [row | {"forces": "none"}])
    with pytest.raises(DataError, match=r"a \(stress\): the stress is not numeric"):
        read_configurations(dataset)


def test_values_of_atoms_need_an_order(tmp_path: Path) -> None:
    """Atoms of a CIF are sorted when they are read: forces and charges would go to others. A dict keeps the order."""
    rows = [{"id": "a", "structure": NACL, "charge": [1.0] * 4 + [-1.0] * 4, "forces": None}]
    dataset = {"type": "table", "path": str(write(tmp_path / "t.jsonl", rows))}
    charge = TargetSpec("charge", "number", per_atom=True)
    assert len(read_configurations(dataset)) == 1
    with pytest.raises(DataError, match=r"a \(charge\): the atoms of a CIF are in no order"):
        read_configurations(dataset, targets=[charge])
    write(tmp_path / "t.jsonl", [{"id": "a", "structure": NACL, "forces": [[0.0] * 3] * 8}])
    with pytest.raises(DataError, match=r"a \(forces\): the atoms of a CIF are in no order"):
        read_configurations(dataset)
    structure = Structure(np.eye(3) * 4, ["Cl", "Na"], [[0, 0, 0], [0.5] * 3])
    write(tmp_path / "t.jsonl", [{"id": "a", "structure": structure.as_dict(), "charge": [-1.0, 1.0]}])
    (item,) = read_configurations(dataset, targets=[charge])
    assert list(zip(item.species, item.metadata["targets"]["charge"].ravel(), strict=True)) == [("Cl", -1), ("Na", 1)]


def test_slices_count_rows(tmp_path: Path) -> None:
    """A slice takes rows, over all tables together, and leaves the others unread."""
    rows = [{"id": str(number), "cif": NACL if number != 2 else "broken"} for number in range(4)]
    paths = [str(write(tmp_path / name, rows)) for name in ("1.csv", "2.csv")]
    items = read_configurations({"type": "table", "path": paths, "slices": "3:6"})
    assert [item.identifier for item in items] == ["3", "0", "1"]
    with pytest.raises(DataError, match=r"dataset\.slices: no structure is left"):
        read_configurations({"type": "table", "path": paths, "slices": "100:"})


def test_real_tables(shared_data: Path) -> None:
    """Real tables of CIF text, and of lattices with labels that are missing, read as published."""
    folder = shared_data / "crystals"
    dataset = {"type": "table", "path": str(folder / "perov_5_train.csv.gz"), "slices": ":20"}
    items = read_configurations(dataset, targets=[TargetSpec("heat_all", "number")])
    assert items[0].identifier == "18517"
    assert items[0].metadata["targets"]["heat_all"].tolist() == [2.76]
    assert {len(item.species) for item in items} == {5}
    targets = [TargetSpec("last_phdos_peak", "number"), TargetSpec("pot_ferroelectric", "class")]
    dataset = {"type": "table", "path": str(folder / "mp_dfpt_multi.jsonl.gz")}
    items = read_configurations(dataset, targets=targets)
    assert len(items) == 2300
    assert sum(bool(np.isfinite(item.metadata["targets"]["last_phdos_peak"]).all()) for item in items) == 1258
    labels = np.concatenate([item.metadata["targets"]["pot_ferroelectric"] for item in items])
    assert [int((labels == index).sum()) for index in (0, 1)] == [313, 641]
