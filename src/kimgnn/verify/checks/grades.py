"""OpenKIM's letter grades, and what a verification check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Grade = Literal["A", "B", "C", "D", "F", "P", "N/A"]

MACHINE_EPSILON: Final = float(np.finfo(float).eps)

HIGHEST_SCORES: Final[dict[Grade, float]] = {"A": 7.5, "B": 10.0, "C": 12.5, "D": 15.0}
"""The highest log10(error / machine epsilon) of each grade (openkim/kim-tools, ``kim_tools/vc/core.py``)."""


def letter_grade(error: float) -> Grade:
    """Return the grade of a relative error; of a NaN, F."""
    return next((grade for grade in HIGHEST_SCORES if error <= largest_error(grade)), "F")


def largest_error(grade: Grade) -> float:
    """Return the largest relative error that still earns a letter: 7e-9, 2.2e-6, 7e-4, 0.22."""
    return MACHINE_EPSILON * 10.0 ** HIGHEST_SCORES[grade]


@dataclass(frozen=True)
class Outcome:
    """How a check ended.

    Attributes:
        grade: A to F, or P for a pass without a letter; N/A where the model did not let it be run.
        comment: What was looked at, and the worst that was found.
        error: The number behind the grade, if there is one.
        allowed: The largest error that passes.
    """

    grade: Grade
    comment: str
    error: float | None = None
    allowed: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the check was run and did not fail."""
        return self.grade not in ("F", "N/A")
