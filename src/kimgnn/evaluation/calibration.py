"""Calibration: how far deviations and probabilities are from what they say, and intervals that hold as often as asked.

All is fitted on validation structures, in what a head learns: the value, its decimal logarithm or its share of an atom
(of the energy: the energy per atom), so that the interval of a logarithm is asymmetric and positive. A deviation
becomes ``s = a σ + b`` by maximum likelihood (Palmer et al. 2022: the spread of networks knows nothing of the error
that they share). An interval is ``± q s``:

* ``scaling``: q is the normal distribution's;
* ``conformal``: q is the quantile of ``|error| / s``, of n structures the ⌈(n + 1) level⌉-th smallest (split conformal
  prediction; Lei et al. 2018), which holds whatever the distribution. Of several values of a structure (components,
  atoms, forces) each counts for its share, since those of one structure are alike: the quantile is that of Dunn,
  Wasserman & Ramdas (2023) for values in groups.

Probabilities are sharpened or flattened by a temperature (Guo et al. 2017). The classes that are told are, by
``conformal``, those above a threshold (Sadinle et al. 2019), and by ``scaling`` the fewest whose probabilities add up
to the level; the most probable one is always among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

from kimgnn.errors import DataError, Problem
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.heads import LABEL_TASKS, HeadResult
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.fields import ENERGY, FORCES
from kimgnn.models.tasks import Task

Method: TypeAlias = Literal["conformal", "scaling"]
Values: TypeAlias = NDArray[np.float64]

_WHERE: Final = "training.validation_dataset"

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
    """

    temperature: float
    threshold: float | None
    structures: int


