"""What property and classification heads take from the training set before it is trained on: origin, unit, weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from kliff.dataset import Configuration
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from kimgnn.errors import DataError, Problem
from kimgnn.heads.property import PropertyOptions, apply_transform
from kimgnn.models.tasks import head_name
from kimgnn.transforms.graph import TARGETS, configuration_name

RIDGE = 0.1
"""Penalty of the reference values: holds back those of elements that a structure or two have, no others."""


def check_logarithms(heads: Iterable[Mapping[str, Any]], configurations: Iterable[Configuration]) -> None:
    """Check that what is learned as a logarithm has one: the loss of a batch with a 0 in it is infinite.

    Args:
        heads: ``type`` and options of each, every default filled.
        configurations: Of all splits, with targets.

    Raises:
        DataError: Of each structure with a value of 0 or less.
    """
    logarithms = [head for head in heads if head["type"] == "property" and head["transform"] == "log10"]
    problems = [
        Problem(
            f"{configuration_name(item)} ({head['target']})",
            "has no logarithm",
            float(np.nanmin(target)),
            "numbers above 0",
            f"Correct or remove the label, or take another transform for the head {head_name(head)!r}.",
        )
        for item in configurations
        for head in logarithms
        if np.any((target := item.metadata[TARGETS][head["target"]]) <= 0)
    ]
    if problems:
        raise DataError(problems=problems)


def fit_property_head(head: Mapping[str, Any], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Return a property head's options with numbers where they say ``fit``.

    Args:
        head: ``type`` and options, every default filled.
        configurations: The training set, with targets, which have logarithms where the head learns those.

    Raises:
        DataError: No structure has the target.
    """
    options = PropertyOptions(**{key: value for key, value in head.items() if key != "type"})
    name = head_name(head)
    labelled = [item for item in configurations if not np.isnan(item.metadata[TARGETS][options.target]).all()]
    if not labelled:
        raise DataError("no training structure has this target", where=f"model.heads.{name}", value=options.target)
    learned = [_learned(item, options) for item in labelled]
    fitted = dict(head)
    reference = options.reference or ("fit" if options.extensive else "none")
    if reference == "fit":
        reference = _fit_reference(learned, labelled)
    fitted["reference"] = reference
    if isinstance(reference, dict):
        learned = [
            values - _of_elements(item, reference, options) for values, item in zip(learned, labelled, strict=True)
        ]
    values = np.concatenate(learned)
    mean = np.nanmean(values, axis=0) if options.standardize else np.zeros(options.components)
    if options.mean == "fit":
        fitted["mean"] = mean.tolist()
    if options.spread == "fit":
        spread = np.nanstd(values, axis=0) if options.standardize else np.ones(options.components)
        # Where the reference values say all there is to say, only rounding errors are left to scale.
        fitted["spread"] = np.where(spread > 1e-8, spread, 1.0).tolist()
    return fitted


def fit_classification_head(head: Mapping[str, Any], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Return a classification head's options with numbers where they say ``balanced``.

    A class counts ``n / (n_classes · n_class)``, scikit-learn's rule.

    Args:
        head: ``type`` and options, every default filled.
        configurations: The training set, with targets.
    """
    fitted = dict(head)
    if head["class_weights"] == "balanced":
        classes = np.array([item.metadata[TARGETS][head["target"]].item() for item in configurations])
        classes = classes[~np.isnan(classes)].astype(int)
        counts = np.bincount(classes, minlength=len(head["classes"] or (0, 1)))
        fitted["class_weights"] = (len(classes) / (len(counts) * np.maximum(counts, 1))).tolist()
    return fitted


def _learned(configuration: Configuration, options: PropertyOptions) -> NDArray[np.float64]:
    """Return what is learned of a structure's target, a row a structure or atom."""
    target = np.atleast_2d(configuration.metadata[TARGETS][options.target])
    n_atoms = torch.tensor([len(configuration.species)])
    learned: NDArray[np.float64] = apply_transform(torch.from_numpy(target), options.learned, n_atoms).numpy()
    return learned


def _fit_reference(learned: Sequence[NDArray[np.float64]], configurations: Sequence[Configuration]) -> dict[str, float]:
    """Return element -> what it adds to the mean, by ridge regression on the shares of the elements."""
    elements = sorted({symbol for item in configurations for symbol in item.species})
    column = {symbol: index for index, symbol in enumerate(elements)}
    shares = np.zeros((len(configurations), len(elements)))
    for row, item in zip(shares, configurations, strict=True):
        np.add.at(row, [column[symbol] for symbol in item.species], 1.0 / len(item.species))
    values = np.array([np.nanmean(item) for item in learned])
    ridge = Ridge(alpha=RIDGE).fit(shares, values)
    return dict(zip(elements, ridge.coef_.tolist(), strict=True))


def _of_elements(configuration: Configuration, reference: Mapping[str, float], options: PropertyOptions) -> Any:
    """Return what the reference values say of a structure, or a column of what they say of each atom."""
    values = np.array([reference.get(symbol, 0.0) for symbol in configuration.species])
    return values[:, None] if options.per_atom else values.mean()
