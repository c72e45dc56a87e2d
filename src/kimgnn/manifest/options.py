"""Options that belong to a named class: an architecture, a head, a transform, an optimizer, a scheduler."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from kimgnn.errors import KimgnnError, Problem
from kimgnn.manifest.report import problems_of
from kimgnn.manifest.source import join

Checked = tuple[dict[str, Any], list[Problem]]
"""Options with every default filled, and what is wrong with them (they are as given when something is)."""


def check_dataclass(cls: type, options: dict[str, Any], where: str, owner: str) -> Checked:
    """Check ``options`` against a frozen dataclass of options, its own range checks included.

    Args:
        cls: The dataclass, a `kimgnn.nn.options.Options`.
        options: As the manifest gives them.
        where: Their dotted path.
        owner: The name they belong to, for messages.
    """
    unknown = f"unknown option of {owner!r}"
    try:
        # Strict, so that `true` is not 1; by way of JSON, so that a list may still be a tuple.
        checked: Any = TypeAdapter(cls).validate_json(json.dumps(options), strict=True)
    except ValidationError as error:
        return options, [_name_option(p, cls, where) for p in problems_of(error, cls, options, where, unknown)]
    except KimgnnError as error:
        return options, [replace(p, where=join(where, p.where) if p.where else where) for p in error.problems]
    return json.loads(json.dumps(asdict(checked))), []


def _name_option(problem: Problem, cls: type, where: str) -> Problem:
    """A range check says 'cutoff must be positive' of the options as a whole: move the name into the path."""
    name, _, rest = problem.message.partition(" ")
    if problem.where == where and name in {field.name for field in fields(cls)}:
        return Problem(join(where, name), rest)
    return problem


def check_call(
    function: Callable[..., Any], options: dict[str, Any], where: str, owner: str, skip: set[str], typed: bool = True
) -> Checked:
    """Check ``options`` against the arguments that a class or function takes by name.

    Args:
        function: What will be called with the options.
        options: As the manifest gives them.
        where: Their dotted path.
        owner: The name they belong to, for messages.
        skip: Arguments that are not the user's to give.
        typed: Trust the annotations, and fill the defaults. Otherwise only the names are checked.
    """
    model = _arguments(function, skip, typed)
    try:
        checked = model.model_validate(options)
    except ValidationError as error:
        return options, problems_of(error, model, options, where, f"unknown option of {owner!r}")
    return checked.model_dump(mode="json", warnings=False) if typed else options, []


def _arguments(function: Callable[..., Any], skip: set[str], typed: bool) -> type[BaseModel]:
    """Return a model with a field for each argument of ``function``."""
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function) if typed else {}
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in skip and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            default = ... if parameter.default is parameter.empty else parameter.default
            arguments[name] = (hints.get(name, Any), default)
    return create_model("Arguments", __config__=ConfigDict(extra="forbid", strict=True), **arguments)
