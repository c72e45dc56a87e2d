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

Probabilities are sharpened or flattened by a temperature (Guo et al. 2017), those of an ensemble's members each before
their mean and their deviation are taken. The classes that are told are, by
``conformal``, those above a threshold (Sadinle et al. 2019), and by ``scaling`` the fewest whose probabilities add up
to the level; the most probable one is always among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

from kimgnn.errors import DataError, Problem
from kimgnn.evaluation.calibrated import (
    SURE,
    Calibration,
    ClassCalibration,
    Method,
    ValueCalibration,
    Values,
    slope_of,
    tempered_classes,
)
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.heads import HeadResult
from kimgnn.evaluation.regression import Regression

_WHERE: Final = "training.validation_dataset"


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
        if found := refusals(name, result, level):
            problems += found
        elif isinstance(result, Regression):
            values[name] = _fit_values(method, level, result)
        else:
            classes[name] = _fit_classes(method, level, result)
    if problems:
        raise DataError(problems=problems)
    return Calibration(method, level, values, classes)


def refusals(name: str, result: HeadResult, level: float) -> list[Problem]:
    """Return why a head cannot be calibrated: too few labelled structures, or a prediction that is not a number."""
    if few := too_few(name, len(np.unique(result.structure)), level):
        return few
    broken = ~np.all(
        [np.isfinite(part).reshape(len(result.structure), -1).all(axis=1) for part in _predicted(result)], 0
    )
    if not broken.any():
        return []
    structures = len(np.unique(result.structure[broken]))
    message = (
        f"the predictions of {name!r} for {structures} of the structures are not numbers, and cannot be calibrated"
    )
    remedy = "Look whether these are like what it was trained on, and whether training went wrong."
    return [Problem(_WHERE, message, remedy=remedy)]


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
    slope = slope_of(result.task, result.predicted, result.n_atoms)
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
    of_members = result.members is not None

    def tempered_at(temperature: float) -> Values:
        return tempered_classes(result.probabilities, result.members, temperature, of_members)[0]

    def unlikely(log_temperature: float) -> float:
        tempered = tempered_at(float(np.exp(log_temperature)))
        return float(-np.log(np.clip(tempered[true], SURE, None)).mean())

    widest = np.log(100.0)
    temperature = float(np.exp(minimize_scalar(unlikely, bounds=(-widest, widest), method="bounded").x))
    threshold = None
    if method == "conformal":
        missing = 1.0 - tempered_at(temperature)[true]
        threshold = float(1.0 - conformal_quantile(missing, result.structure, level))
    return ClassCalibration(temperature, threshold, len(result.reference), of_members)
