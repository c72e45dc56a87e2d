"""The parity table passes only on what was computed, is a number, and is within the tolerances."""

import numpy as np
import pytest
from ase import Atoms

from kimgnn.evaluation.predict import Prediction
from kimgnn.verify.parity import TOLERANCES, ParityRow, ParityTable, _row

CRYSTAL = Atoms("Si", cell=[3, 3, 3], pbc=True)
MOLECULE = Atoms("Si", cell=[3, 3, 3], pbc=False)


def prediction(energy: float = -5.0, force: float = 0.0, stress: float = 0.0) -> Prediction:
    """What a runtime says of one atom."""
    return Prediction(energy, np.full((1, 3), force), np.full(6, stress))


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (prediction(), True),
        (prediction(energy=-5.0 + 5e-10), True),
        (prediction(energy=-5.0 + 5e-9), False),
        (prediction(force=1e-7), False),
        (prediction(stress=1e-8), False),
        (prediction(force=np.nan), False),
        (prediction(stress=np.nan), False),
        ("no such model", False),
    ],
)
def test_passes_only_on_agreement(found: Prediction | str, passes: bool) -> None:
    """A difference too large, NaN, and a structure that was not computed all fail."""
    row = _row("runtime", [CRYSTAL, CRYSTAL], [prediction()] * 2, [prediction(), found])
    assert row.within(TOLERANCES) is passes
    assert ParityTable([row], TOLERANCES).passed is passes


def test_stress_counts_only_where_all_directions_are_periodic() -> None:
    """A molecule has no stress to compare."""
    row = _row("runtime", [MOLECULE], [prediction(stress=np.nan)], [prediction(stress=1.0)])
    assert row.stress is None
    assert row.within(TOLERANCES)


def test_table_shows_differences_and_reasons() -> None:
    """Beside what is allowed."""
    row = ParityRow("LAMMPS, 2 ranks", 1, 2e-13, 3e-14, None, {1: "box too small"})
    text = str(ParityTable([row], TOLERANCES))
    assert "2.0e-13" in text
    assert "structure 1 skipped: box too small" in text
    assert "1.0e-09" in text.splitlines()[-1]
