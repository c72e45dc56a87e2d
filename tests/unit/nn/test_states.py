"""State inputs: numbers in units of their spread, classes one-hot, and nothing else."""

import pytest
import torch

from kimgnn.errors import DataError, ModelError
from kimgnn.nn.states import StateEncoder, StateInput, read_states, state_inputs_of

TEMPERATURE = StateInput("temperature", mean=300.0, spread=50.0)
METHOD = StateInput("method", classes=["PBE", "HSE", "r2SCAN"])


def test_what_the_network_sees() -> None:
    """Two structures: 250 K by r2SCAN, 300 K by PBE."""
    encoder = StateEncoder([TEMPERATURE, METHOD])
    assert encoder.out_channels == 4
    found = encoder(torch.tensor([[250.0, 2.0], [300.0, 0.0]], dtype=torch.float64))
    assert found.tolist() == [[-1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("states", [[torch.nan, 1.0], [300.0, torch.nan], [300.0, 3.0], [300.0, 0.5], [300.0, -1.0]])
def test_what_is_no_value_is_no_number(states: list[float]) -> None:
    """A class that there is not must not pass as none of them."""
    assert StateEncoder([TEMPERATURE, METHOD])(torch.tensor([states], dtype=torch.float64)).isnan().any()


def test_values_are_read_by_name() -> None:
    """Of an ASE structure's info: numbers, also as text; classes by their names; None and NaN are missing."""
    inputs = [TEMPERATURE, METHOD]
    assert read_states(inputs, {"temperature": "350", "method": "HSE", "other": 1}, "it") == [350.0, 1.0]
    # As in training, where they are read like targets.
    assert read_states(inputs, {"temperature": [300], "method": " r2SCAN "}, "it") == [300.0, 2.0]
    assert read_states(inputs, {"temperature": 300, "method": 0}, "it") == [300.0, 0.0]
    doped = StateInput("doped", classes=["no", "yes"])
    assert read_states([doped], {"doped": True}, "it") == read_states([doped], {"doped": "1"}, "it") == [1.0]
    for values, words in (
        ({"temperature": 300.0}, r"it \(method\).*no such value.*PBE, HSE, r2SCAN"),
        ({"temperature": 300.0, "method": "LDA"}, r"it \(method\).*no such class.*'LDA'"),
        ({"temperature": "hot", "method": "PBE"}, r"it \(temperature\).*not a number.*'hot'"),
        ({"temperature": float("nan"), "method": "PBE"}, "not a number"),
        ({"temperature": True, "method": "PBE"}, "not a number"),
    ):
        with pytest.raises(DataError, match=words):
            read_states(inputs, values, "it")


def test_options_and_what_is_wrong_with_them() -> None:
    """As a manifest or a spec has them, most without any; a number without its spread builds no network."""
    assert state_inputs_of({}) == []
    assert state_inputs_of({"state_inputs": [{"name": "pressure"}]}) == [StateInput("pressure")]
    with pytest.raises(ModelError, match="pressure.*mean and spread"):
        StateEncoder([StateInput("pressure")])
    for wrong in ({"name": "a/b"}, {"name": "x", "classes": ["one"]}, {"name": "x", "classes": ["one", "one"]},
                  {"name": "x", "spread": 0.0}, {"name": "x", "classes": ["a", "b"], "mean": 1.0}):  # fmt: skip
        with pytest.raises(ValueError, match="state_inputs"):
            StateInput(**wrong)
