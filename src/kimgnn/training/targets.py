"""What the heads of a network read from the data, and how."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from kliff.dataset import Configuration

from kimgnn.data.targets import TargetSpec
from kimgnn.errors import DataError, Problem
from kimgnn.fields import LABELS
from kimgnn.models.tasks import Task
from kimgnn.nn.states import state_inputs_of
from kimgnn.transforms.graph import TARGETS, configuration_name

NO_STATE: Final = "has no value, which the network needs of each structure (model.options.state_inputs)"


def target_spec(task: Task) -> TargetSpec:
    """Return how the target of ``task`` is read."""
    kind: Literal["class", "number"] = "class" if task.kind == "classification" else "number"
    # What stands for a class below or above a threshold is no name that the data know.
    classes = task.classes if task.threshold is None else ()
    return TargetSpec(task.target, kind, task.components, task.per_atom, classes, task.threshold)


def state_specs(options: Mapping[str, Any]) -> list[TargetSpec]:
    """Return how the state inputs of an architecture's options are read."""
    return [
        TargetSpec(state.name, "class" if state.classes else "number", classes=tuple(state.classes))
        for state in state_inputs_of(options)
    ]


def require_states(configurations: Sequence[Configuration], specs: Sequence[TargetSpec]) -> None:
    """Check that every structure has every state input.

    Args:
        configurations: All structures, with targets.
        specs: How the state inputs are read.

    Raises:
        DataError: Of each structure that lacks one.
    """
    problems = [
        Problem(f"{configuration_name(item)} ({spec.name})", NO_STATE)
        for spec in specs
        for item in configurations
        if not has_target(item, spec)
    ]
    if problems:
        raise DataError(problems=problems)


def labels_read(heads: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Return which of energy, forces and stress the heads of a manifest read: all, or none without an energy head.

    No heads at all are those of a module given as ``model=``, which says energies.
    """
    return LABELS if not heads or any(head["type"] == "energy" for head in heads) else ()


def has_target(configuration: Configuration, spec: TargetSpec) -> bool:
    """Whether a structure has some of a target."""
    return not bool(np.isnan(configuration.metadata[TARGETS][spec.name]).all())


def target_counts(configurations: Sequence[Configuration]) -> dict[str, int]:
    """Return target -> how many structures carry it."""
    names = configurations[0].metadata.get(TARGETS, {}) if configurations else {}
    return {name: sum(not np.isnan(item.metadata[TARGETS][name]).all() for item in configurations) for name in names}
