"""OpenKIM's letters, and how comparisons become an outcome."""

import math

import pytest

pytest.importorskip("kimpy")

from kimgnn.errors import KIMError
from kimgnn.verify.checks.comparisons import Case, compare_each, pass_or_fail
from kimgnn.verify.checks.grades import Outcome, largest_error, letter_grade


@pytest.mark.parametrize(
    ("error", "grade"),
    [
        (0.0, "A"), (7.0e-9, "A"), (7.1e-9, "B"), (2.2e-6, "B"), (2.3e-6, "C"), (7.0e-4, "C"), (7.1e-4, "D"),
        (0.22, "D"), (0.23, "F"), (math.inf, "F"), (math.nan, "F"),
    ],
)  # fmt: skip
def test_letters_follow_the_published_scale(error: float, grade: str) -> None:
    """A to 10^7.5 machine epsilons, B to 10^10, C to 10^12.5, D to 10^15; what is no number is F."""
    assert letter_grade(error) == grade


def test_the_largest_error_of_a_letter_earns_it() -> None:
    """The two functions agree at the limits."""
    assert [letter_grade(largest_error(letter)) for letter in ("A", "B", "C", "D")] == ["A", "B", "C", "D"]


@pytest.mark.parametrize(("grade", "passed"), [("A", True), ("D", True), ("P", True), ("F", False), ("N/A", False)])
def test_what_was_not_run_has_not_passed(grade: str, passed: bool) -> None:
    """Only letters above F, and P, pass."""
    assert Outcome(grade, "").passed is passed


def test_the_worst_failing_comparison_comes_first() -> None:
    """Ordered by the excess over what each is allowed, not by the error."""
    outcome = pass_or_fail([Case("fine", 1.0, 2.0), Case("bad", 3.0, 2.0), Case("worse", 1.0, 0.1)], "a note")
    assert outcome == Outcome("F", "2 of 3 comparisons fail: worse, bad; a note", 1.0, 0.1)


def test_an_error_that_is_no_number_fails() -> None:
    """NaN compares with nothing."""
    assert pass_or_fail([Case("fine", 0.0, 1.0), Case("broken", math.nan, 1.0)]).grade == "F"


def test_what_the_model_refuses_is_passed_over_and_told() -> None:
    """Unless it refuses everything."""

    def compare(name: str, refuses: bool) -> list[Case]:
        if refuses:
            raise KIMError("refused", where=name)
        return [Case(name, 0.0, 1.0)]

    assert compare_each({"Si": False, "C": True}, compare) == (
        [Case("Si", 0.0, 1.0)],
        "the model does not compute C",
    )
    with pytest.raises(KIMError, match="Si: refused"):
        compare_each({"Si": True, "C": True}, compare)
