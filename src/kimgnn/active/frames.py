"""Structures in files: written whole or not at all, and read back as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ase.io
from ase import Atoms

from kimgnn.fields import LABELS
from kimgnn.files import atomic_write

NAME: Final = "name"
"""Key of a structure's ``info``: what it is called in files, messages and the state."""

ORIGIN: Final = "origin"
"""Key of a structure's ``info``: how exploration came to it."""


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write structures as extended XYZ, the labels of a `SinglePointCalculator` included; an empty file without any."""
    with atomic_write(path) as file:
        if frames:
            ase.io.write(file, list(frames), format="extxyz")


def read_frames(path: Path) -> list[Atoms]:
    """Return the structures of a file of `write_frames`."""
    frames = ase.io.read(path, index=":", format="extxyz") if path.stat().st_size else []
    for atoms in frames:
        for label in LABELS:  # ASE's reader leaves them there beside the calculator, which is what its writer takes
            atoms.info.pop(label, None)
            atoms.arrays.pop(label, None)
    return frames


def bare(atoms: Atoms) -> Atoms:
    """Return the structure alone: no labels, constraints, velocities or anything that a file had besides."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
