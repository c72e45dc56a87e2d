"""What the block of the Materials Project takes and refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kimgnn.manifest.materials_project import MaterialsProject, check_materials_project
from kimgnn.manifest.report import problems_of


def problems(data: dict[str, Any]) -> dict[str, str]:
    """Return where -> message of what is wrong."""
    try:
        block = MaterialsProject.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, MaterialsProject, data, "dataset.materials_project")
    else:
        found = list(check_materials_project(block, "dataset.materials_project"))
    return {problem.where.removeprefix("dataset.materials_project").lstrip("."): str(problem) for problem in found}


@pytest.mark.parametrize(
    "data",
    [
        {"ids": ["mp-149", "mvc-12", "mp-aaaaaaft"]},
        {"ids": "ids.csv", "fields": ["band_gap", "bulk_modulus.vrh"]},
        {"criteria": {"elements": ["Li", "O"], "num_elements": 3, "energy_above_hull": [None, 0.05]}},
        {"criteria": {"num_elements": [2, 4], "band_gap": [0.5, None], "is_metal": False}, "folder": "here"},
    ],
)
def test_what_is_right(data: dict[str, Any]) -> None:
    assert not problems(data)


def test_the_whole_database_is_not_asked_for() -> None:
    for data in ({}, {"ids": []}, {"criteria": {}}, {"criteria": {"band_gap": None}}):
        assert "would be the whole database" in problems(data)["ids"]


def test_ids_and_criteria_do_not_go_together() -> None:
    assert "beside ids" in problems({"ids": ["mp-1"], "criteria": {"elements": ["Si"]}})["criteria"]


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        ({"ids": ["149"]}, "ids.0", "is not an id of the Materials Project (got '149'). Allowed: such as mp-149"),
        ({"criteria": {"band_gap": [2.0, 1.0]}}, "criteria.band_gap", "begins above its end"),
        ({"criteria": {"band_gap": [2.0]}}, "criteria.band_gap", "2"),
        ({"criteria": {"num_elements": 0}}, "criteria.num_elements", "1"),
        ({"criteria": {"element": ["Si"]}}, "criteria.element", "Did you mean 'elements'"),
        ({"ids": ["mp-1"], "key": "secret"}, "key", "unknown key"),
    ],
)
def test_what_is_wrong(data: dict[str, Any], where: str, message: str) -> None:
    assert message in problems(data)[where]


def test_no_key_is_shown_in_a_message() -> None:
    assert "secret" not in problems({"ids": ["mp-1"], "api_key": "secret"})["api_key"]
