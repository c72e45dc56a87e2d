"""A KIM model driven by hand: any unit, any selection of results, any spoilt input."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ase import Atoms

kimpy = pytest.importorskip("kimpy")


class Computed(NamedTuple):
    """All that the driver can compute, in the units asked for, ghosts' shares added to their atoms."""

    energy: float
    forces: np.ndarray
    particle_energy: np.ndarray
    virial: np.ndarray
    particle_virial: np.ndarray


ALL = ("partialEnergy", "partialForces", "partialParticleEnergy", "partialVirial", "partialParticleVirial")


class KIMModel:
    """A KIM model driven by hand: any unit, any selection of results."""

    def __init__(self, name: str, length: str = "A", energy: str = "eV") -> None:
        accepted, self.model = kimpy.model.create(
            kimpy.numbering.zeroBased,
            getattr(kimpy.length_unit, length),
            getattr(kimpy.energy_unit, energy),
            kimpy.charge_unit.e,
            kimpy.temperature_unit.K,
            kimpy.time_unit.ps,
            name,
        )
        assert accepted
        self.arguments = self.model.compute_arguments_create()

    def code(self, symbol: str) -> int:
        supported, code = self.model.get_species_support_and_code(getattr(kimpy.species_name, symbol))
        assert supported
        return code

    def compute(
        self,
        atoms: Atoms,
        length_unit: float = 1.0,
        wanted: tuple[str, ...] = ALL,
        codes: list[int] | None = None,
        contributing: list[int] | None = None,
        spoilt: tuple[int, float] | None = None,
        deaf: int | None = None,
    ) -> Computed:
        """Evaluate ``atoms`` (Å) after division by ``length_unit`` (Å).

        ``spoilt`` is an atom and its new x; ``deaf`` an atom whose neighbour list stays empty.
        """
        names = kimpy.compute_argument_name
        influence = self.model.get_influence_distance() * length_unit
        cutoffs, _ = self.model.get_neighbor_list_cutoffs_and_hints()
        positions = atoms.positions
        codes = [self.code(symbol) for symbol in atoms.symbols] if codes is None else codes
        image_of = np.arange(len(atoms))
        if atoms.pbc.any():
            ghosts, ghost_codes, ghost_of = kimpy.neighlist.create_paddings(
                influence, atoms.cell.array, atoms.pbc.astype(np.intc), positions, np.array(codes, np.intc)
            )
            positions = np.concatenate([positions, ghosts])
            codes = [*codes, *ghost_codes]
            image_of = np.concatenate([image_of, ghost_of])
        n = len(positions)
        is_real = np.array([1] * len(atoms) if contributing is None else contributing, np.intc)
        is_real = np.concatenate([is_real, np.zeros(n - len(atoms), np.intc)]).astype(np.intc)
        neighbors = kimpy.neighlist.NeighList()
        skin = 1.1  # the driver has to leave out what is beyond the cutoff
        unit = min(length_unit, 1.0)  # kimpy's list fails on lengths near zero, and refuses cutoffs above its own
        has_list = np.array([particle != deaf for particle in range(n)], np.intc)
        neighbors.build(positions / unit, skin * influence / unit, skin * cutoffs * length_unit / unit, has_list)
        positions = positions / length_unit
        self.arguments.set_callback_pointer(
            kimpy.compute_callback_name.GetNeighborList, kimpy.neighlist.get_neigh_kim(), neighbors
        )
        if spoilt is not None:
            positions[spoilt[0], 0] = spoilt[1]
        garbage = 1e300
        results = {
            "partialEnergy": np.full(1, garbage),
            "partialForces": np.full((n, 3), garbage),
            "partialParticleEnergy": np.full(n, garbage),
            "partialVirial": np.full(6, garbage),
            "partialParticleVirial": np.full((n, 6), garbage),
        }
        inputs = {
            "numberOfParticles": np.array([n], np.intc),
            "particleSpeciesCodes": np.array(codes, np.intc),
            "particleContributing": is_real,
            "coordinates": positions,
        }
        for name, array in (inputs | results).items():
            if name in inputs or name in wanted:
                self.arguments.set_argument_pointer(getattr(names, name), array)
            else:
                self.arguments.set_argument_null_pointer(getattr(names, name))
        self.model.compute(self.arguments, True)

        def folded(name: str) -> np.ndarray:
            total = np.zeros((len(atoms), *results[name].shape[1:]))
            np.add.at(total, image_of, results[name])
            return total

        return Computed(
            results["partialEnergy"][0],
            folded("partialForces"),
            folded("partialParticleEnergy"),
            results["partialVirial"],
            folded("partialParticleVirial"),
        )


def logged() -> str:
    """What KIM wrote to its log in the current directory."""
    return Path("kim.log").read_text()
