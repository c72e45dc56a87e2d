"""What an exported file of properties carries of its network's calibration, and how its README tells to use it."""

from __future__ import annotations

from typing import Any

from kimgnn.evaluation.calibration import Calibration
from kimgnn.evaluation.sampling import dropout_samples
from kimgnn.export import documents
from kimgnn.export.property_contract import DEVIATION
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.tasks import tasks_of


def carried_calibration(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the calibration, plain; empty of a network that is sampled: the file says other deviations, or none."""
    return {} if dropout_samples(checkpoint.manifest) else checkpoint.calibration


def calibration_section(checkpoint: Checkpoint) -> list[str]:
    """Return a section on how raw outputs become intervals and sets of classes; nothing without a calibration."""
    calibration = Calibration.from_dict(carried_calibration(checkpoint))
    if calibration is None:
        return []
    parts = [
        f"## Intervals of {100 * calibration.level:g} %\n",
        "The outputs above are raw. `kimgnn predict` and `kimgnn.predictor.load_predictor` calibrate them by what the "
        f"metadata carry as `calibration` ({calibration.method}, fitted on validation data).\n",
    ]
    tasks = {task.name for task in tasks_of(checkpoint.spec.heads)}
    if numbers := {name: own for name, own in calibration.values.items() if name in tasks}:
        parts.append(
            "Of numbers, σ is the standard deviation of what the network learns: of a value per atom, "
            f"`{DEVIATION[1:]}` divided by the number of atoms; of a logarithm, divided by ln 10 · value; otherwise as "
            "it is. Calibrated, it is s = a σ + b, and the interval of what is learned is ± q s.\n"
        )
        told = (f"a = {own.factor:.6g}, b = {own.offset:.6g}, q = {own.quantile:.6g}" for own in numbers.values())
        parts.append(documents.table(dict(zip(numbers, told, strict=True))))
    for name, own in calibration.classes.items():
        told_classes = "the fewest classes whose probabilities reach the level"
        if own.threshold is not None:
            told_classes = f"the classes of {own.threshold:.4g} or more, and the most probable one"
        tempered = f"probabilities are the softmax of log p / {own.temperature:.6g}"
        parts.append(f"Of `{name}`, {tempered}; its set of classes is {told_classes}.\n")
    return parts
