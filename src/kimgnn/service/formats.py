"""The formats of structures, and an entry of a request as it goes to a worker. No third parties: it is everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

Format = Literal["cif", "poscar", "extxyz", "pymatgen", "ase"]

FORMATS: Final[tuple[str, ...]] = get_args(Format)


class Given(NamedTuple):
    """One entry of a request: plain values only.

    Attributes:
        model: What is to predict; empty to have the structures read only.
        identifier: What results and messages call it.
        format: Of ``FORMATS``.
        data: Text, or an object of JSON.
        states: What the model needs to know of it besides.
    """

    model: str
    identifier: str
    format: str
    data: Any
    states: dict[str, Any]


class Answer(NamedTuple):
    """What a worker says to an entry.

    Attributes:
        results: Of its structures, in JSON each; none if there is a problem with one.
        problems: What is wrong with it, the fields of `kimgnn.errors.Problem` each.
        status: Of HTTP.
    """

    results: list[str]
    problems: Sequence[dict[str, Any]] = ()
    status: int = 200
