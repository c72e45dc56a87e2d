"""What a trainer does about a manifest's `model.uncertainty`: checks the labels for it, and fits the calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kliff.dataset import Configuration
from loguru import logger

from kimgnn.data.labels import has_label
from kimgnn.errors import DataError, Problem
from kimgnn.evaluation.calibrated import Calibration
from kimgnn.evaluation.calibration import fit_calibration, refusals, structures_needed, too_few
from kimgnn.evaluation.heads import compare_heads, compare_labels
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import Regression
from kimgnn.fields import ENERGY
from kimgnn.manifest.uncertainty import Uncertainty
from kimgnn.models.tasks import tasks_of
from kimgnn.training.targets import has_target, target_spec


def asked_of(model: Mapping[str, Any]) -> Uncertainty | None:
    """Return what a manifest's ``model`` block asks for; of an ensemble something is always wanted."""
    given = model["uncertainty"]
    return Uncertainty(**(given or {})) if given is not None or model["ensemble"] > 1 else None


def check_validation(model: Mapping[str, Any], validation: Sequence[Configuration]) -> None:
    """Check, before training, that there will be labels enough to calibrate what was asked for by name.

    Args:
        model: The manifest's block.
        validation: The validation set.

    Raises:
        DataError: Of each head that says a deviation, or is of classes, and has too few validation labels.
    """
    asked = asked_of(model)
    if asked is None or asked.calibration in (None, "none"):
        return
    problems: list[Problem] = []
    told_by_all = model["ensemble"] > 1 or asked.dropout_samples > 0
    others = [head for head in model["heads"] if head["type"] != ENERGY]
    for task, head in zip(tasks_of(others), others, strict=True):
        if told_by_all or task.kind == "classification" or head["loss"] == "nll":
            found = sum(has_target(item, target_spec(task)) for item in validation)
            problems += too_few(task.name, found, asked.level)
    if told_by_all and any(head["type"] == ENERGY for head in model["heads"]):
        found = sum(has_label(item, ENERGY) for item in validation)
        problems += too_few(ENERGY, found, asked.level)
    if problems:
        raise DataError(problems=problems)


def calibrate(
    model: Mapping[str, Any], predictions: Sequence[Prediction], validation: Sequence[Configuration]
) -> Calibration | None:
    """Return the calibration that a manifest's ``model`` block asks for, or ``None``.

    Heads that cannot be calibrated go without, and that is logged: a training that took hours does not fail for it.

    Args:
        model: The block.
        predictions: Of the validation set, as the network made them.
        validation: Its structures.
    """
    asked = asked_of(model)
    if asked is None or asked.calibration == "none" or not validation:
        return None
    heads = compare_heads(tasks_of(model["heads"]), predictions, validation)
    results = {
        name: result
        for name, result in {**compare_labels(predictions, validation), **heads}.items()
        if not (isinstance(result, Regression) and result.deviation is None)
    }
    needed = structures_needed(asked.level)
    few = [name for name, result in results.items() if len(set(result.structure.tolist())) < needed]
    if few:
        logger.log(
            "INFO" if asked.calibration is None else "WARNING",
            f"{', '.join(few)}: not calibrated, for intervals of {100 * asked.level:g} % take {needed} or more "
            "validation structures with a label.",
        )
        results = {name: result for name, result in results.items() if name not in few}
    for name in list(results):
        if problems := refusals(name, results[name], asked.level):
            logger.warning(f"{name}: not calibrated, without intervals: {'; '.join(map(str, problems))}")
            del results[name]
    return fit_calibration(asked.calibration or "conformal", asked.level, results) if results else None
