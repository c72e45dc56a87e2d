"""A round of exploration: trajectories, strains and rattles, each in a file of its own when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from ase import Atoms
from loguru import logger

from kimgnn.active.committee import judge
from kimgnn.active.dynamics import Trajectory, run_ase
from kimgnn.active.frames import NAME, ORIGIN, read_frames, write_frames
from kimgnn.active.guards import too_close
from kimgnn.active.lammps_dynamics import installed_committee, run_in_lammps
from kimgnn.active.perturb import rattled, strained
from kimgnn.calculator import KimgnnCalculator
from kimgnn.manifest.active import Active, Dynamics, Guards
from kimgnn.models.checkpoint import load_checkpoint

MODEL: Final = "kimgnn_exploring_committee__MO_000000000000_000"
"""KIM's name of the committee while LAMMPS runs."""

Run: TypeAlias = Callable[[Atoms, float, np.random.Generator], Trajectory]
"""Seed, temperature and random numbers to a trajectory."""


def explore(
    active: Active, seeds: Sequence[Atoms], committee: Path, folder: Path, round_number: int, seed: int
) -> list[Atoms]:
    """Return the structures of a round, each with a name and an origin; what was explored before is not done again.

    Args:
        active: How.
        seeds: Where to start.
        committee: Run directory of the committee.
        folder: Gets a file for each trajectory, and one each for strains and rattles.
        round_number: From 0; it is in the names.
        seed: Of random numbers, which differ by round and file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    how = active.explore
    with ExitStack() as stack:
        if how.md is not None:
            files = [folder / f"md_{index:03d}.extxyz" for index in range(how.md.count)]
            if not all(file.exists() for file in files):
                run = _runner(how.md, active.guards, committee, stack)
                for index, file in enumerate(files):
                    if not file.exists():
                        rng = np.random.default_rng([seed, round_number, 0, index])
                        _run(how.md, index, seeds, run, file, rng)
    for name, frames in _perturbed(active, seeds, seed, round_number):
        if not (folder / f"{name}.extxyz").exists():
            write_frames(folder / f"{name}.extxyz", list(frames))
    found = [atoms for file in sorted(folder.glob("*.extxyz")) for atoms in read_frames(file)]
    kept = [atoms for atoms in found if not too_close(atoms, active.guards.distance)]
    for index, atoms in enumerate(kept):
        atoms.info = {NAME: f"r{round_number:02d}_{index:05d}", ORIGIN: atoms.info[ORIGIN]}
    return kept


def _runner(dynamics: Dynamics, guards: Guards, committee: Path, stack: ExitStack) -> Run:
    """Return what runs a trajectory; a model that is installed for it is gone when the stack is closed."""
    if dynamics.engine == "ase":
        calculator = KimgnnCalculator(committee, calibrated=False)
        return lambda seed, temperature, rng: run_ase(seed, calculator, dynamics, temperature, guards, rng)
    checkpoint = load_checkpoint(committee)
    model = stack.enter_context(installed_committee(checkpoint, MODEL))

    def run(seed: Atoms, temperature: float, rng: np.random.Generator) -> Trajectory:
        found = run_in_lammps(seed, model, checkpoint.spec.species, dynamics, temperature, guards, rng)
        deviations = judge(checkpoint, found.frames).of_structures("max")
        gone = np.flatnonzero(~(deviations <= guards.deviation))
        if not len(gone):
            return found
        return Trajectory(
            found.frames[: gone[0]], f"frame {gone[0] + 1}: force deviation {deviations[gone[0]]:.3g} eV/Å"
        )

    return run


def _run(
    dynamics: Dynamics, index: int, seeds: Sequence[Atoms], run: Run, file: Path, rng: np.random.Generator
) -> None:
    chosen = int(rng.integers(len(seeds)))
    temperature = dynamics.temperatures[index % len(dynamics.temperatures)]
    frames, ended = run(seeds[chosen], temperature, rng)
    for number, atoms in enumerate(frames, start=1):
        step = number * dynamics.every
        atoms.info[ORIGIN] = f"md {index} of seed {chosen} at {temperature:g} K, step {step}"
    if ended:
        logger.info(f"trajectory {index} ({temperature:g} K, seed {chosen}) ended before its time: {ended}")
    write_frames(file, frames)


def _perturbed(
    active: Active, seeds: Sequence[Atoms], seed: int, round_number: int
) -> Iterator[tuple[str, Iterator[Atoms]]]:
    """Yield the name of a file and its structures."""
    strain, rattle = active.explore.strain, active.explore.rattle
    if strain is not None:
        rng = np.random.default_rng([seed, round_number, 1])
        how = partial(strained, size=strain.size, rattle=strain.rattle)
        yield "strain", _each(seeds, strain.count, rng, "strain", how)
    if rattle is not None:
        rng = np.random.default_rng([seed, round_number, 2])
        yield "rattle", _each(seeds, rattle.count, rng, "rattle", partial(rattled, size=rattle.size))


def _each(
    seeds: Sequence[Atoms], count: int, rng: np.random.Generator, what: str, change: Callable[..., Atoms]
) -> Iterator[Atoms]:
    for _ in range(count):
        chosen = int(rng.integers(len(seeds)))
        atoms = change(seeds[chosen], rng=rng)
        atoms.info[ORIGIN] = f"{what} of seed {chosen}"
        yield atoms
