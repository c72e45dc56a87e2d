"""What most checks are made of: numbers that should be equal, compared for every composition a model can compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from kimgnn.errors import KIMError
from kimgnn.verify.checks.grades import Outcome

Subject = TypeVar("Subject")


class Case(NamedTuple):
    """One comparison, with its relative error and the largest that passes."""

    label: str
    error: float
    allowed: float

    @property
    def excess(self) -> float:
        """The error over what is allowed; infinite when it is not a number."""
        return self.error / self.allowed if math.isfinite(self.error) else math.inf


def compare_each(
    subjects: Mapping[str, Subject], compare: Callable[[str, Subject], Iterable[Case]]
) -> tuple[list[Case], str]:
    """Return the comparisons of all subjects, and which of them the model refuses to compute.

    Some models of several species compute them in certain combinations only; OpenKIM's checks pass over the others.

    Args:
        subjects: Name -> what ``compare`` takes with the name: a composition, a pair.
        compare: Makes the comparisons of one subject.

    Raises:
        KIMError: The model computes none of them.
    """
    cases: list[Case] = []
    refused: dict[str, KIMError] = {}
    for name, subject in subjects.items():
        try:
            cases += compare(name, subject)
        except KIMError as error:
            refused[name] = error
    if refused and len(refused) == len(subjects):
        raise next(iter(refused.values()))
    return cases, f"the model does not compute {', '.join(refused)}" if refused else ""


def pass_or_fail(cases: Iterable[Case], *notes: str) -> Outcome:
    """Return P when every case is within what it is allowed, else F.

    The worst cases that fail are told, or the worst that passes, and then the notes.
    """
    found = sorted(cases, key=lambda case: case.excess, reverse=True)
    failing = [case.label for case in found if case.excess > 1.0]
    if failing:
        labels = list(dict.fromkeys(failing))
        shown = ", ".join(labels[:4]) + (" and others" if len(labels) > 4 else "")
        summary = f"{len(failing)} of {len(found)} comparisons fail: {shown}"
    else:
        summary = f"{len(found)} comparisons, the worst: {found[0].label}"
    comment = "; ".join([summary, *filter(None, notes)])
    return Outcome("F" if failing else "P", comment, found[0].error, found[0].allowed)
