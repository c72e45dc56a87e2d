"""What belongs to one type of data is refused with another, and a target needs a head."""

from __future__ import annotations

from typing import Any

import pytest

from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest


def load(**dataset: Any) -> dict[str, Any]:
    manifest = {
        "dataset": dataset,
        "transforms": {"configuration": {"kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
        "model": {"architecture": "schnet"},
    }
    loaded: dict[str, Any] = load_manifest(manifest).to_dict()["dataset"]
    return loaded


@pytest.mark.parametrize(
    "dataset",
    [
        {"type": "table", "path": "a.csv", "id_column": "id", "structure_column": "cif", "on_error": "skip"},
        {"type": "CIF_folder", "path": "cifs", "table": "band_gap.csv", "cache": True},
        {"type": "matbench", "path": ["a.json.gz"], "cache": "cache"},
        {"type": "ase", "path": "a.db", "id_column": "name"},
        {"type": "materials_project", "materials_project": {"ids": ["mp-149"], "fields": ["band_gap"]}},
    ],
)
def test_types(dataset: dict[str, Any]) -> None:
    """Every type is taken with what belongs to it; nothing is lost on the way."""
    loaded = load(**dataset)
    assert loaded["type"] == dataset["type"].lower()
    assert {key: loaded[key] for key in dataset if key not in ("type", "materials_project")} == {
        key: value for key, value in dataset.items() if key not in ("type", "materials_project")
    }


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"type": "tabel", "path": "a"}, r"dataset\.type.*'tabel'"),
        ({"type": "table"}, r"dataset\.path: is missing"),
        ({"type": "ase", "path": "a", "table": "t.csv"}, r"dataset\.table: belongs to type cif_folder, not to ase"),
        ({"type": "matbench", "path": "a", "id_column": "i"}, r"dataset\.id_column: belongs to type table or ase"),
        ({"path": "a", "structure_column": "i"}, r"dataset\.structure_column: belongs to type table, not to path"),
        ({"type": "materials_project"}, r"dataset\.materials_project: is missing"),
        ({"type": "materials_project", "materials_project": {}}, r"dataset\.materials_project\.ids: is missing"),
        ({"path": "a", "materials_project": {"ids": ["mp-1"]}}, "belongs to type materials_project"),
        ({"path": "a", "on_error": "ignore"}, r"dataset\.on_error.*stop.*skip"),
        ({"path": "a", "targets": {"gap": "band_gap"}}, r"dataset\.targets\.gap: no head has this target"),
    ],
)
def test_what_does_not_belong(dataset: dict[str, Any], message: str) -> None:
    """Each is told with its place."""
    with pytest.raises(ManifestError, match=message):
        load(**dataset)
