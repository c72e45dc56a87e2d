"""Labels that are computed elsewhere: structures are written to a folder, and results are read back from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic

from kimgnn.active.frames import NAME, write_frames
from kimgnn.active.label import SUFFIX, with_labels
from kimgnn.data.sources import read_structures
from kimgnn.errors import DataError, Problem
from kimgnn.fields import ENERGY, FORCES, STRESS

SELECTED: Final = "selected"
RESULTS: Final = "results"

TOLERANCE: Final = 1e-3
"""Å by which positions and cell of a result may differ from what was asked: programs print few digits."""

SHOWN: Final = 5
"""Names that a message lists."""


def write_selected(folder: Path, structures: Sequence[Atoms]) -> None:
    """Write each structure to ``selected/<name>.extxyz``, unless it is there, and make ``results``."""
    for part in (SELECTED, RESULTS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for atoms in structures:
        path = folder / SELECTED / f"{atoms.info[NAME]}{SUFFIX}"
        if not path.exists():
            write_frames(path, [atoms])


def take_results(folder: Path, structures: Sequence[Atoms], labels: Path) -> None:
    """Read what is in ``results``, keep each result that is right, and tell what is wrong or missing.

    A result is a file of any format that ASE reads, called as the structure, or a frame with that ``name`` in its
    ``info``, in a file of any name. What is kept is not read again.

    Args:
        folder: That of `write_selected`.
        structures: Those that were written.
        labels: Gets a file for each result.

    Raises:
        DataError: A result is of no structure that was asked, of another geometry, unfinished or there twice, or
            results are missing; all of them are told.
    """
    asked = {atoms.info[NAME]: atoms for atoms in structures}
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for path in sorted(item for item in (folder / RESULTS).iterdir() if item.is_file() and item.name[0] != "."):
        try:
            frames = list(read_structures(path, str(path)))
        except DataError as error:
            problems += error.problems
            continue
        for identifier, atoms in frames:
            name = str(atoms.info.get(NAME, path.name.partition(".")[0]))
            if problem := _problem(name, atoms, asked, found, len(frames)):
                problems.append(Problem(identifier, **problem))
                continue
            found[name] = identifier
            if not (labels / f"{name}{SUFFIX}").exists():
                results = atoms.calc.results if isinstance(atoms.calc, SinglePointCalculator) else {}
                atoms.info = dict(asked[name].info)
                try:
                    labelled = with_labels(atoms, {label: results.get(label) for label in (ENERGY, FORCES, STRESS)})
                except DataError as error:
                    remedy = "Compute it to the end, and put the result in its place."
                    problems += [Problem(identifier, item.message, item.value, item.allowed, remedy)
                                 for item in error.problems]  # fmt: skip
                    continue
                write_frames(labels / f"{name}{SUFFIX}", [labelled])
    missing = [name for name in asked if name not in found and not (labels / f"{name}{SUFFIX}").exists()]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        remedy = f"Compute what is in {folder / SELECTED}, put the results there, and run the same again."
        problems.append(Problem(str(folder / RESULTS), f"{len(missing)} of {len(asked)} results are missing: {shown}",
                                remedy=remedy))  # fmt: skip
    if problems:
        raise DataError(problems=problems)


def _problem(
    name: str, atoms: Atoms, asked: Mapping[str, Atoms], found: Mapping[str, str], n_frames: int
) -> dict[str, str]:
    """Return what is wrong with a result, as the arguments of a `Problem`; nothing if it is one."""
    if name not in asked:
        remedy = "Name results as the structures in 'selected', and keep other files elsewhere."
        return {"message": "is the result of no structure that was asked", "value": name, "remedy": remedy}
    if name in found:
        if n_frames > 1:
            return {"message": "has several frames of one structure", "value": name, "remedy": "Keep the last one."}
        return {"message": f"is a second result, beside {found[name]}", "value": name, "remedy": "Keep one of them."}
    wanted = asked[name]
    if sorted(atoms.numbers) != sorted(wanted.numbers):
        formula = wanted.get_chemical_formula()
        return {"message": "has other atoms than were asked", "value": atoms.get_chemical_formula(), "allowed": formula}
    if (atoms.numbers != wanted.numbers).any():
        return {"message": "has its atoms in another order", "remedy": "Keep the order of 'selected'."}
    if (atoms.pbc != wanted.pbc).any():
        return {"message": "has other periodic directions", "value": str(atoms.pbc), "allowed": str(wanted.pbc)}
    moved = find_mic(atoms.positions - wanted.positions, wanted.cell, wanted.pbc)[1].max()
    strained = np.abs((atoms.cell - wanted.cell)[wanted.pbc]).max(initial=0.0)
    if not max(moved, strained) <= TOLERANCE:
        return {
            "message": "has another geometry than was asked",
            "value": f"off by {max(moved, strained):.3g} Å",
            "allowed": f"{TOLERANCE} Å",
            "remedy": "Compute energy and forces of the structure as it is: no relaxation, no change of the cell.",
        }
    return {}
