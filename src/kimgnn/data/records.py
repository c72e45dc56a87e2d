"""What every data source is read into: a structure, what to call it, and all labels its source has for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ase

from kimgnn.errors import Problem

Source = str | Mapping[str, Any] | Path
"""What a structure is parsed from: text, a mapping, or the path of a CIF file."""


@dataclass(frozen=True)
class Record:
    """One structure of a source.

    Attributes:
        identifier: What messages and results call it: its id in the source, or ``file.xyz:12``.
        atoms: The structure; a crystal is periodic in all three directions.
        values: Column or key -> raw value, as found: numbers, text, lists; ``None``, ``''`` and NaN are missing.
        in_order: The atoms are in the order of the source; those of a CIF are in none, which has symmetric copies.
    """

    identifier: str
    atoms: ase.Atoms
    values: Mapping[str, Any]
    in_order: bool = True


@dataclass(frozen=True)
class Entry:
    """A record whose structure is still to be parsed.

    Attributes:
        identifier: As of a `Record`.
        source: CIF or POSCAR text, a pymatgen dict or its JSON, a mapping with ``lattice``, ``species`` and
            ``frac_coords`` or ``coords``, or a CIF file's path.
        values: As of a `Record`.
    """

    identifier: str
    source: Source
    values: Mapping[str, Any]


Item = TypeVar("Item", Record, Entry)


def set_aside(items: Iterable[Item | Problem], problems: list[Problem]) -> Iterator[Item]:
    """Yield what could be read; what could not goes to ``problems``."""
    for item in items:
        if isinstance(item, Problem):
            problems.append(item)
        else:
            yield item
