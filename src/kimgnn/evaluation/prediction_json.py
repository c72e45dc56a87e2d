"""A prediction as JSON and back, exactly: floats as Python writes them, NaN as null, what is missing left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np

from kimgnn.evaluation.predict import Prediction

INFINITIES: Final = {math.inf: "inf", -math.inf: "-inf"}
"""What JSON has no number for, beside NaN."""


def to_json(prediction: Prediction) -> dict[str, Any]:
    """Return the fields of a prediction as plain values, those that it does not have left out."""
    found = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    return {name: _plain(value) for name, value in found.items() if not _is_missing(value)}


def from_json(values: Mapping[str, Any]) -> Prediction:
    """Return the prediction that `to_json` said; its arrays are of doubles, or of booleans.

    Raises:
        TypeError: A field is not of a prediction, as from a newer service.
    """
    return Prediction(**{name: _value(value) for name, value in values.items()})


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and not value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype == bool or np.isfinite(value).all():
            return value.tolist()
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(part) for part in value]
    number = float(value)
    return None if math.isnan(number) else INFINITIES.get(number, number)


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _value(part) for name, part in value.items()}
    if isinstance(value, list):
        array = np.array(value)
        return array if array.dtype == bool else array.astype(np.float64)  # None becomes NaN, and "inf" infinity
    return math.nan if value is None else float(value)
