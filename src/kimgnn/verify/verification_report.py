"""The report of a verification: a page to read, the same for programs, and a picture of the dimers."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from kimgnn import __version__
from kimgnn.evaluation.plots import dimer_plot
from kimgnn.files import atomic_write
from kimgnn.verify.checks.structures import SEED
from kimgnn.verify.verification import CheckResult, Verification

REPORT: Final = "verification.md"

GRADES_EXPLAINED: Final = """\
A to D are OpenKIM's letters for log10(error / 2.2e-16): A up to 7.5 (an error of 7e-9), B up to 10 (2.2e-6),
C up to 12.5 (7e-4), D up to 15 (0.22), and F above. P is a pass without a letter, N/A a check that the model did not
let be run.
"""


def write_verification(folder: str | Path, verification: Verification) -> Path:
    """Write ``verification.md``, ``verification.json`` and ``dimers.png``, each complete or not at all.

    Args:
        folder: Where to; made if missing.
        verification: What to report.

    Returns:
        The path of ``verification.md``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "verification.json") as file:
        json.dump(as_dict(verification), file, indent=2, allow_nan=False)
    if verification.curves:
        curves = {
            "–".join(curve.pair): (curve.distances, curve.energies, curve.slopes) for curve in verification.curves
        }
        with atomic_write(folder / "dimers.png", "wb") as file:
            dimer_plot(curves, verification.cutoffs).savefig(file, format="png", dpi=150)
    with atomic_write(folder / REPORT) as file:
        file.write(_page(verification))
    return folder / REPORT


def as_dict(verification: Verification) -> dict[str, Any]:
    """Return what goes into the JSON file; a number that is not finite becomes ``null``."""
    return {
        "model": verification.model,
        "passed": verification.passed,
        "species": verification.species,
        "influence_distance_angstrom": verification.influence_distance,
        "cutoffs_angstrom": verification.cutoffs,
        "seed": SEED,
        "versions": {"kimgnn": __version__, "kimpy": version("kimpy")},
        "checks": [_check_as_dict(result) for result in verification.results],
    }


def _check_as_dict(result: CheckResult) -> dict[str, Any]:
    check, outcome, seconds = result
    return {
        "name": check.name,
        "kim_id": check.kim_id,
        "grade": outcome.grade,
        "passed": outcome.passed,
        "error": _finite(outcome.error),
        "allowed": _finite(outcome.allowed),
        "comment": outcome.comment,
        "seconds": round(seconds, 3),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and abs(number) < float("inf") else None


def _page(verification: Verification) -> str:
    failed = [result.check.name for result in verification.results if not result.outcome.passed]
    table = ["| check | grade | error | allowed | what was found |", "|---|---|---|---|---|"]
    table += map(_row, verification.results)
    sections = [
        f"# Verification of {verification.model}",
        f"Failed: {', '.join(failed)}." if failed else "All ten checks passed.",
        f"Species {', '.join(verification.species)}; influence distance {verification.influence_distance:.6g} Å; "
        f"kimgnn {__version__}, kimpy {version('kimpy')}; random seed {SEED}.",
        "\n".join(table),
        GRADES_EXPLAINED.rstrip(),
        "## What the checks claim",
        "\n".join(f"- **{check.name}** ({check.kim_id}): {check.claim}." for check, _, _ in verification.results),
    ]
    if verification.curves:
        sections += ["## Two atoms", "![Energy and slope of each dimer](dimers.png)"]
    return "\n\n".join(sections) + "\n"


def _row(result: CheckResult) -> str:
    outcome = result.outcome
    numbers = [f"{number:.1e}" if number is not None else "" for number in (outcome.error, outcome.allowed)]
    comment = outcome.comment.replace("|", "\\|").replace("\n", " ")
    return f"| {result.check.name} | {outcome.grade} | {' | '.join(numbers)} | {comment} |"
