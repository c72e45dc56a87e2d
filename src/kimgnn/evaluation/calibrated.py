"""What was fitted on validation data, and how it makes deviations and probabilities true and intervals of them.

How it is fitted, and where the formulas are from: `kimgnn.evaluation.calibration`. This half needs no graphs and no
optimiser: the ASE calculator has it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import numpy as np
from ase import units
from numpy.typing import NDArray

from kimgnn.fields import ENERGY, STRESS
from kimgnn.models.tasks import LABEL_TASKS, Task

if TYPE_CHECKING:
    from kimgnn.evaluation.predict import Prediction

Method: TypeAlias = Literal["conformal", "scaling"]
Values: TypeAlias = NDArray[np.float64]

SURE: Final = 1e-15
"""The smallest probability whose logarithm is taken."""


@dataclass(frozen=True)
class ValueCalibration:
    """Of a head of numbers, of the energy or of force components.

    Attributes:
        factor: a.
        offset: b, in the unit of what is learned.
        quantile: q at the level.
        structures: Labelled structures that it was fitted on.
    """

    factor: float
    offset: float
    quantile: float
    structures: int

    def deviation(self, raw: Values) -> Values:
        """Return s of deviations σ, both of what is learned."""
        return self.factor * raw + self.offset


@dataclass(frozen=True)
class ClassCalibration:
    """Of a classification head.

    Attributes:
        temperature: What logarithms of probabilities are divided by.
        threshold: Probability above which a class is told; ``None`` for those that add up to the level.
        structures: Labelled structures that it was fitted on.
        of_members: Whether the temperature is of an ensemble's members, whose probabilities are averaged afterwards;
            otherwise it is of the mean probability, as of a single network (and of ensembles in older files).
    """

    temperature: float
    threshold: float | None
    structures: int
    of_members: bool = False


@dataclass(frozen=True)
class Calibration:
    """Of a network, for one level.

    Attributes:
        method: ``conformal`` or ``scaling``.
        level: Share of the true values that intervals and sets of classes are to hold.
        values: Head, ``energy``, ``forces`` or ``stress`` -> its own.
        classes: Classification head -> its own.
    """

    method: Method
    level: float
    values: dict[str, ValueCalibration] = field(default_factory=dict)
    classes: dict[str, ClassCalibration] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-safe values: what a checkpoint and an exported file carry."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self | None:
        """Return what `to_dict` said; ``None`` of nothing."""
        if not plain:
            return None
        values = {name: ValueCalibration(**given) for name, given in plain["values"].items()}
        classes = {name: ClassCalibration(**given) for name, given in plain["classes"].items()}
        return cls(plain["method"], plain["level"], values, classes)

    def apply(self, prediction: Prediction, tasks: Sequence[Task], n_atoms: int) -> Prediction:
        """Return a prediction with calibrated deviations and probabilities, intervals and sets of classes.

        Args:
            prediction: As the network made it.
            tasks: What its property and classification heads predict.
            n_atoms: Of the structure.
        """
        properties, deviations = dict(prediction.properties), dict(prediction.deviations)
        intervals, sets = dict(prediction.intervals), dict(prediction.sets)
        of_energy: dict[str, Any] = {}
        for task in tasks:
            name = task.name
            if name in self.classes:
                members = prediction.members.get(name)
                properties[name], spread, sets[name] = self.classes_of(name, properties[name], members)
                if spread is not None:
                    deviations[name] = spread
            elif name in self.values and name in deviations:
                deviations[name], intervals[name] = self.interval(task, properties[name], deviations[name], n_atoms)
        for name in LABEL_TASKS:
            deviation = getattr(prediction, f"{name}_deviation")
            if name in self.values and deviation is not None:
                value = np.asarray(getattr(prediction, name), dtype=np.float64)
                scaled, intervals[name] = self.of_label(name, value, np.asarray(deviation), n_atoms)
                of_energy[f"{name}_deviation"] = float(scaled) if name == ENERGY else scaled
        return replace(
            prediction,
            properties=properties,
            deviations=deviations,
            intervals=intervals,
            sets=sets,
            members={},
            **of_energy,
        )

    def of_label(self, name: str, value: Values, deviation: Values, n_atoms: int) -> tuple[Values, Values]:
        """Return what `interval` does of ``energy``, ``forces`` or ``stress``, in eV, eV/Å and eV/Å³."""
        unit = units.GPa if name == STRESS else 1.0  # of labels of stress, errors are told in GPa
        scaled, ends = self.interval(LABEL_TASKS[name], value / unit, deviation / unit, n_atoms)
        return scaled * unit, ends * unit

    def interval(self, task: Task, value: Values, deviation: Values, n_atoms: int) -> tuple[Values, Values]:
        """Return the calibrated deviation, and lower and upper end of the interval ``(2, ...)``, in ``task.unit``."""
        own = self.values[task.name]
        slope = slope_of(task, value, n_atoms)
        scaled = own.deviation(deviation / slope)
        step = own.quantile * scaled
        if task.transform == "log10":
            ends = (value * 10.0**-step, value * 10.0**step)
        else:
            ends = (value - step * slope, value + step * slope)
        return scaled * slope, np.stack(ends)

    def classes_of(
        self, name: str, probabilities: Values, members: Values | None = None
    ) -> tuple[Values, Values | None, NDArray[np.bool_]]:
        """Return calibrated probabilities, their deviations and which classes are told, all ``(..., n_classes)``.

        Args:
            name: Of the head.
            probabilities: As the network says them.
            members: Logarithms of its members' ``(..., n_members, n_classes)``; deviations are theirs at the
                temperature, and there are none without.
        """
        own = self.classes[name]
        tempered, spread = tempered_classes(probabilities, members, own.temperature, own.of_members)
        return tempered, spread, told_classes(tempered, own.threshold, self.level)


def calibrated(
    predictions: Sequence[Prediction], tasks: Sequence[Task], sizes: Sequence[int], plain: Mapping[str, Any]
) -> list[Prediction]:
    """Return predictions with the calibration that a checkpoint or file carries, or as they are where it has none.

    Args:
        predictions: As the network made them.
        tasks: What its property and classification heads predict.
        sizes: Atoms of each structure.
        plain: As `Calibration.to_dict` returned it, or empty.
    """
    calibration = Calibration.from_dict(plain)
    if calibration is None:
        return [replace(found, members={}) for found in predictions]
    return [calibration.apply(found, tasks, size) for found, size in zip(predictions, sizes, strict=True)]


def tempered_classes(
    probabilities: Values, members: Values | None, temperature: float, of_members: bool
) -> tuple[Values, Values | None]:
    """Return probabilities at a temperature and their deviations, both ``(..., n_classes)``; see `ClassCalibration`."""
    if members is None:
        return at_temperature(probabilities, temperature), None
    of_each = softmax(members / temperature)
    mean = of_each.mean(axis=-2) if of_members else at_temperature(probabilities, temperature)
    return mean, of_each.std(axis=-2, ddof=1)


def at_temperature(probabilities: Values, temperature: float) -> Values:
    """Return the softmax of ``log p / T`` over the last axis; NaN stays NaN."""
    return softmax(np.log(np.clip(probabilities, SURE, None)) / temperature)


def softmax(logits: Values) -> Values:
    """Return the softmax over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def slope_of(task: Task, value: Values, n_atoms: int | NDArray[np.int64]) -> Values:
    """Return how a value changes with what is learned: 1, the number of atoms, or ``ln 10 · y`` of a logarithm."""
    if task.transform == "log10":
        return np.log(10.0) * value
    per_atom = task.extensive or task.transform == "per_atom"
    return np.ones_like(value) * (n_atoms if per_atom else 1.0)


def told_classes(probabilities: Values, threshold: float | None, level: float) -> NDArray[np.bool_]:
    """Return which classes are told, ``(..., n_classes)``; all where a probability is NaN."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    falling = np.take_along_axis(probabilities, order, axis=-1)
    if threshold is None:
        before = np.cumsum(falling, axis=-1) - falling
        told = ~(before >= level)
    else:
        told = ~(falling < threshold)
    told[..., 0] = True
    result = np.empty_like(told)
    np.put_along_axis(result, order, told, axis=-1)
    return result
