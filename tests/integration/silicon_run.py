"""A training run that takes seconds: labelled silicon cells, and a manifest for them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write


def silicon(n: int = 12, seed: int = 0) -> list[Atoms]:
    """Return rattled, strained cells of 2 and 8 atoms, labelled by a Lennard-Jones potential."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(n):
        atoms = bulk("Si", cubic=bool(index % 2))
        atoms.rattle(0.05, rng=rng)
        atoms.set_cell(atoms.cell.array * (1 + 0.02 * rng.standard_normal()), scale_atoms=True)
        atoms.calc = LennardJones(sigma=2.1, epsilon=0.3, rc=4.0, smooth=True)
        labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def write_silicon(path: Path, n: int = 12, seed: int = 0) -> Path:
    """Write `silicon` as extended XYZ."""
    write(path, silicon(n, seed), format="extxyz")
    return path


BASE: dict[str, Any] = {
    "dataset": {"type": "ase"},
    "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 3.5, "species": ["Si"]}}},
    "model": {
        "name": "tiny",
        "architecture": "schnet",
        "options": {"hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 8},
    },
    "training": {
        "loss": {"weights": {"energy": 1.0, "forces": 1.0}},
        "optimizer": {"name": "Adam", "learning_rate": 1e-2},
        "training_dataset": {"train_size": 6},
        "validation_dataset": {"val_size": 2},
        "test_dataset": {"test_size": 2},
        "batch_size": 2,
        "epochs": 3,
        "accelerator": "cpu",
    },
}


def tiny_manifest(folder: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a manifest whose data and runs are in ``folder``, with dotted paths set to other values, or removed."""
    manifest = deepcopy(BASE)
    data = folder / "silicon.xyz"
    if not data.exists():
        write_silicon(data)
    manifest["workspace"] = {"name": str(folder / "runs"), "seed": 7}
    manifest["dataset"]["path"] = str(data)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        block = manifest
        for name in parents:
            block = block.setdefault(name, {})
        if value is None:
            block.pop(last, None)
        else:
            block[last] = value
    return manifest
