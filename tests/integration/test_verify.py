"""The verification checks on models that are right, and on one that is broken in ten ways."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from exported import install_network, small_network

from kimgnn import cli
from kimgnn.errors import KIMError
from kimgnn.export.driver import install_model
from kimgnn.export.formats import FORMATS
from kimgnn.verify.verification import CHECKS, Verification, verify_model

pytestmark = pytest.mark.kim

BROKEN = Path(__file__).parent / "broken_model"
FAULT = "BROKEN_MODEL_FAULT"

CAUGHT_BY = {
    "species_refused": "SpeciesSupportedAsStated",
    "units_ignored": "UnitConversion",
    "images_twice": "PeriodicitySupport",
    "by_index": "PermutationSymmetry",
    "wrong_forces": "ForcesNumerDeriv",
    "energy_jump": "DimerContinuityC1",
    "anisotropic": "Objectivity",
    "chiral": "InversionSymmetry",
    "memory_leaked": "MemoryLeak",
    "static_buffer": "ThreadSafety",
}


@pytest.fixture(scope="module")
def broken_model(kim_collection: Path) -> str:
    """The name of the model to break, installed."""
    install_model(BROKEN, force=True)
    return BROKEN.name


def failures(verification: Verification) -> list[str]:
    """The checks that did not pass."""
    return [result.check.name for result in verification.results if not result.outcome.passed]


def grades(verification: Verification) -> dict[str, str]:
    """Check -> its grade."""
    return {result.check.name: result.outcome.grade for result in verification.results}


def test_each_check_has_a_control() -> None:
    """There is a way to break the model for every one of the ten checks."""
    assert sorted(CAUGHT_BY.values()) == sorted(check.name for check in CHECKS)


def test_the_unbroken_model_passes_all_ten(broken_model: str) -> None:
    """What the broken variants fail by is their fault, not the model."""
    assert failures(verify_model(broken_model)) == []


@pytest.mark.parametrize("fault", CAUGHT_BY)
def test_a_fault_fails_exactly_the_check_for_it(broken_model: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of ten faults is caught by its check and by no other."""
    monkeypatch.setenv(FAULT, fault)
    assert failures(verify_model(broken_model)) == [CAUGHT_BY[fault]]


def test_a_crash_of_the_model_fails_the_checks_that_meet_it(broken_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with periodic cells, here; all others are run and pass."""
    monkeypatch.setenv(FAULT, "crashes_on_images")
    verification = verify_model(broken_model)
    assert failures(verification) == ["PeriodicitySupport", "MemoryLeak", "ThreadSafety"]
    comments = {result.outcome.comment for result in verification.results if not result.outcome.passed}
    assert comments == {"the model crashed: SIGABRT"}


def test_a_published_model_passes_all_ten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EDIP for silicon, of the KIM project's own archive, on the command line; a report is not overwritten unasked."""
    name = "EDIP_JustoBazantKaxiras_1998_Si__MO_958932894036_002"
    monkeypatch.setattr(sys, "argv", ["kimgnn", "verify", name, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"verification.md", "verification.json", "dimers.png"}
    assert "All ten checks passed." in (tmp_path / "verification.md").read_text()
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert "exists already" in capsys.readouterr().err


def test_stillinger_weber_passes_all_but_the_units_that_it_does_get_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver leaves energies in eV when the unit of energy alone is another one, and the exit status tells.

    LAMMPS shows it: ``kim init ... real``, in kcal/mol, and ``kim init ... metal``, in eV, print the same number.
    """
    name = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
    monkeypatch.setattr(sys, "argv", ["kimgnn", "verify", name, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    checks = {check["name"]: check for check in json.loads((tmp_path / "verification.json").read_text())["checks"]}
    assert [name for name, check in checks.items() if not check["passed"]] == ["UnitConversion"]
    assert "A and kcal_mol" in checks["UnitConversion"]["comment"]
    assert checks["ForcesNumerDeriv"]["grade"] == "A"


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_schnet_export_in_double_earns_a_or_p_throughout(
    kim_collection: Path, tmp_path: Path, format_name: str
) -> None:
    """Two interactions, two elements, in every format."""
    name = f"SchNet_{format_name}_verified_SiC__MO_000000000013_000"
    install_network(small_network(2), name, tmp_path, format_name)
    verification = verify_model(name)
    assert failures(verification) == []
    assert set(grades(verification).values()) == {"A", "P"}


def test_a_model_that_is_not_installed_is_an_error_with_the_nearest_name() -> None:
    """Not a failed check."""
    with pytest.raises(KIMError, match=r"(?s)no model of this name.*Did you mean 'SW_Still.*collections-management"):
        verify_model("SW_StilingerWeber_1985_Si__MO_405512056662_005")
