"""The `model.uncertainty` block: how a network says how sure it is, and what makes that true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kimgnn.errors import Problem
from kimgnn.manifest.block import Block, wrong
from kimgnn.manifest.training import Training

if TYPE_CHECKING:
    from kimgnn.manifest.model import Model


def _is_number_of_samples(number: int) -> int:
    if number < 0 or number == 1:
        raise wrong("is no number of samples that have a spread", allowed="0 for none, or 2 or more")
    return number


class Uncertainty(Block):
    """How predictions come by standard deviations and intervals, besides an ensemble's members and `loss: nll`."""

    dropout_samples: Annotated[int, AfterValidator(_is_number_of_samples)] = 0
    """Evaluations of a prediction with dropout at random, which is off otherwise; 0 for one without.

    Batch statistics stay those of training, and the same structure gets the same answer. 30 is a usual number."""
    calibration: Literal["conformal", "scaling", "none"] | None = None
    """What makes intervals of deviations, fitted on the validation set.

    `conformal` takes the errors there as they are, `scaling` a normal distribution. When absent, `conformal` for those
    heads that enough structures of the validation set have a label of."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the true values that an interval is to hold."""


def check_uncertainty(model: Model, training: Training) -> Iterator[Problem]:
    """Yield what does not go together.

    Args:
        model: The block.
        training: The block of the same manifest.
    """
    if model.ensemble > 1 and training.strategy != "auto":
        message = "divides a training among processes, and each network of an ensemble is trained by one"
        remedy = "Leave it out: training.devices says how many networks are trained at a time."
        yield Problem("training.strategy", message, training.strategy, "auto", remedy)
    uncertainty, where = model.uncertainty, "model.uncertainty"
    if uncertainty is None or model.architecture is None:
        return
    samples = uncertainty.dropout_samples
    if samples and model.ensemble > 1:
        message = "are a second answer to what the members of an ensemble say already"
        yield Problem(f"{where}.dropout_samples", message, samples, remedy="Keep one of them.")
    elif samples and not _trunk_has_dropout(model):
        without = [index for index, head in enumerate(model.heads) if not _has_dropout(head)]
        if len(without) == len(model.heads):
            remedy = "Give model.options, a head or model.composition a dropout above 0, or train an ensemble."
            message = "would all be the same: the network has no dropout"
            yield Problem(f"{where}.dropout_samples", message, samples, "0", remedy)
            without = []
        for index in without:  # it would say that it is sure, whatever the structure
            if model.heads[index].get("loss") != "nll":
                message = "is 0, so that samples of this head would all be the same"
                remedy = "Give it a dropout above 0, and a hidden layer, or model.options one."
                yield Problem(f"model.heads.{index}.dropout", message, remedy=remedy)
    if uncertainty.calibration == "none":
        return
    kinds = [head.get("type") == "classification" or head.get("loss") == "nll" for head in model.heads]
    if not (model.ensemble > 1 or samples or any(kinds)):
        message = "has nothing to calibrate: the network says no deviation and no probability"
        remedy = "Train an ensemble, ask for dropout_samples, or give a head loss: nll."
        yield Problem(where, message, remedy=remedy)
    validation = training.validation_dataset
    if uncertainty.calibration and not (validation.val_size or validation.val_indices or validation.path):
        message = "is fitted on validation data, of which there are none"
        remedy = "Give training.validation_dataset, or set calibration to none."
        yield Problem(f"{where}.calibration", message, uncertainty.calibration, remedy=remedy)


def _has_dropout(options: Mapping[str, Any]) -> bool:
    """Whether an option is a dropout, of layers that there are."""
    dropout = any("dropout" in name and value for name, value in options.items())
    return dropout and options.get("num_hidden_layers") != 0


def _trunk_has_dropout(model: Model) -> bool:
    """Whether all heads see dropout; late fusion has no layers of its own to drop features of."""
    composition = model.composition
    fused = composition is not None and composition.fusion != "late"
    return (fused and _has_dropout(dict(composition or ()))) or _has_dropout(model.options)