@dataclass(frozen=True)
class Calibration:
    """Of a network, for one level.

    Attributes:
        method: ``conformal`` or ``scaling``.
        level: Share of the true values that intervals and sets of classes are to hold.
        values: Head, ``energy`` or ``forces`` -> its own.
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
                properties[name], sets[name] = self.classes_of(name, properties[name])
            elif name in self.values and name in deviations:
                deviations[name], intervals[name] = self.interval(task, properties[name], deviations[name], n_atoms)
        for name in (ENERGY, FORCES):
            deviation = getattr(prediction, f"{name}_deviation")
            if name in self.values and deviation is not None:
                value = np.asarray(getattr(prediction, name), dtype=np.float64)
                scaled, intervals[name] = self.interval(LABEL_TASKS[name], value, np.asarray(deviation), n_atoms)
                of_energy[f"{name}_deviation"] = float(scaled) if name == ENERGY else scaled
        return replace(
            prediction, properties=properties, deviations=deviations, intervals=intervals, sets=sets, **of_energy
        )

    def interval(self, task: Task, value: Values, deviation: Values, n_atoms: int) -> tuple[Values, Values]:
        """Return the calibrated deviation, and lower and upper end of the interval ``(2, ...)``, in ``task.unit``."""
        own = self.values[task.name]
        slope = _slope(task, value, n_atoms)
        scaled = own.deviation(deviation / slope)
        step = own.quantile * scaled
        if task.transform == "log10":
            ends = (value * 10.0**-step, value * 10.0**step)
        else:
            ends = (value - step * slope, value + step * slope)
        return scaled * slope, np.stack(ends)

    def classes_of(self, name: str, probabilities: Values) -> tuple[Values, NDArray[np.bool_]]:
        """Return calibrated probabilities and which classes are told, both ``(..., n_classes)``."""
        own = self.classes[name]
        tempered = at_temperature(probabilities, own.temperature)
        return tempered, _told(tempered, own.threshold, self.level)


def fit_calibration(method: Method, level: float, results: Mapping[str, HeadResult]) -> Calibration:
    """Return the calibration of each head that says a deviation, and of each classification head.

    Args:
        method: ``conformal`` or ``scaling``.
        level: Between 0 and 1.
        results: Head, ``energy`` or ``forces`` -> labels, predictions and deviations on the validation set.

    Raises:
        DataError: Of each head with fewer labelled structures than the level asks for, or with a prediction that is not
            a number.
    """
    problems: list[Problem] = []
    values: dict[str, ValueCalibration] = {}
    classes: dict[str, ClassCalibration] = {}
    for name, result in results.items():
        if isinstance(result, Regression) and result.deviation is None:
            continue
        if few := too_few(name, len(np.unique(result.structure)), level):
            problems += few
        elif not all(np.isfinite(part).all() for part in _predicted(result)):
            problems.append(Problem(_WHERE, f"a prediction of {name!r} is not a number, and cannot be calibrated"))
        elif isinstance(result, Regression):
            values[name] = _fit_values(method, level, result)
        else:
            classes[name] = _fit_classes(method, level, result)
    if problems:
        raise DataError(problems=problems)
    return Calibration(method, level, values, classes)


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
        return list(predictions)
    return [calibration.apply(found, tasks, size) for found, size in zip(predictions, sizes, strict=True)]


def too_few(name: str, structures: int, level: float) -> list[Problem]:
    """Return what is wrong with so many labelled structures for a head: nothing, or that they are too few."""
    needed = structures_needed(level)
    if structures >= needed:
        return []
    message = f"has too few structures with a label of {name!r} to calibrate intervals of {100 * level:g} %"
    remedy = "Give more validation structures, lower model.uncertainty.level, or set calibration to none."
    return [Problem(_WHERE, message, structures, f"{needed} or more", remedy)]


def structures_needed(level: float) -> int:
    """Return the fewest structures of which a quantile of ``level`` is known: ⌈(n + 1) level⌉ ≤ n."""
    return max(2, math.ceil(level / (1.0 - level) - 1e-9))


def residuals(result: Regression) -> tuple[Values, Values]:
    """Return errors and raw deviations of what is learned, both ``(n,)``.

    Args:
        result: With deviations.
    """
    slope = _slope(result.task, result.predicted, result.n_atoms)
    if result.task.transform == "log10":
        error = np.log10(result.predicted) - np.log10(result.reference)
    else:
        error = result.error / slope
    raw: Any = result.deviation
    return error, raw / slope


def shares(structure: NDArray[np.int64]) -> Values:
    """Return what each value counts for, ``(n,)``, of sum 1, so that every structure counts the same."""
    _, place, counts = np.unique(structure, return_inverse=True, return_counts=True)
    return 1.0 / (counts[place] * len(counts))


def conformal_quantile(scores: Values, structure: NDArray[np.int64], level: float | Values) -> Values:
    """Return what the score of a new structure's value exceeds with probability ``1 - level`` at most.

    Args:
        scores: ``(n,)``, of values that were not trained on.
        structure: ``(n,)``, which structure each belongs to.
        level: Of any shape, which is the result's. Infinite where there are too few structures.
    """
    order = np.argsort(scores, kind="stable")
    n_structures = len(np.unique(structure))
    reached = np.cumsum(shares(structure)[order]) * n_structures / (n_structures + 1)
    # Sums of equal shares are off by rounding: without this, the next larger score would sometimes be taken.
    place = np.searchsorted(reached + 1e-12, np.asarray(level))
    return np.append(scores[order], np.inf)[place]


def normal_quantile(level: float | Values) -> Values:
    """Return how many deviations hold the share ``level`` of a normal distribution."""
    return np.asarray(norm.ppf(0.5 + 0.5 * np.asarray(level)))


def at_temperature(probabilities: Values, temperature: float) -> Values:
    """Return the softmax of ``log p / T`` over the last axis; NaN stays NaN."""
    logits = np.log(np.clip(probabilities, SURE, None)) / temperature
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _slope(task: Task, value: Values, n_atoms: int | NDArray[np.int64]) -> Values:
    """Return how a value changes with what is learned: 1, the number of atoms, or ``ln 10 · y`` of a logarithm."""
    if task.transform == "log10":
        return np.log(10.0) * value
    per_atom = task.extensive or task.transform == "per_atom"
    return np.ones_like(value) * (n_atoms if per_atom else 1.0)


def _predicted(result: HeadResult) -> tuple[Values, ...]:
    if isinstance(result, Classification):
        return (result.probabilities,)
    return (result.predicted, np.asarray(result.deviation))


def _fit_values(method: Method, level: float, result: Regression) -> ValueCalibration:
    error, raw = residuals(result)
    factor, offset = _fit_deviation(error, raw, shares(result.structure))
    scaled = factor * raw + offset
    quantile = normal_quantile(level)
    if method == "conformal":
        scores = np.divide(np.abs(error), scaled, out=np.zeros_like(error), where=scaled > 0)
        quantile = conformal_quantile(scores, result.structure, level)
    return ValueCalibration(factor, offset, float(quantile), len(np.unique(result.structure)))


def _fit_deviation(error: Values, raw: Values, share: Values) -> tuple[float, float]:
    """Return a and b of ``s = a σ + b``, the most likely ones of normal errors with these deviations."""
    size, spread = float(np.sqrt(share @ error**2)), float(share @ raw)
    if size == 0.0:  # no error at all: nothing says that the deviations are wrong
        return 1.0, 0.0
    if spread == 0.0:
        return 0.0, size
    error, raw = error / size, raw / spread

    def unlikely(given: Values) -> tuple[float, Values]:
        scaled = given[0] * raw + given[1]
        ratio = (error / scaled) ** 2
        slope = share * (1.0 - ratio) / scaled
        return float(share @ (np.log(scaled) + 0.5 * ratio)), np.array([slope @ raw, slope.sum()])

    # The likelihood may have more than one maximum: from the deviations alone, the offset alone, and both.
    bounds = [(0.0, None), (1e-6, None)]
    starts = [(1.0, 0.01), (0.01, 1.0), (0.5, 0.5)]
    found = [minimize(unlikely, start, jac=True, bounds=bounds, method="L-BFGS-B") for start in starts]
    factor, offset = min(found, key=lambda result: float(result.fun)).x
    return float(factor * size / spread), float(offset * size)


def _fit_classes(method: Method, level: float, result: Classification) -> ClassCalibration:
    true = np.arange(len(result.reference)), result.reference

    def unlikely(log_temperature: float) -> float:
        tempered = at_temperature(result.probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.clip(tempered[true], SURE, None)).mean())

    widest = np.log(100.0)
    temperature = float(np.exp(minimize_scalar(unlikely, bounds=(-widest, widest), method="bounded").x))
    threshold = None
    if method == "conformal":
        missing = 1.0 - at_temperature(result.probabilities, temperature)[true]
        threshold = float(1.0 - conformal_quantile(missing, result.structure, level))
    return ClassCalibration(temperature, threshold, len(result.reference))


def _told(probabilities: Values, threshold: float | None, level: float) -> NDArray[np.bool_]:
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
