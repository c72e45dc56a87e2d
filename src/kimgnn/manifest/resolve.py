"""Names in the manifest, looked up: architecture, heads, transform, optimizer; their options checked and filled.

Nothing is imported before a manifest names it: torch comes with the architecture, KLIFF with the transform.
"""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from kimgnn.errors import KimgnnError, Problem, did_you_mean
from kimgnn.manifest.model import Model, Transforms
from kimgnn.manifest.options import check_call, check_dataclass
from kimgnn.manifest.training import Optimizer, Scheduler, Training
from kimgnn.registry import ARCHITECTURES, HEADS, TRANSFORMS, Registry

_NEED_MORE_THAN_A_MANIFEST = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR"}
"""Schedulers made of functions or of other schedulers."""


def resolve_transforms(transforms: Transforms, cutoffs: Mapping[str, Any]) -> tuple[Transforms, list[Problem]]:
    """Return the block with the transform's options checked against its constructor, and what is wrong.

    Args:
        transforms: The block.
        cutoffs: `CUTOFFS` that the manifest gives, taken where the transform has one and is given none.
    """
    where, configuration = "transforms.configuration", transforms.configuration
    transform, problems = _lookup(TRANSFORMS, configuration.name, f"{where}.name")
    if transform is None:
        return transforms, problems
    given = configuration.kwargs
    names = inspect.signature(transform).parameters
    # KLIFF passes copy_to_config itself.
    kwargs, problems = check_call(
        transform, _fill(given, cutoffs, names), f"{where}.kwargs", configuration.name, skip={"copy_to_config"}
    )
    problems = _told_here(problems, f"{where}.kwargs", given, cutoffs)
    filled = configuration.model_copy(update={"kwargs": kwargs})
    return transforms.model_copy(update={"configuration": filled}), problems


def resolve_model(model: Model, cutoffs: Mapping[str, Any]) -> tuple[Model, list[Problem]]:
    """Return the block with the options of architecture and heads checked and filled, and what is wrong.

    Args:
        model: The block.
        cutoffs: `CUTOFFS` that the manifest gives, taken where the architecture has one and is given none.
    """
    name = model.name or model.architecture or "model"
    if model.architecture is None:
        return model.model_copy(update={"name": name}), []
    given = options = model.options
    architecture, problems = _lookup(ARCHITECTURES, model.architecture, "model.architecture")
    if architecture is not None:
        options = _fill(given, cutoffs, {field.name for field in fields(architecture.Options)})
        options, problems = check_dataclass(architecture.Options, options, "model.options", model.architecture)
        problems = _told_here(problems, "model.options", given, cutoffs)
    heads = []
    for index, head in enumerate(model.heads or [{"type": "energy"}]):
        resolved, wrong = _resolve_head(head, f"model.heads.{index}")
        heads.append(resolved)
        problems += wrong
    return model.model_copy(update={"name": name, "options": options, "heads": heads}), problems


def _fill(options: dict[str, Any], cutoffs: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """Add the cutoffs where they belong and are missing, if they are some."""
    usable = {name: value for name, value in cutoffs.items() if isinstance(value, int | float) and value > 0}
    return options | {name: value for name, value in usable.items() if name in names and options.get(name) is None}


def _told_here(problems: list[Problem], where: str, given: dict[str, Any], cutoffs: Mapping[str, Any]) -> list[Problem]:
    """Leave out what is wrong with a cutoff that was written elsewhere: it is told there."""
    elsewhere = {f"{where}.{name}" for name in cutoffs if name not in given}
    return [problem for problem in problems if problem.where not in elsewhere]


def _resolve_head(head: dict[str, Any], where: str) -> tuple[dict[str, Any], list[Problem]]:
    kind = head.get("type")
    if not isinstance(kind, str):
        names = ", ".join(HEADS.names())
        return head, [Problem(f"{where}.type", "must name a head", kind, names)]
    head_class, problems = _lookup(HEADS, kind, f"{where}.type")
    if head_class is None:
        return head, problems
    given = {key: value for key, value in head.items() if key != "type"}
    options, problems = check_dataclass(head_class.Options, given, where, kind)
    return {"type": kind, **options}, problems


def resolve_training(training: Training) -> list[Problem]:
    """Return what is wrong with the names and options of the optimizer and the scheduler."""
    problems = _check_optimizer(training.optimizer)
    if training.optimizer.lr_scheduler is not None:
        problems += _check_scheduler(training.optimizer.lr_scheduler)
    return problems


def _check_optimizer(optimizer: Optimizer) -> list[Problem]:
    optim = import_module("torch.optim")
    choices = _subclasses(optim, optim.Optimizer)
    where = "training.optimizer"
    return _check_class(choices, optimizer.name, f"{where}.name", optimizer.kwargs, f"{where}.kwargs", {"params", "lr"})


def _check_scheduler(scheduler: Scheduler) -> list[Problem]:
    schedulers = import_module("torch.optim.lr_scheduler")
    choices = _subclasses(schedulers, schedulers.LRScheduler)
    choices = {name: cls for name, cls in choices.items() if name not in _NEED_MORE_THAN_A_MANIFEST}
    where = "training.optimizer.lr_scheduler"
    return _check_class(choices, scheduler.name, f"{where}.name", scheduler.args, f"{where}.args", {"optimizer"})


def _subclasses(module: Any, base: type) -> dict[str, type]:
    classes = inspect.getmembers(module, inspect.isclass)
    return {name: cls for name, cls in classes if issubclass(cls, base) and cls is not base and name[0] != "_"}


def _check_class(
    choices: dict[str, type], name: str, where: str, options: dict[str, Any], where_options: str, skip: set[str]
) -> list[Problem]:
    if name not in choices:
        return [Problem(where, "unknown name", name, ", ".join(choices), did_you_mean(name, choices))]
    return check_call(choices[name], options, where_options, name, skip, typed=False)[1]


def _lookup(registry: Registry, name: str, where: str) -> tuple[Any, list[Problem]]:
    try:
        return registry.get(name, where), []
    except KimgnnError as error:
        return None, list(error.problems)
