"""How often intervals hold what they are to hold, and what deviations say of errors: judged on data not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from kimgnn.evaluation.calibrated import Calibration, ClassCalibration, ValueCalibration, Values
from kimgnn.evaluation.calibration import conformal_quantile, normal_quantile, residuals, shares
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.heads import HeadResult, compare_heads, compare_labels
from kimgnn.evaluation.metrics import with_unit
from kimgnn.evaluation.regression import Regression
from kimgnn.evaluation.tables import Table
from kimgnn.models.tasks import LABEL_TASKS, Task

if TYPE_CHECKING:
    from kliff.dataset import Configuration

    from kimgnn.evaluation.predict import Prediction

LEVELS: Final = np.linspace(0.01, 0.99, 99)
"""Nominal levels of a coverage curve."""

BINS: Final = 10
"""Of deviations, with equally many values each, and of probabilities, equally wide."""


@dataclass(frozen=True)
class Deviations:
    """Deviations or intervals of one head, before or after calibration; in what the head learns.

    Attributes:
        deviation: ``(n,)``.
        coverage: Share of the labels within the intervals of `LEVELS`, ``(99,)``; NaN where the calibration has too few
            structures for a level.
        at_level: The same at the level that is asked for.
        half_width: Median half width of its intervals.
        area: Miscalibration area: the mean of ``|coverage - level|`` over the levels.
        error: Expected normalised calibration error of the deviations (Levi et al. 2022): the mean over `BINS` of
            ``|RMS deviation - RMS error| / RMS deviation``.
    """

    deviation: Values
    coverage: Values
    at_level: float
    half_width: float
    area: float
    error: float


@dataclass(frozen=True)
class ValueUncertainty:
    """Of a head of numbers, of the energy or of force components; errors are of what is learned.

    Attributes:
        task: What is predicted.
        level: Of the intervals.
        error: Prediction minus label, ``(n,)``.
        structures: How many have a label.
        raw: As the network says it, with a normal distribution's intervals.
        calibrated: ``None`` without calibration.
        rank: Spearman's rank correlation of ``|error|`` and deviation.
    """

    task: Task
    level: float
    error: Values
    structures: int
    raw: Deviations
    calibrated: Deviations | None
    rank: float

    @property
    def unit(self) -> str:
        """Of errors and deviations."""
        if self.task.transform == "log10":
            return "log10"
        per_atom = self.task.extensive or self.task.transform == "per_atom"
        return f"{self.task.unit}/atom" if per_atom else self.task.unit


@dataclass(frozen=True)
class ClassUncertainty:
    """Of a classification head.

    Attributes:
        task: What is predicted.
        level: Of the sets of classes.
        raw: Probabilities as the network says them, ``(n, n_classes)``.
        calibrated: Likewise; ``None`` without calibration.
        reference: True classes ``(n,)``.
        coverage: Share of the structures whose class is in the set; NaN without calibration.
        set_size: Mean number of classes that are told; NaN without calibration.
        errors: Expected calibration error before and after (Guo et al. 2017): the mean of ``|accuracy - confidence|``
            over `BINS` of the most probable class's probability, each for its share of the structures.
    """

    task: Task
    level: float
    raw: Values
    calibrated: Values | None
    reference: NDArray[np.int64]
    coverage: float
    set_size: float
    errors: tuple[float, float | None]


@dataclass(frozen=True)
class Uncertainty:
    """Of all heads that say how sure they are.

    Attributes:
        method: Of calibration; ``none`` without.
        level: Of intervals and sets.
        split: What it is judged on.
        values: Head -> its own.
        classes: Head -> its own.
    """

    method: str
    level: float
    split: str
    values: dict[str, ValueUncertainty]
    classes: dict[str, ClassUncertainty]

    def tables(self) -> list[Table]:
        """Return a table for numbers and one for classes, those that there are."""
        asked = f"{100 * self.level:g} %"
        numbers = [
            ["head", "structures", f"within {asked}, raw", "calibrated", "half width", "area, raw", "calibrated"]
            + ["ENCE, raw", "calibrated", "rank"]
        ]
        for name, found in self.values.items():
            told = found.calibrated or found.raw
            row = [with_unit(name, found.unit), str(found.structures)]
            row += _beside(found, lambda one: _percent(one.at_level)) + [_number(told.half_width)]
            row += _beside(found, lambda one: _number(one.area)) + _beside(found, lambda one: _number(one.error))
            numbers.append([*row, _number(found.rank)])
        classes = [["head", "structures", f"in the set of {asked}", "classes in a set", "ECE, raw", "calibrated"]]
        for name, one in self.classes.items():
            row = [name, str(len(one.reference)), _percent(one.coverage), _number(one.set_size)]
            classes.append([*row, *map(_number, one.errors)])
        return [Table(rows) for rows in (numbers, classes) if len(rows) > 1]

    def notes(self) -> list[str]:
        """Return what the columns of the tables are, a sentence or two for each table."""
        asked, fitted = f"{100 * self.level:g} %", "fitted on the validation set"
        told = {
            "none": "Deviations are not calibrated.",
            "scaling": f"Deviations are scaled, and intervals a normal distribution's, {fitted}.",
            "conformal": f"Deviations are scaled, and intervals split conformal ones, {fitted}.",
        }
        numbers = (
            f"{told[self.method]} Of the labels of the {self.split} set, {asked} should be within the intervals of "
            f"{asked}. Half width: the median of theirs. Area: miscalibration area, the mean difference of coverage "
            "and level. ENCE: expected normalised calibration error of the deviations. Rank: Spearman's correlation of "
            "absolute errors and deviations. All are of what a head learns: per atom of an extensive property, log10 "
            "where that is learned. Every structure counts the same."
        )
        classes = (
            "ECE: expected calibration error of the most probable class's probability, before and after a temperature "
            f"{fitted}. The true class should be in the set of classes that are told as often as it says."
        )
        return [note for note, there in ((numbers, self.values), (classes, self.classes)) if there]

    def metrics(self) -> dict[str, float]:
        """Return ``{head}_coverage`` at the level, ``{head}_miscalibration_area`` and ``{head}_calibration_error``."""
        metrics: dict[str, float] = {}
        for name, found in self.values.items():
            told = found.calibrated or found.raw
            metrics |= {f"{name}_coverage": told.at_level, f"{name}_miscalibration_area": told.area}
            metrics[f"{name}_calibration_error"] = told.error
        for name, one in self.classes.items():
            if np.isfinite(one.coverage):
                metrics |= {f"{name}_coverage": one.coverage, f"{name}_set_size": one.set_size}
            metrics[f"{name}_calibration_error"] = one.errors[0] if one.errors[1] is None else one.errors[1]
        return metrics


def judge(
    predictions: Mapping[str, Sequence[Prediction]],
    configurations: Mapping[str, Sequence[Configuration]],
    tasks: Sequence[Task],
    calibration: Calibration | None,
    level: float,
) -> Uncertainty | None:
    """Return how good the uncertainties on the test set are; ``None`` without one, or where no head says any.

    Args:
        predictions: ``val`` and ``test`` -> as the network made them, not calibrated.
        configurations: Likewise, the structures.
        tasks: What the property and classification heads predict.
        calibration: Fitted on ``val``.
        level: Of the intervals, where there is no calibration.
    """
    if not configurations.get("test"):
        return None
    there = [split for split in ("val", "test") if configurations.get(split)]
    results = {split: _compare(predictions[split], configurations[split], tasks) for split in there}
    values, classes = {}, {}
    method, level = (calibration.method, calibration.level) if calibration else ("none", level)
    for name, result in results["test"].items():
        if isinstance(result, Classification):
            own = calibration.classes.get(name) if calibration else None
            if own is not None or all(name in prediction.deviations for prediction in predictions["test"]):
                classes[name] = _judge_classes(result, own, calibration, level)
        elif result.deviation is not None:
            fitted = results.get("val", {}).get(name)
            given_values = calibration.values.get(name) if calibration else None
            values[name] = judge_values(result, fitted, given_values, method, level)  # type: ignore[arg-type]
    return Uncertainty(method, level, "test", values, classes) if values or classes else None


def judge_values(
    result: Regression, fitted: Regression | None, calibration: ValueCalibration | None, method: str, level: float
) -> ValueUncertainty:
    """Return how good the deviations of a head are.

    Args:
        result: On the test set, with raw deviations.
        fitted: On the validation set, which conformal intervals of other levels come from.
        calibration: Of the head.
        method: ``conformal``, ``scaling`` or ``none``.
        level: Of the intervals.
    """
    error, raw = residuals(result)
    told = _deviations(result, error, raw, normal_quantile(LEVELS), float(normal_quantile(level)))
    calibrated = None
    if calibration is not None:
        quantiles = normal_quantile(LEVELS)
        if method == "conformal" and fitted is not None:
            val_error, val_raw = residuals(fitted)
            scores = _ratio(val_error, calibration.deviation(val_raw))
            quantiles = conformal_quantile(scores, fitted.structure, LEVELS)
        calibrated = _deviations(result, error, calibration.deviation(raw), quantiles, calibration.quantile)
    deviation = (calibrated or told).deviation
    several = np.ptp(deviation) > 0 and np.ptp(np.abs(error)) > 0
    rank = float(spearmanr(np.abs(error), deviation).statistic) if several else np.nan
    structures = len(np.unique(result.structure))
    return ValueUncertainty(result.task, level, error, structures, told, calibrated, rank)


def interval_coverage(
    predictions: Sequence[Prediction], configurations: Sequence[Configuration], tasks: Sequence[Task]
) -> dict[str, float]:
    """Return ``{head}_coverage``, the share of the labels within calibrated intervals or sets of classes.

    Of several values of a structure each counts for its share, so that every structure counts the same.
    """
    metrics: dict[str, float] = {}
    lower, upper = (_compare(_ends(predictions, side), configurations, tasks) for side in (0, 1))
    for name, result in lower.items():
        if isinstance(result, Classification):
            if all(name in prediction.sets for prediction in predictions):
                told = np.stack([predictions[index].sets[name] for index in result.structure])
                metrics[f"{name}_coverage"] = float(told[np.arange(len(told)), result.reference].mean())
        elif all(name in prediction.intervals for prediction in predictions):
            highest: Any = upper[name]
            held = (result.predicted <= result.reference) & (result.reference <= highest.predicted)
            metrics[f"{name}_coverage"] = float(shares(result.structure) @ held)
    return metrics


def _compare(
    predictions: Sequence[Prediction], configurations: Sequence[Configuration], tasks: Sequence[Task]
) -> dict[str, HeadResult]:
    return {**compare_labels(predictions, configurations), **compare_heads(tasks, predictions, configurations)}


def _ends(predictions: Sequence[Prediction], side: int) -> list[Prediction]:
    """Return predictions with one end of their intervals, lower (0) or upper (1), in the place of values."""
    ends = []
    for prediction in predictions:
        found = {name: interval[side] for name, interval in prediction.intervals.items()}
        properties = {name: found.get(name, value) for name, value in prediction.properties.items()}
        of_energy = {name: found[name] for name in LABEL_TASKS if name in found}
        ends.append(replace(prediction, properties=properties, **of_energy))
    return ends


def _deviations(result: Regression, error: Values, deviation: Values, quantiles: Values, asked: float) -> Deviations:
    """Return how good deviations ``(n,)`` are, with quantiles for `LEVELS` and the one for the level asked for."""
    share, score = shares(result.structure), _ratio(error, deviation)
    coverage = np.array([share @ (score <= quantile) for quantile in quantiles])
    coverage = np.where(np.isfinite(quantiles), coverage, np.nan)
    at_level, half_width = float(share @ (score <= asked)), asked * float(np.median(deviation))
    area = float(np.nanmean(np.abs(coverage - LEVELS)))
    return Deviations(deviation, coverage, at_level, half_width, area, _calibration_error(error, deviation))


def _ratio(error: Values, deviation: Values) -> Values:
    """Return ``|error| / deviation``; of no deviation infinite, and of no error 0."""
    size = np.abs(error)
    return np.divide(size, deviation, out=np.where(size > 0, np.inf, 0.0), where=deviation > 0)


def bins_of(error: Values, deviation: Values) -> tuple[Values, Values]:
    """Return root mean squares of deviations and of errors, in `BINS` of the same number of values by deviation."""
    order = np.argsort(deviation, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return tuple(np.array([np.sqrt(np.mean(values[part] ** 2)) for part in parts]) for values in (deviation, error))  # type: ignore[return-value]


def _calibration_error(error: Values, deviation: Values) -> float:
    told, found = bins_of(error, deviation)
    return float(np.mean(np.abs(told - found) / told)) if (told > 0).all() else np.inf


def _judge_classes(
    result: Classification, own: ClassCalibration | None, calibration: Calibration | None, level: float
) -> ClassUncertainty:
    before = confidence_error(result.probabilities, result.reference)
    if own is None or calibration is None:
        return ClassUncertainty(
            result.task, level, result.probabilities, None, result.reference, np.nan, np.nan, (before, None)
        )
    probabilities, _, told = calibration.classes_of(result.task.name, result.probabilities, result.members)
    coverage = float(told[np.arange(len(told)), result.reference].mean())
    errors = before, confidence_error(probabilities, result.reference)
    size = float(told.sum(axis=1).mean())
    return ClassUncertainty(
        result.task, level, result.probabilities, probabilities, result.reference, coverage, size, errors
    )


def confidence_bins(probabilities: Values, reference: NDArray[np.int64]) -> tuple[Values, Values, NDArray[np.int64]]:
    """Return mean probability of the most probable class, how often it is true, and number of structures, by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == reference
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    there = counts > 0
    sums = [np.bincount(place, weights=values, minlength=BINS)[there] / counts[there] for values in (confidence, right)]
    return sums[0], sums[1], counts[there]


def confidence_error(probabilities: Values, reference: NDArray[np.int64]) -> float:
    """Return the expected calibration error of probabilities ``(n, n_classes)``; see `ClassUncertainty`."""
    confidence, accuracy, counts = confidence_bins(probabilities, reference)
    return float(np.sum(counts * np.abs(accuracy - confidence)) / counts.sum())


def _beside(found: ValueUncertainty, cell: Callable[[Deviations], str]) -> list[str]:
    """Return a cell of the raw deviations and one of the calibrated ones."""
    return ["–" if told is None else cell(told) for told in (found.raw, found.calibrated)]


def _percent(share: float) -> str:
    return "–" if not np.isfinite(share) else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"
