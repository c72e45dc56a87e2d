"""``kimgnn data``, called as the installed program calls it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ase.build import bulk
from crystals import HALF, NACL, write_cif_folder

from kimgnn.data.records import Record
from kimgnn.data.sources import read_records, source_of

Command = Callable[..., tuple[int, str, str]]

LEFT_OUT = "(?s)2 entries are left out, 2 stay:.*none: has no file.*half: a site is partly occupied"


@pytest.fixture
def data(kimgnn: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run a command of `kimgnn data` in an empty folder; return exit status, output and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # told to the user, not raised
            return kimgnn("data", *arguments)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good crystals, a bad one, and an id without a file."""
    return write_cif_folder(tmp_path / "salts", "a,1.5\nb,\nhalf,2\nnone,3\n", a=NACL, b=NACL, half=HALF)


def test_stats_of_files(data: Command, folder: Path) -> None:
    """What can be read is counted, the rest is told; the picture is a PNG that is not overwritten."""
    status, table, messages = data("stats", folder, folder / "a.cif")
    assert re.search(LEFT_OUT, messages)
    assert status == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert ["structures", "3"] in rows
    assert ["Fm-3m (225)", "3", "100.0"] in rows
    assert ["target", "1", "2", "1.5", "0", "1.5", "1.5", "1.5"] in rows
    assert Path("data_stats.png").read_bytes()[:4] == b"\x89PNG"
    status, _, messages = data("stats", folder)
    assert (status, "data_stats.png: exists already" in messages) == (1, True)
    assert data("stats", folder / "a.cif", "--output", "other.png")[0] == 0
    assert data("stats", folder / "a.cif", "--force")[0] == 0


def test_a_manifest_says_what_to_do(data: Command, folder: Path) -> None:
    """Its columns are taken, and its word on bad entries holds."""
    dataset = {"type": "cif_folder", "path": str(folder), "on_error": "stop"}
    manifest = {
        "dataset": dataset,
        "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}},
        "model": {"architecture": "schnet"},
    }
    Path("m.yaml").write_text(yaml.safe_dump(manifest))
    status, _, messages = data("stats", "m.yaml")
    assert status == 1
    assert "none: has no file" in messages
    assert "half: a site is partly occupied" in messages
    Path("m.yaml").write_text(yaml.safe_dump(manifest | {"dataset": dataset | {"on_error": "skip", "slices": ":1"}}))
    status, output, messages = data("convert", "m.yaml", "one.jsonl")
    assert "none: has no file" not in messages  # it lies behind the slice
    assert (status, output) == (0, "1 structures in one.jsonl\n")


def test_convert(data: Command, folder: Path, tmp_path: Path) -> None:
    """Files of several formats become one, with their ids and values; nothing is overwritten unasked."""
    from kimgnn.data.convert import write_records

    write_records([Record("si", bulk("Si"), {"target": 4})], tmp_path / "si.db")
    status, output, messages = data("convert", folder, "si.db", "all.parquet")
    assert re.search(LEFT_OUT, messages)
    assert (status, output) == (0, "3 structures in all.parquet\n")
    records = read_records(source_of(Path("all.parquet")))
    assert [(record.identifier, len(record.atoms)) for record in records] == [("a", 8), ("b", 8), ("si", 2)]
    assert [record.values["target"] for record in records][::2] == [1.5, 4]
    assert data("convert", "si.db", "all.parquet")[0] == 1
    assert data("convert", "si.db", "si.db", "--force")[0] == 0
    assert data("convert", "all.parquet", "back")[0] == 0
    assert Path("back/id_prop.csv").read_text().splitlines() == ["material_id,target", "a,1.5", "b,", "si,4.0"]


def test_errors_are_one_line_each(data: Command) -> None:
    """A file that is not there, and a format that is none."""
    status, output, messages = data("stats", "none.csv")
    assert (status, output) == (1, "")
    assert "none.csv: there is no such file or folder" in messages
    assert "Traceback" not in messages
