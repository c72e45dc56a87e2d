"""Make `silicon.extxyz`: silicon structures labelled by the Stillinger-Weber potential of `openkim-models`.

    python examples/silicon/make_data.py [OUTPUT]

Perfect, strained, rattled, vacancy and surface cells, and molecular dynamics at 300-1500 K; 8 to 64 atoms; energy (eV),
forces (eV/Å) and stress (eV/Å³, tension positive) under ASE's names, the kind of structure under `config_type`. Labels
are computed after positions and cells are rounded to what is written, so they belong to the geometry in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk, diamond100, diamond111, surface
from ase.calculators.kim import KIM
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from kimgnn.files import atomic_write

MODEL = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
LATTICE = 5.431
"""Å. The model's own equilibrium."""
VACUUM = 6.0
"""Å, on each side of a slab: the images are farther apart than the model reaches."""
DECIMALS = 6
"""Of positions and cells, Å."""


def cell(*repeats: int) -> Atoms:
    """Return a supercell of diamond silicon's cubic cell."""
    return bulk("Si", "diamond", LATTICE, cubic=True).repeat(repeats)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """Return a copy under a strain (3, 3)."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def random_strain(rng: np.random.Generator, size: float) -> np.ndarray:
    """Return a symmetric strain with components up to ``size``."""
    strain = rng.uniform(-size, size, (3, 3))
    return (strain + strain.T) / 2


def rattled(atoms: Atoms, rng: np.random.Generator, size: float) -> Atoms:
    """Return a copy with every coordinate moved by a normal deviate of ``size`` Å."""
    atoms = atoms.copy()
    atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
    return atoms


def perfect_cells() -> Iterator[Atoms]:
    """Yield the crystal in cells of 8, 16, 32 and 64 atoms."""
    for repeats in ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)):
        yield cell(*repeats)


def strained_cells(rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield volumetric, uniaxial and shear strains, then random strains with atoms off their places."""
    for size in np.linspace(-0.06, 0.08, 29):
        yield strained(cell(1, 1, 1), size * np.eye(3))
    for size in np.linspace(-0.06, 0.06, 17):
        uniaxial, shear = np.zeros((2, 3, 3))
        uniaxial[2, 2] = size
        shear[0, 1] = shear[1, 0] = size
        yield strained(cell(1, 1, 1), uniaxial)
        yield strained(cell(1, 1, 1), shear)
    for number in range(100):
        repeats = (1, 1, 1) if number < 70 else (1, 1, 2)
        yield rattled(strained(cell(*repeats), random_strain(rng, 0.05)), rng, rng.uniform(0.01, 0.10))


def rattled_cells(rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield crystals with displacements up to those near melting."""
    for number in range(70):
        repeats = (1, 1, 1) if number < 60 else (2, 2, 2)
        yield rattled(cell(*repeats), rng, rng.uniform(0.01, 0.12))


def vacancies(rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield cells with an atom missing."""
    for number in range(26):
        atoms = cell(*((1, 2, 2) if number < 20 else (2, 2, 2)))
        del atoms[int(rng.integers(len(atoms)))]
        yield rattled(strained(atoms, random_strain(rng, 0.02)), rng, rng.uniform(0.01, 0.10))


def surfaces(rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield unreconstructed (100), (110) and (111) slabs of 8 to 16 atoms."""
    slabs = [
        diamond100("Si", (1, 2, 6), LATTICE, vacuum=VACUUM),
        diamond111("Si", (1, 1, 8), LATTICE, vacuum=VACUUM),
        diamond111("Si", (1, 2, 6), LATTICE, vacuum=VACUUM),
        surface(cell(1, 1, 1), (1, 1, 0), 2, vacuum=VACUUM),
    ]
    for slab in slabs:
        slab.pbc = True
        for _ in range(12):
            strain = random_strain(rng, 0.03)
            strain[2] = strain[:, 2] = 0.0
            yield rattled(strained(slab, strain), rng, rng.uniform(0.0, 0.08))


def molecular_dynamics(seed: int) -> Iterator[Atoms]:
    """Yield snapshots of Langevin dynamics, 200 fs apart after 1 ps, at 300-1500 K and several volumes."""
    for repeats, snapshots in (((1, 1, 1), 14), ((1, 2, 2), 6), ((2, 2, 2), 5)):
        for temperature, scale in ((300, 1.0), (600, 0.99), (900, 1.01), (1200, 1.0), (1500, 1.02)):
            seed += 1
            random = np.random.RandomState(seed)
            atoms = cell(*repeats)
            atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
            atoms.calc = KIM(MODEL)
            MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=random)
            dynamics = Langevin(
                atoms, 2 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=random
            )  # fmt: skip
            dynamics.run(500)
            for _ in range(snapshots):
                dynamics.run(100)
                yield atoms.copy()


def structures() -> Iterator[Atoms]:
    """Yield every structure, unlabelled, positions and cell rounded, `config_type` set."""
    rng = np.random.default_rng(2024)
    for kind, group in (
        ("perfect", perfect_cells()),
        ("strained", strained_cells(rng)),
        ("rattled", rattled_cells(rng)),
        ("vacancy", vacancies(rng)),
        ("surface", surfaces(rng)),
        ("md", molecular_dynamics(2024)),
    ):
        for atoms in group:
            plain = Atoms(
                atoms.get_chemical_symbols(),
                positions=atoms.positions.round(DECIMALS),
                cell=atoms.cell.array.round(DECIMALS) + 0.0,  # no minus before a zero
                pbc=True,
            )
            plain.info["config_type"] = kind
            yield plain


def labelled(atoms: Atoms) -> Atoms:
    """Return the structure with the reference potential's energy, forces and stress."""
    atoms.calc = KIM(MODEL)
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=round(energy, 8), forces=forces, stress=stress.round(10) + 0.0)
    return atoms


def main(output: Path) -> None:
    """Write the labelled structures to ``output``."""
    data = [labelled(atoms) for atoms in structures()]
    with atomic_write(output) as file:
        ase.io.write(file, data, format="extxyz")
    print(f"{len(data)} structures, {sum(map(len, data))} atoms, {output.stat().st_size / 1e6:.2f} MB: {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("silicon.extxyz"))
