"""matbench's files: index, structures and targets; what is of another layout is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from crystals import POSCAR
from pymatgen.core.structure import Structure

from kimgnn.data.sources import read_configurations, source_of
from kimgnn.data.targets import TargetSpec
from kimgnn.errors import DataError

SILICON = Structure.from_str(POSCAR, fmt="poscar").as_dict()


@pytest.mark.parametrize("name", ["matbench_gap.json", "matbench_gap.json.gz"])
def test_matbench(tmp_path: Path, name: str) -> None:
    """Ids are the file's index; the other column is the target."""
    content = {"index": ["mb-gap-1", "mb-gap-2"], "columns": ["structure", "gap pbe"]}
    text = json.dumps(content | {"data": [[SILICON, 1.5], [SILICON, None]]}).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    dataset = {"type": "matbench", "path": str(tmp_path / name), "targets": {"gap": "gap pbe"}}
    items = read_configurations(dataset, targets=[TargetSpec("gap", "number")])
    assert [item.identifier for item in items] == ["mb-gap-1", "mb-gap-2"]
    assert str([item.metadata["targets"]["gap"].item() for item in items]) == "[1.5, nan]"
    assert list(items[0].species) == ["Si", "Si"]
    assert source_of(tmp_path / name)["type"] == "matbench"


def test_without_index_and_without_structure(tmp_path: Path) -> None:
    """Without an index rows are counted from 0; a row without structure is told by its number."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"columns": ["structure"], "data": [[SILICON], [None]]}))
    with pytest.warns(UserWarning, match="1: there is no structure"):
        (item,) = read_configurations({"type": "matbench", "path": str(path), "on_error": "skip"})
    assert item.identifier == "0"


def test_an_id_that_is_there_twice(tmp_path: Path) -> None:
    """Is told, or the first is kept."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"index": ["mb-1", "mb-1"], "columns": ["structure"], "data": [[SILICON], [SILICON]]}))
    with pytest.raises(DataError, match="mb-1, number 2: the id is there already"):
        read_configurations({"type": "matbench", "path": str(path)})
    with pytest.warns(UserWarning, match="1 entries are left out, 1 stay"):
        assert len(read_configurations({"type": "matbench", "path": str(path), "on_error": "skip"})) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read"),
        ("[1]", "is not a matbench file .*|type 'table'"),
        ('{"columns": ["composition", "gap"], "data": []}', "no structures .*composition, gap"),
        ('{"columns": ["structure"], "data": [[1, 2]]}', "does not have all columns"),
        ('{"columns": ["structure"], "data": [], "index": [1]}', "index and data differ in length"),
        ('{"columns": ["structure", "gap", "gap"], "data": []}', "several columns of one name .got 'gap'"),
    ],
)
def test_other_files(tmp_path: Path, content: str, message: str) -> None:
    """Each is told by the file's name."""
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_configurations({"type": "matbench", "path": str(tmp_path / "m.json")})
