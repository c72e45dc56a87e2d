"""From what the user gives, a YAML file or a dict, to plain values that JSON can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml

from kimgnn.errors import ManifestError, Problem

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", re.ASCII)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} is there twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        ManifestError: The file cannot be read, is empty, is not YAML, or holds something else than a mapping.
    """
    where = str(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ManifestError(f"cannot read the manifest: {error.strerror}", where=where) from error
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is not None:
            where += f":{error.problem_mark.line + 1}:{error.problem_mark.column + 1}"
        raise ManifestError(f"is not valid YAML: {error.problem}", where=where) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError("is not a text file in UTF-8", where=where) from error
    if content is None:
        raise ManifestError("the manifest is empty", where=where)
    if not isinstance(content, dict):
        raise ManifestError(
            "must be a mapping of the blocks of a manifest",
            where=where,
            value=type(content).__name__,
            remedy="Begin with 'dataset:', 'model:' and so on, at the left margin.",
        )
    return content


def plain(value: Any, where: str, problems: list[Problem]) -> Any:
    """Return ``value`` in plain Python types: paths as text, numpy scalars and arrays as numbers and lists.

    A text such as ``1e-3`` becomes the number it is: PyYAML reads it as text.

    Args:
        value: Anything a manifest may hold.
        where: Its dotted path.
        problems: Gets one entry for each value that JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {_key(key, where, problems): plain(item, join(where, key), problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, join(where, index), problems) for index, item in enumerate(value)]
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value) else str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return plain(value.tolist(), where, problems)
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(where, "must be finite", value))
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    problems.append(
        Problem(
            where,
            f"a manifest cannot hold a {type(value).__name__}",
            value,
            "text, numbers, true, false, null, lists and mappings",
            "Put it in quotes if it is meant as text.",
        )
    )
    return None


def _key(key: object, where: str, problems: list[Problem]) -> str:
    if not isinstance(key, str):
        problems.append(Problem(join(where, key), "a key must be text", key, remedy="Put it in quotes."))
    return str(key)


def join(where: str, part: object) -> str:
    """Return the dotted path of ``part`` in ``where``."""
    return f"{where}.{part}" if where else str(part)
