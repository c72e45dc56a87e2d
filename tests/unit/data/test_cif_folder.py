"""CGCNN's folders: columns, ids, and what has no counterpart."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from crystals import HALF, NACL, write_cif_folder

from kimgnn.data.cif_folder import read_cif_folder
from kimgnn.data.records import Entry
from kimgnn.data.sources import read_configurations, read_records
from kimgnn.data.targets import TargetSpec
from kimgnn.errors import DataError, Problem


def read(folder: Path, table: str | None = None) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return id -> values, and the problems."""
    items = list(read_cif_folder(folder, table))
    values = {item.identifier: dict(item.values) for item in items if isinstance(item, Entry)}
    return values, [str(item) for item in items if isinstance(item, Problem)]


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("a,1.5\nb,2\n", {"a": {"target": "1.5"}, "b": {"target": "2"}}),
        ("a,1.5,x\nb,,y\n", {"a": {"target_1": "1.5", "target_2": "x"}, "b": {"target_1": "", "target_2": "y"}}),
        ("id,gap\n a , 1.5\n\nb,2\n", {"a": {"gap": "1.5"}, "b": {"gap": "2"}}),
        ("\ufeffa,metal\nb,insulator\n", {"a": {"target": "metal"}, "b": {"target": "insulator"}}),
        (
            'material,gap,"heat, eV"\na,1,2\nb,3,4\n',
            {"a": {"gap": "1", "heat, eV": "2"}, "b": {"gap": "3", "heat, eV": "4"}},
        ),
        ("a\nb\n", {"a": {}, "b": {}}),
    ],
)
def test_columns(tmp_path: Path, table: str, values: dict[str, dict[str, str]]) -> None:
    """A first row that is no id names the columns; words beside an id are its class."""
    folder = write_cif_folder(tmp_path / "data", table, a=NACL, b=NACL)
    assert read(folder) == (values, [])


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """One would take the place of the other."""
    folder = write_cif_folder(tmp_path / "data", "id,gap,gap\na,1,2\n", a=NACL)
    with pytest.raises(DataError, match=r"id_prop\.csv: has several columns of one name \(got 'gap'\)"):
        read(folder)


def test_an_id_in_two_folders(tmp_path: Path) -> None:
    """Two materials of one id in the results would be one too many."""
    for name in ("1", "2"):
        write_cif_folder(tmp_path / name, "a,1\n", a=NACL)
    dataset = {"type": "cif_folder", "path": [str(tmp_path / "1"), str(tmp_path / "2")]}
    with pytest.raises(DataError, match="a, number 2: the id is there already"):
        read_configurations(dataset)


def test_what_has_no_counterpart(tmp_path: Path) -> None:
    """An id without a file, a file without an id, an id twice, and a short row are all told by their id."""
    table = "a,1,2\nmissing1,3,4\na,5,6\nb,7\n,8,9\n"
    folder = write_cif_folder(tmp_path / "data", table, a=NACL, b=NACL, stray=NACL)
    (folder / "atom_init.json").write_text("{}")
    values, problems = read(folder)
    assert values == {"a": {"target_1": "1", "target_2": "2"}}
    assert problems == [
        f"missing1: has no file missing1.cif in {folder}.",
        "a: is there twice, in lines 1 and 3 of id_prop.csv.",
        "b: line 4 of id_prop.csv has the wrong number of values (got 1). Allowed: 2: target_1, target_2.",
        f"{folder / 'id_prop.csv'}, line 5: there is no id.",
        "stray: stray.cif has no row in id_prop.csv.",
    ]


def test_another_table(tmp_path: Path) -> None:
    """Its column bears its name; files that only id_prop.csv lists are left out, those in neither are told."""
    folder = write_cif_folder(tmp_path / "data", "a,1\nb,2\n", a=NACL, b=NACL, c=NACL)
    (folder / "band_gap.csv").write_text("a,1.8\n")
    with pytest.warns(UserWarning, match=r"1 of 3 files are in id_prop\.csv only"):
        values, problems = read(folder, "band_gap.csv")
    assert values == {"a": {"band_gap": "1.8"}}
    assert problems == ["c: c.cif has no row in band_gap.csv."]
    with pytest.raises(DataError, match=r"no such table.*band_gap.csv, id_prop.csv.*Did you mean 'band_gap.csv'"):
        read(folder, "bandgap.csv")


def test_no_folder_no_table(tmp_path: Path) -> None:
    """A file, and an empty table, are told for what they are."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        read(tmp_path / "file")
    folder = write_cif_folder(tmp_path / "data", "\n", a=NACL)
    with pytest.raises(DataError, match="the table is empty"):
        read(folder)


def test_all_that_is_bad_is_told_at_once(tmp_path: Path) -> None:
    """Files, structures and targets together stop a run, or are left out of it with a warning."""
    table = "good,1.5\nhalf,2\ntext,wide\ncut,3\nabsent,4\nlast,\n"
    folder = write_cif_folder(tmp_path / "data", table, good=NACL, half=HALF, text=NACL, cut=NACL[:300], last=NACL)
    dataset = {"type": "cif_folder", "path": str(folder), "targets": {"gap": "target"}}
    targets = [TargetSpec("gap", "number")]
    with pytest.raises(DataError) as caught:
        read_configurations(dataset, targets=targets)
    assert [problem.where for problem in caught.value.problems] == ["absent", "half", "cut", "text (target)"]
    with pytest.warns(UserWarning, match="(?s)4 entries are left out, 2 stay:.*half: a site is partly occupied"):
        configurations = read_configurations(dataset | {"on_error": "skip"}, targets=targets)
    assert [item.identifier for item in configurations] == ["good", "last"]
    assert [item.metadata["index"] for item in configurations] == [0, 1]
    assert configurations[0].metadata["targets"]["gap"].tolist() == [1.5]
    assert str(configurations[1].metadata["targets"]["gap"].tolist()) == "[nan]"
    assert all(configurations[0].PBC)


def test_nothing_left(tmp_path: Path) -> None:
    """Where all entries are bad, skipping them leaves nothing to go on with."""
    folder = write_cif_folder(tmp_path / "data", "half,1\n", half=HALF)
    with pytest.raises(DataError, match="half: a site is partly occupied"):
        read_configurations({"type": "cif_folder", "path": str(folder), "on_error": "skip"})


def test_real_folders(shared_data: Path) -> None:
    """CGCNN's samples read whole, without a warning; the first is rock salt with its eight atoms."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = read_records({"type": "cif_folder", "path": str(shared_data / "cgcnn" / "sample-regression")})
    assert [float(record.values["target"]) for record in records] == [float(number) for number in range(1, 11)]
    assert records[0].atoms.get_chemical_formula() == "Cl4Na4"
