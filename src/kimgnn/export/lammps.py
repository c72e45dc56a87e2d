"""LAMMPS: running an input deck, and reading what it prints."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import KIMError

DATA_FILE: Final = "structure.data"
"""The structure that a deck reads, beside it."""


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
        KIMError: LAMMPS or ``mpirun`` is missing, or LAMMPS stops with an error, which the message quotes
            with the model's reason.
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
    log, kim_log = deck.parent / "log.lammps", deck.parent / "kim.log"
    before = kim_log.stat().st_size if kim_log.is_file() else 0  # KIM appends
    done = subprocess.run(
        command, cwd=deck.parent, env=allowed | os.environ, capture_output=True, text=True, check=False
    )
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    if done.returncode:
        errors = [line for line in (text + done.stderr + done.stdout).splitlines() if line.startswith("ERROR")]
        reason = errors[0] if errors else (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        if kim_log.is_file():
            reason = "; ".join([reason, *_first_error(kim_log.read_bytes()[before:].decode(errors="replace"))])
        raise KIMError(f"LAMMPS stopped: {reason}", where=str(log))
    return read_thermo(text)


def _first_error(kim_log: str) -> list[str]:
    """The message of the first error in a KIM log, where a model says why; none if there is none."""
    entries = (line.split(" * ", 5) for line in kim_log.splitlines())
    return [entry[5] for entry in entries if len(entry) == 6 and entry[2] == "error"][:1]


def has_kim_package(executable: str = "lmp") -> bool:
    """Whether that LAMMPS, which must be there, was built with its KIM package."""
    help_text = subprocess.run([executable, "-h"], capture_output=True, text=True, check=False).stdout
    return "KIM" in help_text.partition("Installed packages:")[2].partition("List of")[0].split()


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
