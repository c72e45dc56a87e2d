"""The `tuning` block: which values of the manifest `kimgnn tune` looks for, and how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kimgnn.errors import Problem
from kimgnn.manifest.block import Block, Positive, Text
from kimgnn.manifest.training import Training, is_duration


class Parameter(Block):
    """The values that one place of the manifest may take."""

    type: Literal["int", "float", "categorical"]
    """Whole numbers or numbers from `low` to `high`, or one of `choices`."""
    low: int | float | None = None
    """The lowest."""
    high: int | float | None = None
    """The highest."""
    step: Positive | None = None
    """Distance of one from the next; 1 for whole numbers, any for others, when absent."""
    log: bool = False
    """Each power of ten is as likely as the next."""
    choices: list[Any] | None = None
    """The values, of any type: a whole `lr_scheduler` too."""

    def ends(self) -> list[Any]:
        """The lowest and the highest value, or all choices."""
        return [self.low, self.high] if self.choices is None else self.choices


class Tuning(Block):
    """How `kimgnn tune` looks for the best manifest. Training takes no notice of it."""

    trials: Annotated[int, Field(ge=1)] = 50
    """Trainings in all; a search that is started again goes on to this number."""
    timeout: Annotated[str, AfterValidator(is_duration)] | None = None
    """No trial begins after this long, `"DD:HH:MM:SS"` in quotes."""
    metric: Text = "val_loss"
    """What is compared, the best epoch of each trial: a metric that training logs. Not the loss where
    `space` changes what the loss is."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether lower or higher is better."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the search; the workspace's when absent. Trials are trained with the workspace's."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial early: being worse than half of those before it at the same epoch; Hyperband; nothing."""
    storage: Text | None = None
    """SQLite file of the search, beside which results are written; `<model name>_tuning/study.db` in the workspace."""
    space: dict[str, Parameter] = Field(default_factory=dict)
    """Dotted path in the manifest -> the values it may take, such as `model.options.hidden_channels`."""


def check_tuning(tuning: Tuning, training: Training) -> Iterator[Problem]:
    """Yield what does not go together.

    Args:
        tuning: The block.
        training: The block of the same manifest.
    """
    for path, parameter in tuning.space.items():
        if path.startswith("tuning."):
            yield Problem(f"tuning.space.{path}", "is no part of a training")
        yield from _check_parameter(parameter, f"tuning.space.{path}")
    validation = training.validation_dataset
    if tuning.space and not (validation.val_size or validation.val_indices or validation.path):
        remedy = "Say val_size, val_indices or path."
        yield Problem("training.validation_dataset", "is empty: tuning compares trials on it", remedy=remedy)


def _check_parameter(parameter: Parameter, where: str) -> Iterator[Problem]:
    numbers = {name: getattr(parameter, name) for name in ("low", "high", "step")}
    if parameter.type == "categorical":
        for name, given in {**numbers, "log": parameter.log or None}.items():
            if given is not None:
                yield Problem(f"{where}.{name}", "is for numbers, not for choices", remedy="Remove it.")
        choices = [json.dumps(choice, sort_keys=True) for choice in parameter.choices or []]
        if len(set(choices)) < max(1, len(choices)):
            yield Problem(f"{where}.choices", "must be one or more different values", parameter.choices)
        return
    if parameter.choices is not None:
        yield Problem(f"{where}.choices", "are for type: categorical", remedy="Remove them, or low and high.")
    for name, number in numbers.items():
        if number is None and name != "step":
            yield Problem(f"{where}.{name}", "is missing")
        elif parameter.type == "int" and number is not None and number != int(number):
            yield Problem(f"{where}.{name}", "must be a whole number", number)
    if parameter.low is not None and parameter.high is not None and parameter.low > parameter.high:
        yield Problem(f"{where}.high", f"is below low, {parameter.low}", parameter.high)
    if parameter.log and parameter.low is not None and parameter.low <= 0:
        yield Problem(f"{where}.low", "must be above 0 with log: true", parameter.low)
    if parameter.log and parameter.step is not None:
        yield Problem(f"{where}.step", "does not go with log: true", parameter.step, remedy="Keep one of them.")
