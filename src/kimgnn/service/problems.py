"""Problems of errors in plain values, as they go from process to process and into answers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from kimgnn.errors import KimgnnError, Problem

SHOWN: Final = 200
"""Characters of a value that a message repeats."""


def problems_of(error: KimgnnError) -> list[dict[str, Any]]:
    """Return the problems of an error in plain values."""
    return [plain_problem(problem) for problem in error.problems]


def plain_problem(problem: Problem) -> dict[str, Any]:
    """Return a problem in plain values that go into JSON; a long value is cut."""
    plain = {field.name: getattr(problem, field.name) for field in fields(problem)}
    value = plain["value"]
    if isinstance(value, str):
        plain["value"] = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    elif not (value is None or isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0)):
        plain["value"] = repr(value)[:SHOWN]
    return plain
