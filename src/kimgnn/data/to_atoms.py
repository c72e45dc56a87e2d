"""KLIFF configuration -> ASE structure, and a data set -> extended XYZ."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from kliff.dataset import Configuration

from kimgnn.data.labels import has_label
from kimgnn.fields import LABELS
from kimgnn.files import atomic_write


def to_atoms(configuration: Configuration) -> ase.Atoms:
    """Return a configuration as an ASE structure; its labels are the results of a `SinglePointCalculator`."""
    atoms = ase.Atoms(
        symbols=configuration.species, positions=configuration.coords, cell=configuration.cell, pbc=configuration.PBC
    )
    labels = {label: np.array(getattr(configuration, label)) for label in LABELS if has_label(configuration, label)}
    if labels:
        atoms.calc = SinglePointCalculator(atoms, **{k: v.item() if v.ndim == 0 else v for k, v in labels.items()})
    return atoms


def save_configurations(configurations: Iterable[Configuration], path: str | Path) -> Path:
    """Write configurations as one extended XYZ file with keys ``energy``, ``forces`` and ``stress``, and return it.

    Args:
        configurations: The data set.
        path: A file ending in ``.xyz`` or ``.extxyz``, or a folder, which gets ``dataset.extxyz``.

    Raises:
        OSError: It cannot be written; a file that was there is left as it was.
    """
    path = Path(path)
    if path.suffix not in (".xyz", ".extxyz"):
        path = path / "dataset.extxyz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        ase.io.write(file, [to_atoms(configuration) for configuration in configurations], format="extxyz")
    return path
