"""Options of third parties are checked like our own: by their dataclass or by their constructor."""

from dataclasses import dataclass
from typing import Literal

import pytest

from kimgnn.errors import ModelError
from kimgnn.manifest.options import check_call, check_dataclass
from kimgnn.nn.options import Options


@dataclass(frozen=True)
class NetOptions(Options):
    """What a package might bring."""

    cutoff: float
    layers: tuple[int, ...] = (8, 8)
    mode: Literal["a", "b"] | None = None

    def __post_init__(self) -> None:
        if self.cutoff > 10:
            raise ModelError("is beyond reach", where="cutoff", value=self.cutoff)
        if len(self.layers) > 3:
            raise ValueError("too deep")


class Transform:
    """A transform with a loosely written signature."""

    def __init__(self, cutoff: float, names: list[str] = None, *, skipped=False, **rest) -> None:  # noqa: RUF013
        pass


def test_dataclass_is_filled():
    """A list serves as a tuple, a whole number as a float; every default is there, as JSON has it."""
    assert check_dataclass(NetOptions, {"cutoff": 4, "layers": [4]}, "model.options", "net") == (
        {"cutoff": 4.0, "layers": [4], "mode": None},
        [],
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cutoff": 11}, "model.options.cutoff: is beyond reach (got 11.0)."),
        ({"cutoff": 4, "layers": [1, 2, 3, 4]}, "model.options: too deep (got"),
        ({"cutoff": 4, "layers": [1, True]}, "model.options.layers.1: must be a whole number (got True)."),
        ({"cutoff": 4, "mode": "c"}, "model.options.mode: unknown value (got 'c'). Allowed: 'a', 'b'."),
    ],
)
def test_dataclass_problems(options, told):
    """The class's own range checks, of either kind, come at the option's path."""
    kept, (problem,) = check_dataclass(NetOptions, options, "model.options", "net")
    assert kept == options
    assert str(problem).startswith(told)


def test_call_is_filled():
    """Defaults come from the signature; what is not the user's to give is left out."""
    filled, problems = check_call(Transform, {"cutoff": 4}, "kwargs", "Transform", skip={"skipped"})
    assert not problems
    assert filled == {"cutoff": 4.0, "names": None}


def test_call_by_names_only():
    """Where annotations say little, as in torch, values pass and names are still checked."""
    assert check_call(Transform, {"cutoff": "?"}, "kwargs", "Transform", skip=set(), typed=False) == (
        {"cutoff": "?"},
        [],
    )
    _, problems = check_call(Transform, {"cutof": 4}, "kwargs", "Transform", skip=set(), typed=False)
    assert [problem.where for problem in problems] == ["kwargs.cutoff", "kwargs.cutof"]
