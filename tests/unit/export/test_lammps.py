"""Reading what LAMMPS prints, and saying why it does not run."""

from pathlib import Path

import pytest

from kimgnn.errors import KIMError
from kimgnn.export.lammps import read_thermo, run_lammps

LOG = """\
Step Temp
0 300
Loop time of 1 on 1 procs
Step Temp PotEng
       0  300.5   -1.25
WARNING: something
      20  1e2     -1.5
Loop time of 2 on 1 procs
Total wall time: 0:00:02
"""


def test_thermo_of_the_last_run() -> None:
    """Warnings among the rows, and earlier runs, are left out."""
    thermo = read_thermo(LOG)
    assert {name: values.tolist() for name, values in thermo.items()} == {
        "Step": [0, 20],
        "Temp": [300.5, 100],
        "PotEng": [-1.25, -1.5],
    }


def test_a_log_without_a_run_is_empty() -> None:
    """A deck may only set up."""
    assert read_thermo("LAMMPS (29 Sep 2021)\n") == {}


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """With the way to get it."""
    with pytest.raises(KIMError, match=r"lmp_nowhere.*apt-get install lammps"):
        run_lammps(tmp_path / "in.nve", executable="lmp_nowhere")


@pytest.mark.lammps
def test_lammps_says_why_it_stops(tmp_path: Path) -> None:
    """Its own error line is quoted."""
    deck = tmp_path / "in.wrong"
    deck.write_text("units nonsense\n")
    with pytest.raises(KIMError, match=r"LAMMPS stopped: ERROR: .*units"):
        run_lammps(deck)
