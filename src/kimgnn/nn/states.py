"""What is known of a structure besides its atoms, such as a temperature or a method, as inputs of a network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kimgnn.class_names import class_index
from kimgnn.errors import DataError, ModelError
from kimgnn.nn.options import Options


@dataclass(frozen=True)
class StateInput(Options):
    """A number, or one of several classes, that each structure must have.

    Attributes:
        name: Of the value: its name in `dataset.targets` or in the data.
        classes: Names of the classes, in order; none for a number.
        mean: Of the number in the training set, which fits it when absent.
        spread: Its standard deviation, likewise.
    """

    name: str
    classes: list[str] = field(default_factory=list)
    mean: float | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: An option is out of range; the message names it.
        """
        if not self.name or set(self.name) & set("./\\"):
            raise ValueError(f"state_inputs: name must be a word without . / \\ (got {self.name!r})")
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"state_inputs: classes must be at least two, each once (got {self.classes})")
        if self.classes and (self.mean is not None or self.spread is not None):
            raise ValueError(f"state_inputs: mean and spread are of numbers ({self.name} has classes)")
        if self.spread is not None and not self.spread > 0:
            raise ValueError(f"state_inputs: spread must be positive (got {self.spread})")

    @property
    def channels(self) -> int:
        """Width of what the network sees of it."""
        return len(self.classes) or 1


def state_inputs_of(options: Mapping[str, Any]) -> list[StateInput]:
    """Return the state inputs of an architecture's options, as a manifest or a spec has them: none of most."""
    return [StateInput(**state) for state in options.get("state_inputs", ())]


def read_states(inputs: Sequence[StateInput], values: Mapping[str, Any], where: str) -> list[float]:
    """Return the number that stands for each state input: its value, or the index of its class.

    Args:
        inputs: What the network takes.
        values: Name -> number, text of a number, or name of a class.
        where: What messages call the structure that has them.

    Raises:
        DataError: One is missing, is no finite number, or is of no class.
    """
    return [_number(state, values.get(state.name), f"{where} ({state.name})") for state in inputs]


def _number(state: StateInput, raw: Any, where: str) -> float:
    allowed = ", ".join(state.classes) or "a finite number"
    if raw is None:
        raise DataError("the structure has no such value, which the network needs", where=where, allowed=allowed)
    if state.classes:
        index = class_index(raw, state.classes)
        if index is None:
            raise DataError("there is no such class", where=where, value=raw, allowed=allowed)
        return float(index)
    alone = raw[0] if isinstance(raw, list | tuple) and len(raw) == 1 else raw
    try:
        number = math.nan if isinstance(alone, bool) else float(alone)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError("is not a number", where=where, value=raw, allowed=allowed)
    return number


class StateEncoder(nn.Module):
    """Numbers in units of their spread, classes one-hot.

    Args:
        inputs: At least one, the numbers with mean and spread.

    Attributes:
        out_channels: Features that come out.

    Raises:
        ModelError: A number has no mean or spread.
    """

    def __init__(self, inputs: list[StateInput]) -> None:
        super().__init__()
        self.out_channels = sum(state.channels for state in inputs)
        column: list[int] = []
        mean: list[float] = []
        spread: list[float] = []
        for index, state in enumerate(inputs):
            if not state.classes and (state.mean is None or state.spread is None):
                raise ModelError(
                    "mean and spread must be given when the network is built",
                    where=f"state_inputs.{state.name}",
                    remedy="The trainer fits them on the training set; give numbers when building a network by hand.",
                )
            column += [index] * state.channels
            mean += list(range(len(state.classes))) or [state.mean or 0.0]
            spread += [1.0] * len(state.classes) or [state.spread or 1.0]
        of_class = [bool(inputs[index].classes) for index in column]
        same_input = torch.tensor(column) == torch.tensor(column).unsqueeze(1)
        self.register_buffer("column", torch.tensor(column), persistent=False)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64), persistent=False)
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float64), persistent=False)
        self.register_buffer("of_class", torch.tensor(of_class), persistent=False)
        self.register_buffer("same_input", same_input.to(torch.float64), persistent=False)
        self.column: Tensor
        self.mean: Tensor
        self.spread: Tensor
        self.of_class: Tensor
        self.same_input: Tensor

    def forward(self, states: Tensor) -> Tensor:
        """Return ``(n_graphs, out_channels)`` of values ``(n_graphs, n_inputs)``, classes as their index, from 0.

        What is no class's index is NaN.
        """
        away = states.to(self.mean.dtype).index_select(1, self.column) - self.mean
        is_class = (away == 0.0).to(away.dtype)
        return torch.where(self.of_class, is_class / (is_class @ self.same_input), away / self.spread)
