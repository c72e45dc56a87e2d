"""LAMMPS: input decks for a KIM model, running them, and reading what they print."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import KIMError

DATA_FILE: Final = "structure.data"
"""The structure that a deck reads, beside it."""

_NVE = """\
# Molecular dynamics at constant energy.
{setup}
{run}
fix ensemble all nve

run ${{steps}}
"""

_NPT = """\
# Molecular dynamics at constant temperature and pressure.
variable pressure index 0.0        # bar
{setup}
{run}
fix ensemble all npt temp ${{temperature}} ${{temperature}} $(100*dt) aniso ${{pressure}} ${{pressure}} $(1000*dt)

run ${{steps}}
"""

_RUN = """\
variable temperature index 300.0   # K, of the velocities that the run begins with
variable timestep index 0.001      # ps
variable steps index 2000
timestep ${timestep}
velocity all create ${temperature} 4928459 mom yes dist gaussian
thermo_style custom step time temp pe ke etotal press vol
thermo_modify line one format float %.12g
thermo 20
"""


def setup_commands(model_name: str, species: Sequence[str], boundary: str) -> str:
    """Return the commands up to the potential, for a deck that reads `DATA_FILE`.

    Args:
        model_name: Of an installed KIM model.
        species: Elements in the order of the data file's types.
        boundary: LAMMPS's letter for each box vector: ``ppf``.
    """
    return (
        "units metal\n"
        "atom_style atomic\n"
        "newton on\n"
        f"boundary {' '.join(boundary)}\n"
        "box tilt large\n"
        f"read_data {DATA_FILE}\n"
        f"pair_style kim {model_name}\n"
        f"pair_coeff * * {' '.join(species)}\n"
        "neighbor 1.0 bin\n"
        "neigh_modify every 1 delay 0 check yes\n"
    )


def nve_deck(model_name: str, species: Sequence[str], boundary: str) -> str:
    """Return a deck that runs molecular dynamics at constant energy; its variables are set with ``-var``.

    A box that is not periodic shrinks and grows with the atoms.
    """
    return _NVE.format(setup=setup_commands(model_name, species, boundary.replace("f", "s")), run=_RUN)


def npt_deck(model_name: str, species: Sequence[str]) -> str:
    """Return a deck that runs a periodic box at constant temperature and pressure, edges free; see `nve_deck`."""
    return _NPT.format(setup=setup_commands(model_name, species, "ppp"), run=_RUN)


def run_lammps(
    deck: str | Path,
    *,
    ranks: int = 1,
    variables: Mapping[str, float | str] | None = None,
    executable: str = "lmp",
) -> dict[str, NDArray[np.float64]]:
    """Run a deck in its own folder, where ``log.lammps`` is left, and return what it printed.

    Args:
        deck: The input file.
        ranks: MPI ranks.
        variables: Values for the deck's ``index`` variables.
        executable: LAMMPS, built with its KIM package.

    Returns:
        Thermo column, by LAMMPS's heading, -> its values over the last run.

    Raises:
        KIMError: LAMMPS or ``mpirun`` is missing, or LAMMPS stops with an error, which the message quotes.
    """
    deck = Path(deck)
    command = [executable, "-in", deck.name, "-log", "log.lammps", "-screen", "none"]
    for name, value in (variables or {}).items():
        command += ["-var", name, str(value)]
    if ranks > 1:
        command = ["mpirun", "-np", str(ranks), *command]
    for program in (command[0], executable):
        if shutil.which(program) is None:
            raise KIMError(
                "not found",
                where="PATH",
                value=program,
                remedy="Debian: apt-get install lammps. conda: conda install -c conda-forge lammps.",
            )
    # Open MPI refuses root, and more ranks than cores, unless told.
    allowed = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    done = subprocess.run(
        command, cwd=deck.parent, env=allowed | os.environ, capture_output=True, text=True, check=False
    )
    log = deck.parent / "log.lammps"
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    if done.returncode:
        errors = [line for line in (text + done.stderr + done.stdout).splitlines() if line.startswith("ERROR")]
        reason = errors[0] if errors else (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise KIMError(f"LAMMPS stopped: {reason}", where=str(log))
    return read_thermo(text)


def read_thermo(log: str) -> dict[str, NDArray[np.float64]]:
    """Return the thermo columns of the last run in the text of a LAMMPS log; empty if there is none."""
    headings: list[str] = []
    rows: list[list[float]] = []
    reading = False
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            headings, rows, reading = words, [], True
        elif line.startswith("Loop time"):
            reading = False
        elif reading:
            try:
                values = [float(word) for word in words]
            except ValueError:  # a warning among the rows
                continue
            if len(values) == len(headings):
                rows.append(values)
    return {name: np.array([row[column] for row in rows]) for column, name in enumerate(headings)}
