"""Which class a value in the data means: said once, for what is learned and for what is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def class_index(raw: Any, names: Sequence[str]) -> int | None:
    """Return the index of a class by its name, as a truth value (of two), or as the index itself; else ``None``.

    A number is an index unless the classes are called by numbers themselves.

    Args:
        raw: Text, number, truth value, or a NumPy scalar.
        names: Names of the classes, in their order.
    """
    value = raw.item() if getattr(raw, "size", 0) == 1 else raw
    text = str(value).strip()
    if text in names:
        return names.index(text)
    whole = _whole(value)
    if whole in names:  # 1.0 for a class called 1
        return names.index(whole)
    truth = {"true": 1, "false": 0}.get(text.lower())
    if truth is not None and len(names) == 2:
        named = [name.lower() for name in names]
        return named.index(text.lower()) if text.lower() in named else truth
    if whole and not are_numbers(names) and 0 <= int(whole) < len(names):
        return int(whole)
    return None


def are_numbers(names: Sequence[str]) -> bool:
    """Return whether a class is called by a number."""
    return any(name.lstrip("+-").isdigit() for name in names)


def _whole(value: Any) -> str:
    """Return a whole number's digits; nothing of what is none. Python would take 1_000 for one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return str(int(number)) if number.is_integer() else ""
