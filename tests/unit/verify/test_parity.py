"""The parity table passes only on what was computed, is a number, and is within the tolerances."""

import numpy as np
import pytest
from ase import Atoms

from kimgnn.errors import KIMError
from kimgnn.evaluation.predict import Prediction
from kimgnn.verify.parity import Found, ParityTable, compare, worst_of

CRYSTAL = Atoms("Si2", [[0, 0, 0], [2, 0, 0]], cell=[4, 3, 3], pbc=True)
MOLECULE = Atoms("Si2", [[0, 0, 0], [2, 0, 0]])
NAMES = ["crystal", "molecule"]


def prediction(energy: float = -5.0, atom: float = -2.5, force: float = 0.0, stress: float = 0.0) -> Prediction:
    """What a runtime says of two atoms."""
    return Prediction(energy, np.full((2, 3), force), np.full(6, stress), np.full(2, atom))


def table(found: Found, atoms: Atoms = CRYSTAL, precision: str = "double") -> ParityTable:
    """Of one runtime that says something else of the second structure only."""
    row = compare("LAMMPS", [CRYSTAL, atoms], [prediction()] * 2, [prediction(), found], precision)
    return ParityTable(["first", "second"], precision, [row])


CASES = {
    "equal": (prediction(), ""),
    "energy a little off": (prediction(energy=-5.0 + 5e-10), ""),
    "energy": (prediction(energy=-5.0 + 5e-9), "energy: differs from PyTorch by 5.0e-09 eV. Allowed: 1e-09"),
    "an atom's energy": (prediction(atom=-2.5 - 2e-9), "energies of atoms: differs from PyTorch by 2.0e-09 eV."),
    "forces": (prediction(force=1e-7), "forces: differs from PyTorch by 1.0e-07 eV/Å. Allowed: 1e-08"),
    "stress": (prediction(stress=1e-8), "stress: differs from PyTorch by 1.0e-08 eV/Å³. Allowed: 1e-09"),
    "a force that is NaN": (prediction(force=np.nan), "forces: differs from PyTorch by nan"),
    "a stress that is NaN": (prediction(stress=np.nan), "stress: differs from PyTorch by nan"),
    "not computed": (KIMError("box too small"), "not computed: box too small"),
}


@pytest.mark.parametrize(("found", "told"), CASES.values(), ids=CASES)
def test_passes_only_on_agreement(found: Found, told: str) -> None:
    """A difference too large, NaN, and a structure that was not computed all fail, with runtime and structure."""
    problems = [str(problem) for problem in table(found).problems()]
    assert table(found).passed is not bool(told)
    assert len(problems) == bool(told)
    if told:
        assert problems[0].startswith("LAMMPS, second")
        assert told in problems[0]


def test_stress_counts_only_where_all_directions_are_periodic() -> None:
    """A molecule has no stress to compare."""
    assert table(prediction(stress=np.nan), MOLECULE).passed
    assert not table(prediction(stress=np.nan), CRYSTAL).passed


def test_single_precision_allows_an_error_of_each_atom() -> None:
    """1e-5 eV an atom: two atoms may be off by 1.5e-5 eV together, not by 2.5e-5 eV."""
    assert table(prediction(energy=-5.0 + 1.5e-5), precision="single").passed
    assert not table(prediction(energy=-5.0 + 2.5e-5), precision="single").passed
    assert "(eV/atom)" in table(prediction(), precision="single").markdown()


def test_table_shows_differences_and_reasons() -> None:
    """Beside what is allowed; a runtime that computed nothing has no differences."""
    text = str(table(prediction(energy=-5.0 + 3e-13)))
    assert "| LAMMPS  | 2 " in text
    assert "3.0e-13" in text
    assert "1e-09" in text.splitlines()[-1]
    refused = compare("LAMMPS", [CRYSTAL], [prediction()], [KIMError("no such model")], "double")
    assert "| LAMMPS  | 0          | –" in str(ParityTable(["only"], "double", [refused]))


def test_of_several_runs_the_worst_counts() -> None:
    """Also where the worst is NaN, or no number at all."""

    def row(found: Found) -> object:
        return compare("LAMMPS", [CRYSTAL], [prediction()], [found], "double")

    good, off, spoilt = row(prediction()), row(prediction(force=1e-3)), row(prediction(force=np.nan))
    assert worst_of([good, off, good]).differences[0]["forces"] == pytest.approx(1e-3)
    assert np.isnan(worst_of([good, spoilt, off]).differences[0]["forces"])
    assert worst_of([good, row(KIMError("crash"))]).differences == ["crash."]
