"""What an exported file carries of its network's calibration, and how its README tells to use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kimgnn.evaluation.calibrated import Calibration
from kimgnn.evaluation.sampling import dropout_samples
from kimgnn.export import documents
from kimgnn.export.property_contract import DEVIATION
from kimgnn.fields import ENERGY
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network
from kimgnn.models.tasks import LABEL_TASKS, tasks_of


def carried_calibration(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the calibration, plain, of what a file says; empty of a network that is sampled: it says other deviations.

    Temperatures of members are in the file itself, see `tempered`, so that here they are 1.
    """
    calibration = Calibration.from_dict(checkpoint.calibration)
    if calibration is None or dropout_samples(checkpoint.manifest):
        return {}
    classes = {
        name: replace(own, temperature=1.0, of_members=False) if own.of_members else own
        for name, own in calibration.classes.items()
    }
    return replace(calibration, classes=classes).to_dict()


def tempered(checkpoint: Checkpoint) -> Network:
    """Return the network whose properties a file has: members of an ensemble at the temperatures of its classes.

    A file tells the mean and the deviation of their probabilities, of which the tempered ones could not be made.
    """
    calibration = Calibration.from_dict(checkpoint.calibration)
    if calibration is None or dropout_samples(checkpoint.manifest) or not isinstance(checkpoint.network, Ensemble):
        return checkpoint.network
    found = {name: own.temperature for name, own in calibration.classes.items() if own.of_members}
    return checkpoint.network.at_temperatures(found)


def calibration_section(checkpoint: Checkpoint) -> list[str]:
    """Return a section on how raw outputs become intervals and sets of classes; nothing without a calibration."""
    calibration = Calibration.from_dict(carried_calibration(checkpoint))
    if calibration is None:
        return []
    parts = [
        f"## Intervals of {100 * calibration.level:g} %\n",
        "The outputs above are raw where nothing else is said here. `kimgnn predict` and "
        "`kimgnn.predictor.load_predictor` calibrate them by what the "
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
        true = f"probabilities are the softmax of log p / {own.temperature:.6g}"
        if (given := checkpoint.calibration["classes"][name]).get("of_members"):
            at = f"those of members at the temperature {given['temperature']:.6g}"
            true = f"probabilities and deviations are calibrated already, {at}"
        parts.append(f"Of `{name}`, {true}; its set of classes is {told_classes}.\n")
    return parts


def potential_calibration(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the calibration of energies, forces and stress, plain; empty where none of them was calibrated."""
    calibration = Calibration.from_dict(carried_calibration(checkpoint))
    if calibration is None:
        return {}
    values = {name: own for name, own in calibration.values.items() if name in LABEL_TASKS}
    return replace(calibration, values=values, classes={}).to_dict() if values else {}


def potential_section(checkpoint: Checkpoint) -> list[str]:
    """Return a section on how a committee's raw deviations become calibrated ones, or that they are raw."""
    calibration = Calibration.from_dict(potential_calibration(checkpoint))
    if calibration is None:
        return ["The deviations are not calibrated: they are raw, the spread of the members.\n"]
    level, others = f"{100 * calibration.level:g} %", [name for name in LABEL_TASKS if name not in calibration.values]
    rows = {}
    for name, own in calibration.values.items():
        unit = "eV/atom" if name == ENERGY else LABEL_TASKS[name].unit
        rows[name] = f"a = {own.factor:.6g}, b = {own.offset:.6g} {unit}, q = {own.quantile:.6g}"
    raw = f", nor those of {' and '.join(others)}" if others else ""
    return [
        f"## Calibrated deviations, and intervals of {level}\n",
        "Members do not differ by the errors that they share. A calibrated deviation is s = a σ + b of a raw one, σ, "
        f"and {level} of the true values are to be within ± q s ({calibration.method}, fitted on validation data); for "
        "the energy, σ and s are of the energy per atom, and of forces and stress they are of each component:\n",
        documents.table(rows),
        "`KimgnnCalculator`, `kimgnn predict`, `kimgnn.predictor.load_predictor` and `kimgnn serve` give calibrated "
        "deviations, and beside each its interval: `energy_interval`, ... A deviation without an interval is raw: "
        f"those of atomic energies, of which there are no true values, are never calibrated{raw}. **The KIM extension "
        "`kimgnn_committee_deviation` gives raw ones, σ.**\n",
    ]
