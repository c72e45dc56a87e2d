"""Manifests with other values in some places: the trials of a search."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from kimgnn.errors import ManifestError, Problem
from kimgnn.manifest.load import load_manifest
from kimgnn.manifest.schema import Manifest
from kimgnn.manifest.source import plain, read_yaml
from kimgnn.manifest.tuning import Parameter


def read_for_tuning(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """Return a manifest with a search space, and what was written in it without `tuning` and without defaults.

    What follows from a value that is looked for must not be filled in before it is known; paths are those that the
    manifest was found to mean.

    Args:
        path: A YAML file.

    Raises:
        ManifestError: The manifest is wrong, has no space, or the space a place or a value that it does not take.
    """
    manifest = load_manifest(path)
    if not manifest.tuning.space:
        remedy = "Say which values may be tried, such as model.options.hidden_channels: {type: int, low: 16, high: 64}."
        raise ManifestError("is missing", where="tuning.space", remedy=remedy)
    written = plain(read_yaml(path), "", [])
    written.pop("tuning")
    base = _as_read(written, manifest.to_dict())
    problems = _check_space(base, manifest.tuning.space)
    if problems:
        raise ManifestError(problems=problems)
    return manifest, base


def with_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with other values.

    Args:
        base: The manifest, plain.
        values: Dotted path -> value; a whole number in a path counts a list's entries from 0.

    Raises:
        ManifestError: A path leads through something that has no parts.
    """
    changed = deepcopy(dict(base))
    for path, value in values.items():
        *parents, last = path.split(".")
        node: Any = changed
        for part in parents:
            node = _inside(node, part, path)
        if isinstance(node, list):
            _inside(node, last, path)
            node[int(last)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise ManifestError("leads nowhere: what stands before the last dot has no parts", where=path)
    return changed


def _inside(node: Any, part: str, path: str) -> Any:
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise ManifestError(f"leads nowhere: there is no {part!r} to go through", where=path)


def _as_read(written: Any, filled: Any) -> Any:
    """Return what was written, with texts as the filled manifest has them: paths found beside the manifest."""
    if isinstance(written, dict) and isinstance(filled, dict):
        return {key: _as_read(value, filled.get(key)) for key, value in written.items()}
    if isinstance(written, list) and isinstance(filled, list) and len(written) == len(filled):
        return [_as_read(*pair) for pair in zip(written, filled, strict=True)]
    return filled if isinstance(written, str) and isinstance(filled, str) else written


def _check_space(base: Mapping[str, Any], space: Mapping[str, Parameter]) -> list[Problem]:
    """Return what is wrong with the manifest that each end of a range, or each choice, makes by itself."""
    found: dict[str, Problem] = {}
    for path, parameter in space.items():
        for value in parameter.ends():
            try:
                load_manifest(with_values(base, {path: value}))
            except ManifestError as error:
                for problem in error.problems:
                    where = "" if problem.where == path else f"{problem.where}: "
                    found.setdefault(
                        path,
                        Problem(
                            f"tuning.space.{path}",
                            f"{where}{problem.message}",
                            value,
                            problem.allowed,
                            problem.remedy,
                        ),
                    )
    return list(found.values())
