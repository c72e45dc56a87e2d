"""The `dataset.materials_project` block: which materials, and which of their properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from kimgnn.errors import Problem
from kimgnn.manifest.block import Block, InputPath, Text, wrong


def _is_range(limits: list[float | None]) -> list[float | None]:
    low, high = limits
    if low is not None and high is not None and low > high:
        raise wrong("begins above its end")
    return limits


def _is_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]+-[0-9A-Za-z]+", text):
        raise wrong("is not an id of the Materials Project", allowed="such as mp-149")
    return text


Range = Annotated[list[float | None], Field(min_length=2, max_length=2), AfterValidator(_is_range)]
Count = Annotated[int, Field(ge=1)]
CountRange = Annotated[list[Count | None], Field(min_length=2, max_length=2), AfterValidator(_is_range)]
Identifier = Annotated[Text, AfterValidator(_is_id)]


class Criteria(Block):
    """What the materials must meet, all of it; a range is `[lowest, highest]`, with `null` for no limit."""

    elements: list[Text] | None = None
    """Elements that a material has, and perhaps others."""
    exclude_elements: list[Text] | None = None
    """Elements that it has not."""
    chemsys: list[Text] | None = None
    """Chemical systems, of which it is one: `Li-Fe-O`, `Si-*`."""
    num_elements: Count | CountRange | None = None
    """How many elements."""
    num_sites: Count | CountRange | None = None
    """How many atoms in its cell."""
    energy_above_hull: Range | None = None
    """Distance from the convex hull, eV/atom."""
    formation_energy: Range | None = None
    """Formation energy, eV/atom."""
    band_gap: Range | None = None
    """Band gap, eV."""
    is_stable: bool | None = None
    """It lies on the convex hull."""
    is_metal: bool | None = None
    """It is a metal."""


class MaterialsProject(Block):
    """Structures of the Materials Project, through mp-api; the key is read from the variable `MP_API_KEY`."""

    ids: InputPath | list[Identifier] | None = None
    """Ids of materials or of tasks, or a file with one a line; what a task became is found, and taken once."""
    criteria: Criteria | None = None
    """What the materials must meet, instead of `ids`."""
    fields: list[Text] = Field(default_factory=list)
    """Properties to get: fields of a summary, such as `band_gap`, or parts of one, such as `bulk_modulus.vrh`."""
    folder: Text = "materials_project"
    """Folder that keeps what was downloaded; a download that broke off goes on from there."""


def check_materials_project(block: MaterialsProject, where: str) -> Iterator[Problem]:
    """Yield what does not go together.

    Args:
        block: The block.
        where: Its dotted path.
    """
    given = any(value is not None for name, value in block.criteria or () if name != "extra")
    if block.ids and given:
        yield Problem(f"{where}.criteria", "is there beside ids", remedy="Keep one of them.")
    elif not block.ids and not given:
        remedy = "Name materials in ids, or say in criteria what they must meet."
        yield Problem(f"{where}.ids", "is missing: that would be the whole database", remedy=remedy)
