"""Forces against the derivative of the energy, on a distorted face-centred cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from kimgnn.verify.checks.comparisons import Case, compare_each, pass_or_fail
from kimgnn.verify.checks.equilibrium import equilibrium_distance
from kimgnn.verify.checks.grades import Outcome, largest_error, letter_grade
from kimgnn.verify.checks.kim_model import KIMModel
from kimgnn.verify.checks.structures import Structure, compositions, lattice

CELLS: Final = 2
AMPLITUDE: Final = 0.25
FIRST_STEP: Final = 0.02
"""Å: of a numerical derivative; each of the next is half of the one before."""
MOST_STEPS: Final = 9


def forces_numer_deriv(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Grade the largest error of a force component, relative to the largest component."""

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        yield Case(label, _force_error(model, mixed), largest_error("D"))

    cases, note = compare_each(compositions(species, 8), compare)
    outcome = pass_or_fail(cases, note)
    return replace(outcome, grade=letter_grade(max(cases, key=lambda case: case.excess).error))


def derivative(function: Callable[[float], float], scale: float) -> float:
    """Return a function's derivative at zero by Richardson's extrapolation of central differences.

    The steps are halved until two extrapolations agree to 1e-11 of ``scale``, or all are tried; of all estimates the
    one is returned that differs least from the two it is made of (Ridders, Adv. Eng. Softw. 4, 75, 1982), so that a
    jump of the function within the longer steps does no harm.
    """
    best, smallest = float("nan"), np.inf
    previous: list[float] = []
    for halvings in range(MOST_STEPS):
        step = FIRST_STEP / 2**halvings
        row = [(function(step) - function(-step)) / (2 * step)]
        for order, coarser in enumerate(previous, start=1):
            row.append(row[-1] + (row[-1] - coarser) / (4**order - 1))
            error = max(abs(row[-1] - row[-2]), abs(row[-1] - coarser))
            if error < smallest:
                best, smallest = row[-1], error
        if smallest <= 1e-11 * scale:
            break
        previous = row
    return best


def _force_error(model: KIMModel, species: Sequence[str]) -> float:
    def cluster_at(distance: float, amplitude: float = 0.0) -> Structure:
        return lattice("fcc", np.sqrt(2) * distance, CELLS, species, amplitude)

    cluster = cluster_at(equilibrium_distance(model, cluster_at), AMPLITUDE)
    forces = model.evaluate(cluster).forces
    scale = float(np.abs(forces).max())

    def energy(displacement: float, atom: int, axis: int) -> float:
        positions = cluster.positions.copy()
        positions[atom, axis] += displacement
        return model.evaluate(cluster.at(positions)).energy

    numerical = np.empty_like(forces)
    for atom, axis in np.ndindex(*forces.shape):
        numerical[atom, axis] = -derivative(lambda d, atom=atom, axis=axis: energy(d, atom, axis), scale)  # type: ignore[misc]
    largest = float(np.abs(numerical).max())
    return float(np.abs(forces - numerical).max()) / largest if largest else scale
