"""OpenKIM's ten verification checks of a model, one after the other.

Each in a Python of its own, which a model may crash: that is the outcome of the check then, and the others go on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from kimgnn.errors import KIMError
from kimgnn.verify.checks.dimer_check import dimer_continuity_c1
from kimgnn.verify.checks.dimers import DimerCurve, dimer_curve, pairs
from kimgnn.verify.checks.force_check import forces_numer_deriv
from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.interface_checks import species_supported_as_stated, species_that_fail, unit_conversion
from kimgnn.verify.checks.isolated import ModelCrash, run_isolated
from kimgnn.verify.checks.kim_model import KIMModel, require_portable_model
from kimgnn.verify.checks.memory_check import memory_leak
from kimgnn.verify.checks.symmetry_checks import (
    inversion_symmetry,
    objectivity,
    periodicity_support,
    permutation_symmetry,
)
from kimgnn.verify.checks.thread_check import thread_safety


class Check(NamedTuple):
    """One of OpenKIM's verification checks, and its identity there.

    Attributes:
        name: As in its KIM name.
        kim_id: The short one, with the version that is followed.
        claim: What a pass says.
        run: Takes the model, and the species that it computes.
    """

    name: str
    kim_id: str
    claim: str
    run: Callable[[KIMModel, Sequence[str]], Outcome]


CHECKS: Final = (
    Check(
        "SpeciesSupportedAsStated",
        "VC_651200051721_002",
        "every species declared can be computed",
        lambda model, _: species_supported_as_stated(model),
    ),
    Check("UnitConversion", "VC_128739598203_001", "energy and forces agree in all units", unit_conversion),
    Check("PeriodicitySupport", "VC_895061507745_004", "doubling a period doubles the energy", periodicity_support),
    Check("PermutationSymmetry", "VC_903502816694_002", "like atoms can be swapped", permutation_symmetry),
    Check("ForcesNumerDeriv", "VC_710586816390_003", "forces are the energy's derivative", forces_numer_deriv),
    Check("DimerContinuityC1", "VC_303890932454_005", "energy and slope of two atoms are smooth", dimer_continuity_c1),
    Check("Objectivity", "VC_813478999433_002", "moving and turning changes nothing", objectivity),
    Check("InversionSymmetry", "VC_021653764022_002", "inverting inverts the forces", inversion_symmetry),
    Check("MemoryLeak", "VC_561022993723_004", "all memory is released", memory_leak),
    Check("ThreadSafety", "VC_881176209980_005", "threads do not disturb one another", thread_safety),
)


class CheckResult(NamedTuple):
    """A check, how it ended, and the seconds that it took."""

    check: Check
    outcome: Outcome
    seconds: float

    def __str__(self) -> str:
        return f"{self.outcome.grade:>3}  {self.check.name:24} {self.outcome.comment}"


@dataclass(frozen=True)
class Verification:
    """The checks of one model.

    Attributes:
        model: Its name.
        species: That it declares.
        influence_distance: Å.
        cutoffs: Of its neighbour lists, Å.
        results: One a check.
        curves: A dimer curve of each pair of species that it computes, the first `MOST_CURVES` of them.
    """

    model: str
    species: list[str]
    influence_distance: float
    cutoffs: list[float]
    results: list[CheckResult]
    curves: list[DimerCurve]

    @property
    def passed(self) -> bool:
        """Whether all checks did."""
        return all(result.outcome.passed for result in self.results)


MOST_CURVES: Final = 10


def verify_model(name: str, tell: Callable[[CheckResult], object] = lambda result: None) -> Verification:
    """Run every check on an installed portable model.

    Args:
        name: The model's KIM name.
        tell: Called with each result as soon as it is there.

    Raises:
        KIMError: kimpy or the model is missing, or the model cannot be created.
    """
    require_portable_model(name)
    about = _describe(name)
    results: list[CheckResult] = []
    may_crash = False
    for check in CHECKS:
        start = time.monotonic()
        try:
            outcome = Outcome(**run_isolated(__name__, [check.name, name, *about["computed"]]))
        except ModelCrash as crash:
            outcome, may_crash = Outcome("F", str(crash)), True
        results.append(CheckResult(check, outcome, time.monotonic() - start))
        tell(results[-1])
    curves = [] if may_crash else _curves(KIMModel(name), about["computed"])
    return Verification(name, about["declared"], about["influence_distance"], about["cutoffs"], results, curves)


def _describe(name: str) -> dict[str, Any]:
    """Return what a model declares, and the species that it computes."""
    try:
        about = run_isolated(__name__, [DESCRIBE, name])
    except ModelCrash as crash:
        raise KIMError(f"{crash}, before any check", where=name) from crash
    if error := about.get("error"):
        raise KIMError(error)
    return about


def _curves(model: KIMModel, species: Sequence[str]) -> list[DimerCurve]:
    curves: list[DimerCurve] = []
    for pair in list(pairs(species).values())[:MOST_CURVES]:
        try:
            curves.append(dimer_curve(model, pair))
        except KIMError:  # told by the check
            continue
    return curves


DESCRIBE: Final = "describe"
"""What `main` may be told to do in a check's place."""


def main(answer: str, task: str, name: str, *species: str) -> None:
    """Run a check on a model or describe it, and write the outcome into a file."""
    result: dict[str, Any]
    if task == DESCRIBE:
        try:
            result = _described(KIMModel(name))
        except KIMError as error:
            result = {"error": str(error)}
    else:
        check = next(check for check in CHECKS if check.name == task)
        try:
            result = asdict(check.run(KIMModel(name), species))
        except KIMError as error:
            result = asdict(Outcome("N/A", f"could not be run: {error}"))
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


def _described(model: KIMModel) -> dict[str, Any]:
    failing = species_that_fail(model)
    return {
        "declared": list(model.species),
        "computed": [symbol for symbol in model.species if symbol not in failing],
        "influence_distance": model.influence_distance,
        "cutoffs": model.cutoffs,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
