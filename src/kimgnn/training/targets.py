"""How the targets of a network's heads are read from the data."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from kliff.dataset import Configuration

from kimgnn.data.targets import TargetSpec
from kimgnn.models.tasks import Task
from kimgnn.transforms.graph import TARGETS


def target_spec(task: Task) -> TargetSpec:
    """Return how the target of ``task`` is read."""
    kind: Literal["class", "number"] = "class" if task.kind == "classification" else "number"
    # What stands for a class below or above a threshold is no name that the data know.
    classes = task.classes if task.threshold is None else ()
    return TargetSpec(task.target, kind, task.components, task.per_atom, classes, task.threshold)


def has_target(configuration: Configuration, spec: TargetSpec) -> bool:
    """Whether a structure has some of a target."""
    return not bool(np.isnan(configuration.metadata[TARGETS][spec.name]).all())


def target_counts(configurations: Sequence[Configuration]) -> dict[str, int]:
    """Return target -> how many structures carry it."""
    names = configurations[0].metadata.get(TARGETS, {}) if configurations else {}
    return {name: sum(not np.isnan(item.metadata[TARGETS][name]).all() for item in configurations) for name in names}
