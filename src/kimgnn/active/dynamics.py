"""Molecular dynamics with the committee in ASE, ended where the committee knows nothing any more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from kimgnn.active.frames import bare
from kimgnn.active.guards import too_close
from kimgnn.errors import DataError
from kimgnn.manifest.active import Dynamics, Guards


class Trajectory(NamedTuple):
    """Frames that were kept, and why it ended before its time; an empty text where it did not."""

    frames: list[Atoms]
    ended: str


def run_ase(
    seed: Atoms,
    calculator: Calculator,
    dynamics: Dynamics,
    temperature: float,
    guards: Guards,
    rng: np.random.Generator,
) -> Trajectory:
    """Run Langevin dynamics from a seed, as long as no guard ends it.

    Args:
        seed: Where to start; velocities are drawn at ``temperature``.
        calculator: The committee, whose results have ``forces_deviation``.
        dynamics: How long, and how often a frame is kept.
        temperature: K.
        guards: A frame that breaks one is not kept.
        rng: Random numbers.
    """
    atoms = bare(seed)
    atoms.calc = calculator
    timestep, friction = dynamics.timestep * units.fs, dynamics.friction / units.fs
    frames: list[Atoms] = []
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    try:
        with Langevin(atoms, timestep, temperature_K=temperature, friction=friction, rng=rng) as integrator:
            for step, _ in enumerate(integrator.irun(dynamics.steps)):
                deviation = float(np.linalg.norm(calculator.results["forces_deviation"], axis=1).max())
                if not deviation <= guards.deviation:  # NaN is not either
                    return Trajectory(frames, f"step {step}: force deviation {deviation:.3g} eV/Å")
                if step and step % dynamics.every == 0:
                    if too_close(atoms, guards.distance):
                        return Trajectory(frames, f"step {step}: atoms too close")
                    frames.append(bare(atoms))
    except DataError as error:  # the calculator takes no atoms at one place, and no NaN
        return Trajectory(frames, f"after frame {len(frames)}: {error.problems[0].message}")
    return Trajectory(frames, "")
