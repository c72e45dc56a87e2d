"""Predictions as JSON and back: not a bit is lost, whatever the numbers."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.prediction_json import from_json, to_json

NUMBERS = st.floats(width=64)  # NaN, infinities, subnormal ones


def of_shape(*shape: int) -> Any:
    return arrays.arrays(np.float64, shape, elements=NUMBERS)


def by_name(*shape: int) -> Any:
    return st.dictionaries(st.text(min_size=1, max_size=5), of_shape(*shape), max_size=2)


@st.composite
def predictions(draw: Any) -> Prediction:
    """Any prediction of three atoms."""
    kinds = {
        "energy": NUMBERS,
        "forces": of_shape(3, 3),
        "stress": of_shape(6),
        "atomic_energies": of_shape(3),
        "properties": by_name(3, 1),
        "deviations": by_name(2),
        "intervals": by_name(2, 3, 1),
        "members": by_name(2, 4),
        "sets": st.dictionaries(st.text(), arrays.arrays(bool, 4), max_size=2),
        "energy_deviation": NUMBERS,
        "forces_deviation": of_shape(3, 3),
        "stress_deviation": of_shape(6),
        "attention": NUMBERS,
    }
    assert kinds.keys() == {field.name for field in fields(Prediction)}
    chosen = draw(st.sets(st.sampled_from(sorted(kinds))))
    return Prediction(**{name: draw(kinds[name]) for name in chosen})


@given(predictions())
def test_nothing_is_lost(prediction: Prediction) -> None:
    text = json.dumps(to_json(prediction), allow_nan=False)
    again = from_json(json.loads(text))
    for field in fields(Prediction):
        there, back = getattr(prediction, field.name), getattr(again, field.name)
        assert type(there) is type(back)
        if isinstance(there, dict):
            assert there.keys() == back.keys()
            pairs = [(there[name], back[name]) for name in there]
        else:
            pairs = [] if there is None else [(there, back)]
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
            assert np.asarray(one).dtype == np.asarray(other).dtype


def test_what_is_missing_is_left_out() -> None:
    assert to_json(Prediction()) == {}
    assert to_json(Prediction(energy=float("nan"))) == {"energy": None}
