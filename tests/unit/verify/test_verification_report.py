"""The report of the verification checks."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("kimpy")

from kimgnn.verify.checks.dimers import DimerCurve
from kimgnn.verify.checks.equilibrium import lowest_minimum
from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.memory_check import leak_per_cycle
from kimgnn.verify.verification import CHECKS, CheckResult, Verification
from kimgnn.verify.verification_report import write_verification

DISTANCES = np.linspace(1.8, 5.0, 100)


def verification(last: Outcome) -> Verification:
    """Nine passes, and the last as given."""
    outcomes = [Outcome("P", "fine", 1e-12, 7e-9)] * 9 + [last]
    results = [CheckResult(check, outcome, 0.5) for check, outcome in zip(CHECKS, outcomes, strict=True)]
    energies, slopes = np.cos(DISTANCES), -np.sin(DISTANCES)
    return Verification(
        "Model_X", ["Si"], 5.0, [5.0], results, [DimerCurve(("Si", "Si"), DISTANCES, energies, slopes, 3.1)]
    )


def test_a_failed_check_is_told_first(tmp_path: Path) -> None:
    """By name in the first lines, with its comment in the table, where a bar does not end a cell."""
    report = write_verification(tmp_path, verification(Outcome("F", "threads | differ", float("nan"), 7e-9)))
    page = report.read_text(encoding="utf-8")
    assert page.splitlines()[2] == "Failed: ThreadSafety."
    assert r"| ThreadSafety | F | nan | 7.0e-09 | threads \| differ |" in page
    assert (tmp_path / "dimers.png").read_bytes().startswith(b"\x89PNG")


def test_programs_read_the_same(tmp_path: Path) -> None:
    """Standard JSON: a number that is not finite is null."""
    write_verification(tmp_path, verification(Outcome("F", "threads differ", float("nan"), 7e-9)))
    found = json.loads((tmp_path / "verification.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["passed"] is False
    assert [check["name"] for check in found["checks"]] == [check.name for check in CHECKS]
    assert found["checks"][0]["error"] == 1e-12
    assert found["checks"][-1] | {"seconds": 0.5} == {
        "name": "ThreadSafety", "kim_id": "VC_881176209980_005", "grade": "F", "passed": False, "error": None,
        "allowed": 7e-9, "comment": "threads differ", "seconds": 0.5,
    }  # fmt: skip


def test_ten_passes_are_a_pass(tmp_path: Path) -> None:
    """And the page says so."""
    passed = verification(Outcome("P", "fine"))
    assert passed.passed
    assert "All ten checks passed." in write_verification(tmp_path, passed).read_text(encoding="utf-8")


def test_a_leak_is_what_every_cycle_loses() -> None:
    """Not a warm-up, and not a cache that grows now and then."""
    cycles = np.arange(60)
    warm_up = np.minimum(cycles, 15) * 5000
    cache = np.cumsum(cycles % 7 == 0) * 800
    assert leak_per_cycle((warm_up + cache).tolist()) == 0.0
    assert leak_per_cycle((warm_up + cache + 48 * cycles).tolist()) == 48.0
    most_of_the_time = np.cumsum(cycles % 3 > 0) * 1000
    assert leak_per_cycle((warm_up + most_of_the_time).tolist()) == 1000.0


def test_the_equilibrium_is_a_minimum_inside_the_scan() -> None:
    """Not the end where atoms merge; without a minimum it is the middle."""
    distances = np.linspace(1.0, 5.0, 9)
    assert lowest_minimum(distances, np.array([-9.0, 4, 1, -2, -1, -0.5, -0.6, -0.1, 0])) == 2.5
    assert lowest_minimum(distances, -distances) == 3.0
