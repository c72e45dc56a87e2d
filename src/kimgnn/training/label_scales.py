"""KLIFF's property transforms: the unit and the origin that a label is trained in.

A transform changes what the loss compares, never what the model says: predictions and exports stay in physical units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kliff.dataset import Configuration
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.fields import FORCES
from kimgnn.transforms.graph import label_of


@dataclass(frozen=True)
class LabelScale:
    """``transformed = (label - offset) / scale``, in the label's own unit."""

    label: str
    scale: float
    offset: float = 0.0


def _normalized(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.std()), float(values.mean())


def _rms(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.sqrt(np.mean(values**2))), 0.0


def _rms_magnitude(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1)))), 0.0


_TRANSFORMS: dict[str, Callable[[NDArray[np.float64]], tuple[float, float]]] = {
    "NormalizedPropertyTransform": _normalized,
    "RMSNormalizePropertyTransform": _rms,
    "RMSMagnitudeNormalizePropertyTransform": _rms_magnitude,
}
"""KLIFF's name -> label values ``(n, components)`` to scale and offset, by the formulas of KLIFF's classes."""


def fit_label_scales(
    transforms: Sequence[Mapping[str, Any]], configurations: Sequence[Configuration]
) -> list[LabelScale]:
    """Return the scale of each label that ``transforms.property`` names, fitted on ``configurations``.

    Args:
        transforms: KLIFF's shape: ``{name: energy, energy: {name: NormalizedPropertyTransform}}``.
        configurations: The training set; labels that are missing are left out.

    Raises:
        DataError: The label does not occur, or does not vary.
    """
    scales = []
    for index, entry in enumerate(transforms):
        label = entry["name"]
        name = entry[label]["name"]
        found = [np.ravel(label_of(configuration, label)) for configuration in configurations]
        found = [values for values in found if not np.isnan(values).any()]
        if not found:
            raise DataError(f"no training structure has {label} to fit {name} on", where=f"transforms.property.{index}")
        values = np.concatenate(found).reshape(-1, 3 if label == FORCES else 1)
        scale, offset = _TRANSFORMS[name](values)
        if not scale > 0:
            raise DataError(
                f"{label} does not vary over the training set: {name} would divide by zero",
                where=f"transforms.property.{index}",
                value=scale,
            )
        scales.append(LabelScale(label, scale, offset))
    return scales
