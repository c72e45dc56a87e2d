"""The structures in which an export is compared with PyTorch: some of the data, and what a potential must stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii

SEED: Final = 13

RATTLE: Final = 0.04
"""Standard deviation of displacements along each axis, in neighbour distances."""

STRAIN: Final = 0.05
"""Largest component of the strain."""


def parity_structures(samples: Sequence[Atoms], species: Sequence[str], cutoff: float) -> dict[str, Atoms]:
    """Return structures by what they are called in the parity table.

    They are the samples and, made from the first that is periodic in three directions or else from a crystal: a rattled
    and a strained one and, of several species, one in which each stands in the place of another; then a lone atom of
    each species, a molecule, and a cell that is smaller than the cutoff.

    Args:
        samples: Of the model's data.
        species: The model's elements.
        cutoff: Å.
    """
    rng = np.random.default_rng(SEED)
    # Atoms that touch, but within reach of each other.
    distance = min(2 * max(covalent_radii[atomic_numbers[symbol]] for symbol in species), 0.7 * cutoff)
    crystal = _crystal(species, distance)
    base = next((atoms for atoms in samples if all(atoms.pbc)), crystal)

    structures = {f"sample {number}": atoms for number, atoms in enumerate(samples, start=1)}
    structures["rattled"] = _rattled(base, RATTLE * distance, rng)
    structures["strained"] = base.copy()
    strained_cell = base.cell.array @ (np.eye(3) + rng.uniform(-STRAIN, STRAIN, (3, 3)))
    structures["strained"].set_cell(strained_cell, scale_atoms=True)
    if len(species) > 1:
        permuted = structures["rattled"].copy()
        following = dict(zip(species, [*species[1:], species[0]], strict=True))
        permuted.symbols = [following[symbol] for symbol in permuted.symbols]
        structures["species permuted"] = permuted
    for symbol in species:
        structures[f"one {symbol} atom"] = Atoms(symbol)
    structures["molecule"] = _rattled(crystal, RATTLE * distance, rng)
    structures["molecule"].pbc = False
    structures["small cell"] = _small_cell(species, 1.2 * distance)
    return structures


def _crystal(species: Sequence[str], distance: float) -> Atoms:
    """A face-centred cubic crystal of neighbours at ``distance``, the species by turns, each at least once."""
    crystal = bulk("X", "fcc", a=np.sqrt(2) * distance, cubic=True)
    crystal = crystal.repeat((-(-len(species) // len(crystal)), 1, 1))
    crystal.symbols = [species[site % len(species)] for site in range(len(crystal))]
    return crystal


def _small_cell(species: Sequence[str], length: float) -> Atoms:
    """Two atoms in a skewed cell, each near its own images."""
    cell = length * np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.05, 0.15, 1.0]])
    symbols = [species[0], species[-1]]
    return Atoms(symbols, scaled_positions=[[0, 0, 0], [0.45, 0.5, 0.53]], cell=cell, pbc=True)


def _rattled(atoms: Atoms, displacement: float, rng: np.random.Generator) -> Atoms:
    rattled = atoms.copy()
    rattled.positions += rng.normal(scale=displacement, size=rattled.positions.shape)
    return rattled
