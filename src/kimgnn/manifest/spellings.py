"""The spellings of KLIFF's documentation, turned into the manifest's own."""

from __future__ import annotations

from typing import Any

from kimgnn.errors import Problem

_SPELLINGS = {
    "workspace.random_seed": "workspace.seed",
    "training.device": "training.accelerator",
    "training.indices_files.train": "training.training_dataset.train_indices",
    "training.indices_files.val": "training.validation_dataset.val_indices",
    "training.indices_files.test": "training.test_dataset.test_indices",
}


def respell(raw: dict[str, Any]) -> list[Problem]:
    """Move what KLIFF's documentation spells otherwise to its place in ``raw``; both spellings must agree."""
    problems = []
    for theirs, ours in _SPELLINGS.items():
        value = _take(raw, theirs.split("."))
        if value is None:
            continue
        kept = _put(raw, ours.split("."), value)
        if kept != value:
            remedy = f"Keep one of them: {ours} says {kept!r}."
            problems.append(Problem(theirs, f"says something else than {ours}", value, remedy=remedy))
    _drop_unnamed_property_transforms(raw)
    return problems


def _take(node: Any, path: list[str]) -> Any:
    """Remove and return the value at ``path``, and the mappings that this empties."""
    if not isinstance(node, dict) or path[0] not in node:
        return None
    if len(path) == 1:
        return node.pop(path[0])
    value = _take(node[path[0]], path[1:])
    if node[path[0]] == {}:
        del node[path[0]]
    return value


def _put(node: dict[str, Any], path: list[str], value: Any) -> Any:
    """Set the value at ``path`` unless there is one, and return what is there."""
    for part in path[:-1]:
        if not isinstance(node.get(part), dict):
            node[part] = {} if node.get(part) is None else node[part]
        node = node[part]
        if not isinstance(node, dict):
            return value
    if node.get(path[-1]) is None:
        node[path[-1]] = value
    return node[path[-1]]


def _drop_unnamed_property_transforms(raw: dict[str, Any]) -> None:
    """KLIFF's own default is a property transform without a name, which does nothing."""
    transforms = raw.get("transforms")
    if isinstance(transforms, dict) and isinstance(transforms.get("property"), list):
        transforms["property"] = [
            entry for entry in transforms["property"] if not (isinstance(entry, dict) and not entry.get("name"))
        ]
