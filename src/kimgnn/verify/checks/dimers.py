"""Two atoms, and what a model makes of their distance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kimgnn.verify.checks.equilibrium import equilibrium_distance
from kimgnn.verify.checks.kim_model import KIMModel
from kimgnn.verify.checks.structures import Structure

Floats = NDArray[np.float64]
Pair = tuple[str, str]

POINTS: Final = 600
BEYOND: Final = 1.05
"""A curve ends at this multiple of the longest cutoff, beyond which two atoms alone are in no list."""


class DimerCurve(NamedTuple):
    """Two atoms from half their equilibrium distance to where they no longer interact.

    Attributes:
        pair: Their species.
        distances: Å, evenly spaced.
        energies: Relative to the atoms apart, eV.
        slopes: dE/dr, from the model's forces, eV/Å.
        equilibrium: The distance of lowest energy, Å.
    """

    pair: Pair
    distances: Floats
    energies: Floats
    slopes: Floats
    equilibrium: float


def pairs(species: Sequence[str]) -> dict[str, Pair]:
    """Return every pair of species by its name, ``Si–C``."""
    return {"–".join(pair): pair for pair in combinations_with_replacement(species, 2)}


def evaluate_dimer(model: KIMModel, pair: Pair, distances: Floats) -> tuple[Floats, Floats]:
    """Return energies (eV) and slopes dE/dr (eV/Å) of two atoms on a line, at each of the distances (Å)."""
    energies, slopes = np.empty_like(distances), np.empty_like(distances)
    for index, distance in enumerate(distances):
        energy, forces = model.evaluate(_dimer(pair, distance))
        energies[index], slopes[index] = energy, -forces[1, 0]
    return energies, slopes


def dimer_curve(model: KIMModel, pair: Pair) -> DimerCurve:
    """Return the curve of one pair of species."""
    equilibrium = equilibrium_distance(model, lambda distance: _dimer(pair, distance))
    distances = np.linspace(0.5 * equilibrium, BEYOND * model.reach, POINTS)
    energies, slopes = evaluate_dimer(model, pair, distances)
    return DimerCurve(pair, distances, energies - energies[-1], slopes, equilibrium)


def _dimer(pair: Pair, distance: float) -> Structure:
    return Structure(list(pair), np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]))
