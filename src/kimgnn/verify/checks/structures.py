"""Clusters and cells that the verification checks compute: lattices, rattled, of each species alone and of a mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED: Final = 13
"""OpenKIM's, of all random numbers in its checks."""

BASES: Final[dict[str, list[tuple[float, float, float]]]] = {
    "bcc": [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)],
    "fcc": [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)],
}
BASES["diamond"] = BASES["fcc"] + [(x + 0.25, y + 0.25, z + 0.25) for x, y, z in BASES["fcc"]]


class Structure(NamedTuple):
    """Atoms by KIM's species names, some of which (``user01``) are no chemical element.

    Attributes:
        species: One name an atom.
        positions: (n_atoms, 3), Å.
        cell: (3, 3), a vector a row, Å.
        pbc: Whether each of the vectors is a period.
    """

    species: list[str]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] = np.eye(3)
    pbc: tuple[bool, bool, bool] = (False, False, False)

    def at(self, positions: NDArray[np.float64]) -> Structure:
        """Return the same atoms elsewhere."""
        return self._replace(positions=positions)

    def doubled(self, axis: int) -> Structure:
        """Return two of these cells, one behind the other along a cell vector; atom i's image is atom n_atoms + i."""
        cell = self.cell.copy()
        cell[axis] *= 2
        images = self.positions + self.cell[axis]
        return Structure(2 * self.species, np.concatenate([self.positions, images]), cell, self.pbc)


def lattice(
    kind: str, constant: float, cells: int, species: Sequence[str], amplitude: float = 0.0, seed: int = SEED
) -> Structure:
    """Return a cube of conventional cells as a cluster.

    Args:
        kind: ``bcc``, ``fcc`` or ``diamond``.
        constant: The lattice constant, Å.
        cells: Along each edge.
        species: The names to occupy sites with, in equal shares and random order.
        amplitude: The largest displacement of an atom along each axis, Å.
        seed: Of the displacements and the order.
    """
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*3 * [np.arange(cells)], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = constant * (corners + BASES[kind]).reshape(-1, 3)
    displaced = positions + rng.uniform(-amplitude, amplitude, positions.shape)
    occupied = rng.permutation([species[site % len(species)] for site in range(len(positions))]).tolist()
    return Structure(occupied, displaced, constant * cells * np.eye(3))


def compositions(species: Sequence[str], largest: int) -> dict[str, list[str]]:
    """Return each species alone and, of several, a random mix of at most ``largest`` of them."""
    found = {name: [name] for name in species}
    if len(species) > 1:
        mixed = np.random.default_rng(SEED).permutation(list(species))[:largest].tolist()
        found["mix"] = mixed
    return found
