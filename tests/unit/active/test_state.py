"""The state file: what was done, of which manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimgnn.active.state import STATE, Round, State, load_state, save_state
from kimgnn.errors import TrainingError


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    assert load_state(tmp_path, "abc") == State("abc", [Round()])
    state = State("abc", [Round(runs={"active": "here"}, labelled={"active": ["a", "b"]}), Round(pool=3)], "")
    save_state(tmp_path, state)
    assert load_state(tmp_path, "abc") == state
    assert (state.labels(), state.labels(before=0), state.labels("random")) == (2, 0, 0)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    state.rounds[1].late = {"active": ["c"]}
    assert (state.labels(), state.labels(before=1), state.labels("random")) == (3, 2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 1, "asked": "abc"}', "damaged"),
        ('{"format": 1, "asked": "abc", "rounds": [{"colour": 1}], "stopped": ""}', "damaged"),
        ('{"format": 7}', "another kimgnn"),
        ('{"format": 1, "asked": "other", "rounds": [], "stopped": ""}', "another manifest.*may change"),
    ],
)
def test_what_is_no_state(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(TrainingError, match=rf"state\.json: .*{message}"):
        load_state(tmp_path, "abc")
