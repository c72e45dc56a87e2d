"""From a file or a dict to a `Manifest`, or to every problem there is."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kimgnn.errors import ManifestError, Problem, did_you_mean
from kimgnn.manifest.checks import check_model_source, check_together
from kimgnn.manifest.dataset import LabelWeights
from kimgnn.manifest.model import CUTOFFS
from kimgnn.manifest.report import problems_of
from kimgnn.manifest.resolve import resolve_model, resolve_training, resolve_transforms
from kimgnn.manifest.schema import Manifest
from kimgnn.manifest.source import join, plain, read_yaml
from kimgnn.manifest.spellings import respell


def load_manifest(source: str | PathLike[str] | Mapping[str, Any] | Manifest, model_given: bool = False) -> Manifest:
    """Return the manifest with every key checked and every default filled.

    Paths to read stay relative to the current folder, as in KLIFF; one that is not found there and is found beside a
    YAML manifest is taken from there.

    Args:
        source: A YAML file, or KLIFF's six blocks as a dict (paths and numpy scalars in it are welcome).
        model_given: The trainer is given a module, so that ``model.architecture`` may be absent.

    Raises:
        ManifestError: Anything is wrong; its ``problems`` are all there are.
    """
    folder = None
    if isinstance(source, Manifest):
        raw: Any = source.to_dict()
    elif isinstance(source, Mapping):
        raw = source
    elif isinstance(source, str | PathLike):
        raw, folder = read_yaml(Path(source)), Path(source).parent
    else:
        raise ManifestError("must be a YAML file or a dict", where="manifest", value=type(source).__name__)

    problems: list[Problem] = []
    raw = plain(raw, "", problems)
    problems += respell(raw)
    blocks = _read_blocks(raw, {"folder": folder}, problems)
    _resolve(blocks, _shared_cutoffs(raw), model_given, problems)
    problems += check_together(blocks)
    if problems:
        raise ManifestError(problems=_first_of_each_place(problems))
    manifest = Manifest(**blocks)
    for where, keys in _extras(manifest.to_dict(), ""):
        warnings.warn(f"{where}.extra: passed on unchecked: {keys}", UserWarning, stacklevel=2)
    return manifest


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of a plain manifest; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_blocks(raw: dict[str, Any], context: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Return the blocks that are right by themselves."""
    blocks: dict[str, Any] = {}
    known = Manifest.model_fields
    for name in [name for name in raw if name not in known]:
        problems.append(Problem(name, "unknown block", allowed=", ".join(known), remedy=did_you_mean(name, known)))
    for name, field in known.items():
        if raw.get(name) is None and field.is_required():
            problems.append(Problem(name, "this block is missing"))
            continue
        schema: Any = field.annotation
        data = {} if raw.get(name) is None else raw[name]
        try:
            blocks[name] = schema.model_validate(data, context=context)
        except ValidationError as error:
            problems += problems_of(error, schema, data, name)
    return blocks


def _shared_cutoffs(raw: dict[str, Any]) -> dict[str, Any]:
    """Return those `CUTOFFS` that the transform or, failing that, the architecture is given.

    They are read from the raw manifest, so that a fault elsewhere in a block does not make the other one miss them.
    """
    of_model = {name: _get(raw, "model", "options", name) for name in CUTOFFS}
    of_transform = {name: _get(raw, "transforms", "configuration", "kwargs", name) for name in CUTOFFS}
    found = {name: of_model[name] if of_transform[name] is None else of_transform[name] for name in CUTOFFS}
    return {name: value for name, value in found.items() if value is not None}


def _get(node: Any, *path: str) -> Any:
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _first_of_each_place(problems: list[Problem]) -> list[Problem]:
    """Leave out what follows from a value that was already refused."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.where, problem)
    return list(first.values())


def _resolve(blocks: dict[str, Any], cutoffs: dict[str, Any], model_given: bool, problems: list[Problem]) -> None:
    """Look up the names in ``blocks`` and fill what follows from them; a block that turns out wrong is taken out."""
    found: dict[str, list[Problem]] = {}
    transforms, model = blocks.get("transforms"), blocks.get("model")
    if transforms is not None:
        blocks["transforms"], found["transforms"] = resolve_transforms(transforms, cutoffs)
    if model is not None:
        blocks["model"], found["model"] = resolve_model(model, cutoffs)
        found["model"] += check_model_source(model, model_given)
    if "training" in blocks:
        found["training"] = resolve_training(blocks["training"])
    if model is not None and "export" in blocks and blocks["export"].driver is None:
        driver = "torchml" if model.architecture is None else "kimgnn"
        blocks["export"] = blocks["export"].model_copy(update={"driver": driver})
    if model is not None and "training" in blocks:
        blocks["training"] = _default_weights(blocks["training"], blocks["model"])
    for name, wrong in found.items():
        problems += wrong
        if wrong:
            del blocks[name]


def _default_weights(training: Any, model: Any) -> Any:
    """Weigh energies and forces where something predicts them and nothing is said."""
    if training.loss.weights is not None:
        return training
    predicted = model.architecture is None or any(head.get("type") == "energy" for head in model.heads)
    weights = LabelWeights(energy=1.0, forces=1.0) if predicted else LabelWeights()
    return training.model_copy(update={"loss": training.loss.model_copy(update={"weights": weights})})


def _extras(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "extra" and where:
                yield where, ", ".join(value)
            else:
                yield from _extras(value, join(where, key))
