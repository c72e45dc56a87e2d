"""The verification checks on models that are right, and on one that is broken in ten ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported import install_network, small_network

from kimgnn.errors import KIMError
from kimgnn.export.driver import install_model
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


def test_a_published_model_passes_all_ten() -> None:
    """EDIP for silicon, of the KIM project's own archive."""
    assert failures(verify_model("EDIP_JustoBazantKaxiras_1998_Si__MO_958932894036_002")) == []


def test_stillinger_weber_passes_all_but_the_units_that_it_does_get_wrong() -> None:
    """Its driver leaves energies in eV when only the unit of energy is another: LAMMPS's units real get 23 times less.

    ``kim init ... real`` and ``kim init ... metal`` print the same number for it.
    """
    verification = verify_model("SW_StillingerWeber_1985_Si__MO_405512056662_005")
    assert failures(verification) == ["UnitConversion"]
    assert grades(verification)["ForcesNumerDeriv"] == "A"
    units = next(result.outcome for result in verification.results if result.check.name == "UnitConversion")
    assert "A and kcal_mol" in units.comment


@pytest.mark.parametrize("model_format", ["torchscript"])
def test_a_schnet_export_in_double_earns_a_or_p_throughout(
    kim_collection: Path, tmp_path: Path, model_format: str
) -> None:
    """Three interactions, two elements."""
    name = f"SchNet_{model_format}_verified_SiC__MO_000000000013_000"
    install_network(small_network(), name, tmp_path)
    verification = verify_model(name)
    assert set(grades(verification).values()) <= {"A", "P"}, verification.results


def test_a_model_that_is_not_installed_is_an_error_with_the_nearest_name() -> None:
    """Not a failed check."""
    with pytest.raises(KIMError, match=r"(?s)no model of this name.*Did you mean 'SW_Still.*collections-management"):
        verify_model("SW_StilingerWeber_1985_Si__MO_405512056662_005")
