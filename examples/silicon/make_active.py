"""Make what `manifests/silicon_active.yaml` needs beside `silicon.extxyz`: seeds, and who trains and tests.

    python examples/silicon/make_active.py [FOLDER]

`active_seeds.extxyz`: the crystal at eighteen volumes in cells of 8 and 16 atoms, a vacancy, three surfaces; no labels.
`active_train.txt`: forty crystals of at most 16 atoms of `silicon.extxyz`, by their indices: strained, rattled, and of
molecular dynamics. No vacancy, and no surface.
`active_test.txt`: 24 of its strained, rattled, vacancy, surface and molecular-dynamics structures each, at random.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import diamond100, diamond111, surface
from make_data import LATTICE, VACUUM, cell

from kimgnn.files import atomic_write

HERE = Path(__file__).parent
KINDS = ("strained", "rattled", "vacancy", "surface", "md")
TRAIN = {"strained": 16, "rattled": 16, "md": 8}
MAX_TRAIN_ATOMS = 16
N_TEST = 24


def seeds() -> list[Atoms]:
    """Return the structures to explore from, all periodic, their kind under `config_type`."""
    found = []
    for atoms in (cell(1, 1, 1), cell(1, 1, 2)):
        for strain in np.linspace(-0.03, 0.04, 18):
            scaled = atoms.copy()
            scaled.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
            found.append(("crystal", scaled))
    vacancy = cell(1, 1, 2)
    del vacancy[0]
    found += [
        ("vacancy", vacancy),
        ("surface 100", diamond100("Si", (1, 2, 6), LATTICE, vacuum=VACUUM)),
        ("surface 110", surface(cell(1, 1, 1), (1, 1, 0), 2, vacuum=VACUUM)),
        ("surface 111", diamond111("Si", (1, 1, 8), LATTICE, vacuum=VACUUM)),
    ]
    return [Atoms(a.numbers, a.positions, cell=a.cell, pbc=True, info={"config_type": kind}) for kind, a in found]


def _small(indices: np.ndarray, is_small: np.ndarray) -> np.ndarray:
    return indices[is_small[indices]]


def main(folder: Path) -> None:
    """Write the three files."""
    frames = ase.io.read(HERE / "silicon.extxyz", index=":")
    kinds = np.array([frame.info["config_type"] for frame in frames])
    is_small = np.array([len(frame) <= MAX_TRAIN_ATOMS for frame in frames])
    rng = np.random.default_rng(2024)
    drawn = {kind: rng.permutation(np.flatnonzero(kinds == kind)) for kind in KINDS}
    parts = {
        "active_test.txt": np.concatenate([members[:N_TEST] for members in drawn.values()]),
        "active_train.txt": np.concatenate([_small(drawn[kind][N_TEST:], is_small)[:n] for kind, n in TRAIN.items()]),
    }
    with atomic_write(folder / "active_seeds.extxyz") as file:
        ase.io.write(file, seeds(), format="extxyz")
    for name, indices in parts.items():
        with atomic_write(folder / name) as file:
            file.writelines(f"{index}\n" for index in sorted(indices.tolist()))
    print(f"{len(seeds())} seeds, {', '.join(f'{len(part)} in {name}' for name, part in parts.items())}: {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
