"""What a data set says about a model before it is trained: species, reference energies, spreads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers
from kliff.dataset import Configuration
from numpy.typing import NDArray

from kimgnn.data.labels import has_label
from kimgnn.errors import DataError
from kimgnn.fields import ENERGY, FORCES, LABELS


def species_of(configurations: Sequence[Configuration]) -> list[str]:
    """Return the chemical symbols that occur, by atomic number."""
    symbols = {symbol for configuration in configurations for symbol in configuration.species}
    return sorted(symbols, key=lambda symbol: atomic_numbers[symbol])


def label_counts(configurations: Sequence[Configuration]) -> dict[str, int]:
    """Return how many configurations carry energy, forces and stress."""
    counts = dict.fromkeys(LABELS, 0)
    for configuration in configurations:
        for label in LABELS:
            counts[label] += has_label(configuration, label)
    return counts


def fit_reference_energies(configurations: Sequence[Configuration], species: Sequence[str]) -> dict[str, float]:
    """Fit one energy an element, by least squares on the total energies; structures without one are left out.

    Args:
        configurations: The training set.
        species: Chemical symbols, all that occur.

    Returns:
        Symbol -> energy of one atom, eV. Where compositions cannot tell elements apart (only SiC, say), the solution of
        smallest norm, which shares out what they have in common.

    Raises:
        DataError: No structure has an energy, or one has a species that is not in ``species``.

    Warns:
        UserWarning: The compositions cannot tell all elements apart.
    """
    labelled = [configuration for configuration in configurations if has_label(configuration, ENERGY)]
    if not labelled:
        raise DataError(
            "no structure has an energy to fit reference energies to",
            where="model.heads.reference_energies",
            remedy="Give them by element, or 'none'.",
        )
    counts = _counts(labelled, species)
    energies = np.array([configuration.energy for configuration in labelled])
    solution, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    if rank < len(species):
        warnings.warn(
            f"The compositions of {len(labelled)} structures cannot tell the reference energies of "
            f"{', '.join(species)} apart (rank {rank}); they share what is common.",
            stacklevel=2,
        )
    return dict(zip(species, solution.tolist(), strict=True))


def force_rms(configurations: Sequence[Configuration]) -> float | None:
    """Return the root mean square of all force components, eV/Å; ``None`` when no structure has forces."""
    forces = [np.ravel(item.forces) for item in configurations if has_label(item, FORCES)]
    return float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None


def energy_per_atom_std(configurations: Sequence[Configuration], reference: Mapping[str, float]) -> float | None:
    """Return the standard deviation of the energy per atom above ``reference``, eV; ``None`` without energies."""
    labelled = [configuration for configuration in configurations if has_label(configuration, ENERGY)]
    if not labelled:
        return None
    counts = _counts(labelled, list(reference))
    energies = np.array([configuration.energy for configuration in labelled])
    return float(np.std((energies - counts @ np.array(list(reference.values()))) / counts.sum(axis=1)))


def _counts(configurations: Sequence[Configuration], species: Sequence[str]) -> NDArray[np.float64]:
    """Return atoms of each species in each configuration, (n_configurations, n_species)."""
    column = {symbol: index for index, symbol in enumerate(species)}
    counts = np.zeros((len(configurations), len(species)))
    for row, configuration in zip(counts, configurations, strict=True):
        for symbol, number in zip(*np.unique(configuration.species, return_counts=True), strict=True):
            if symbol not in column:
                raise DataError(
                    "a structure has a species without a reference energy",
                    where=configuration.identifier or "dataset",
                    value=str(symbol),
                    allowed=", ".join(species),
                    remedy="Add it to transforms.configuration.kwargs.species, or remove the structure.",
                )
            row[column[symbol]] = number
    return counts
