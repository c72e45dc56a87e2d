"""The distance between atoms at which a model's energy is lowest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import KIMError
from kimgnn.verify.checks.kim_model import KIMModel
from kimgnn.verify.checks.structures import Structure

POINTS = 60


def equilibrium_distance(model: KIMModel, structure_at: Callable[[float], Structure]) -> float:
    """Return the distance of the lowest energy, of those that the model can compute up to its longest cutoff.

    Args:
        model: The model.
        structure_at: Makes the structure whose nearest neighbours are at a distance, Å.

    Raises:
        KIMError: The model refuses the structure at all distances.
    """
    distances = np.geomspace(0.5, 0.95 * model.reach, POINTS)
    energies = np.full(POINTS, np.nan)
    for index, distance in enumerate(distances):
        try:
            energies[index] = model.evaluate(structure_at(distance)).energy
        except KIMError as error:
            refusal = error
    computed = np.isfinite(energies)
    if not computed.any():
        raise refusal
    return lowest_minimum(distances[computed], energies[computed])


def lowest_minimum(distances: NDArray[np.float64], energies: NDArray[np.float64]) -> float:
    """Return the distance of the lowest minimum within a scan, or the middle of the scan where it has none.

    Ends do not count: an energy that falls towards one has its minimum elsewhere, and many potentials fall without
    bound where atoms merge.
    """
    inner = energies[1:-1]
    minima = np.flatnonzero((inner < energies[:-2]) & (inner < energies[2:])) + 1
    if not minima.size:
        return float(np.median(distances))
    return float(distances[minima[np.argmin(energies[minima])]])
