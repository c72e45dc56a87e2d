"""From pydantic's errors to `kimgnn.errors.Problem`. The only place that knows pydantic's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kimgnn.errors import Problem, did_you_mean
from kimgnn.manifest.source import join

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def problems_of(
    error: ValidationError, schema: type, data: object, where: str, unknown: str = "unknown key"
) -> list[Problem]:
    """Return one problem for each thing that ``error`` says is wrong with ``data``.

    Where a value may be of several types, pydantic complains once a type. The complaint that got furthest into the
    value tells what the user meant; where all stopped at the value itself, they are told as one.

    Args:
        error: What pydantic raised.
        schema: The class that was validated: a pydantic model or an options dataclass.
        data: What was validated.
        where: Dotted path of ``data`` in the manifest.
        unknown: What to say of a key that ``schema`` does not have.
    """
    groups: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    alternatives = set()
    for detail in error.errors(include_url=False):
        path = _path(detail, data)
        groups.setdefault(path, []).append(detail)
        if len(path) < len(detail["loc"]):
            alternatives.add(path)
    problems = []
    for path, details in groups.items():
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in groups)
        if path in alternatives and deeper:
            continue
        place = where
        for part in path:
            place = join(place, part)
        problems.append(_problem(details, schema, path, place, unknown))
    return problems


def _path(detail: ErrorDetails, data: Any) -> tuple[int | str, ...]:
    """Return the error's location without the names that pydantic gives to a value's alternative types."""
    path: list[int | str] = []
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (index == last and detail["type"] in _MISSING):
            continue
        path.append(part)
    return tuple(path)


def _problem(details: list[ErrorDetails], schema: type, path: Sequence[int | str], where: str, unknown: str) -> Problem:
    # Of several alternatives, one that liked the type and refused the value says more than those that did not.
    detail = next((detail for detail in details if not _phrases(detail)), details[0])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _MISSING:
        return Problem(where, "is missing")
    if kind in _UNKNOWN:
        names = _names_at(schema, path[:-1])
        return Problem(where, unknown, None, ", ".join(names), did_you_mean(str(path[-1]), names))
    if kind == "wrong":
        return Problem(where, context["message"], value, context["allowed"], context["remedy"])
    if not _phrases(detail):
        message = str(context["error"]) if kind == "value_error" else detail["msg"].replace("Input should", "must")
        return Problem(where, message, value)
    phrases = list(dict.fromkeys(phrase for detail in details for phrase in _phrases(detail)))
    choices = [phrase.strip("'") for phrase in phrases if phrase.startswith("'")]
    if choices:
        remedy = did_you_mean(value, choices) if isinstance(value, str) else ""
        return Problem(where, "unknown value", value, ", ".join(phrases), remedy)
    quotes = "text" in phrases and isinstance(value, int | float)
    remedy = "Put it in quotes: YAML reads it as something else." if quotes else ""
    return Problem(where, f"must be {', or '.join(phrases)}", value, remedy=remedy)


def _phrases(detail: ErrorDetails) -> list[str]:
    """Return what one of pydantic's errors would have accepted, in words, where it is a matter of type or choice."""
    if detail["type"] == "literal_error":
        return re.findall(r"'[^']*'", detail["ctx"]["expected"])
    return [_TYPES[detail["type"]]] if detail["type"] in _TYPES else []


def _names_at(schema: type, path: Sequence[int | str]) -> list[str]:
    """Return the keys that ``schema`` has at ``path``."""
    for part in path:
        if part in _names(schema):
            inner = _schemas(_annotation(schema, str(part)))
            schema = inner[0] if inner else schema
    return _names(schema)


def _names(schema: type) -> list[str]:
    if is_dataclass(schema):
        return [field.name for field in fields(schema)]
    return sorted(schema.model_fields, key="extra".__eq__) if issubclass(schema, BaseModel) else []


def _annotation(schema: type, name: str) -> Any:
    return schema.model_fields[name].annotation if issubclass(schema, BaseModel) else get_type_hints(schema)[name]


def _schemas(annotation: Any) -> list[type]:
    """Return the models and dataclasses that an annotation speaks of."""
    if isinstance(annotation, type) and (is_dataclass(annotation) or issubclass(annotation, BaseModel)):
        return [annotation]
    return [schema for inner in get_args(annotation) for schema in _schemas(inner)]
