"""What training and predictions need of the data, checked before they start."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from kliff.dataset import Configuration

from kimgnn.data.labels import KEYS, KEYS_PRESENT, has_label
from kimgnn.data.statistics import label_counts, species_of
from kimgnn.errors import DataError, Problem, did_you_mean
from kimgnn.fields import LABELS, STRESS

SHOWN: Final = 5
"""Structures that a message about many of them names."""


def unseen_elements(configurations: Sequence[Configuration], seen: Collection[str]) -> str:
    """Return that structures have elements that were not trained on, which, and which structures; or nothing.

    Args:
        configurations: Any.
        seen: Elements of the training set.
    """
    found = [item for item in configurations if not set(seen).issuperset(item.species)]
    if not found:
        return ""
    elements = ", ".join(symbol for symbol in species_of(found) if symbol not in seen)
    names = [item.identifier or f"configuration {item.metadata.get('index', '(no index)')}" for item in found[:SHOWN]]
    return (
        f"{len(found)} structures have elements that no structure to train on has ({elements}), so that nothing is "
        f"learned of them: {', '.join(names)}{', ...' if len(found) > SHOWN else ''}"
    )


def require_labels(configurations: Sequence[Configuration], weights: Mapping[str, float | None]) -> None:
    """Check that every label with a weight in the loss is there to be fitted.

    Args:
        configurations: The training set.
        weights: Label -> weight in the loss; 0 and ``None`` mean that it is not fitted.

    Raises:
        DataError: No structure carries a label that has a weight, or one has a stress to be fitted but no volume.

    Warns:
        UserWarning: Some structures lack one; they are left out of that term.
    """
    counts = label_counts(configurations)
    weighted = [label for label in LABELS if weights.get(label)]
    problems = [_absent(configurations, label) for label in weighted if counts[label] == 0]
    if STRESS in weighted:
        problems += [_without_volume(item) for item in configurations if has_label(item, STRESS) and not _volume(item)]
    if problems:
        raise DataError(problems=problems)
    for label in weighted:
        missing = len(configurations) - counts[label]
        if missing:
            warnings.warn(
                f"{missing} of {len(configurations)} structures have no {label}; "
                f"they are left out of that term of the loss.",
                stacklevel=2,
            )


def _volume(configuration: Configuration) -> float:
    return abs(float(np.linalg.det(configuration.cell)))


def _without_volume(configuration: Configuration) -> Problem:
    return Problem(
        where=f"{configuration.identifier or 'dataset'} (stress)",
        message="the structure has a stress, but its cell has no volume",
        remedy="Remove the label or give a cell, or set training.loss.weights.stress to 0.",
    )


def _absent(configurations: Sequence[Configuration], label: str) -> Problem:
    present: set[str] = set()
    looked_up = label
    for configuration in configurations:
        looked_up = configuration.metadata.get(KEYS, {}).get(label, looked_up)
        present.update(configuration.metadata.get(KEYS_PRESENT, {}).get(label, ()))
    return Problem(
        where=f"dataset.keys.{label}",
        message=f"{label} has a weight in the loss, but no structure carries it under this key",
        value=looked_up,
        allowed=", ".join(sorted(present)) or f"nothing in the data looks like {label}",
        remedy=did_you_mean(looked_up, present) or f"Or set training.loss.weights.{label} to 0.",
    )
