"""Molecular dynamics under guard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from kimgnn.active.dynamics import run_ase
from kimgnn.calculator import KimgnnCalculator
from kimgnn.manifest.active import Dynamics, Guards

DYNAMICS = Dynamics(steps=20, every=5, timestep=1.0)


def ran(run: Path, guards: Guards, seed: Atoms | None = None, temperature: float = 300.0):
    atoms = bulk("Si", cubic=True) if seed is None else seed
    return run_ase(atoms, KimgnnCalculator(run), DYNAMICS, temperature, guards, np.random.default_rng(0))


def test_frames_are_kept_every_so_often(run: Path) -> None:
    frames, ended = ran(run, Guards(deviation=1e6))
    assert len(frames) == 4
    assert ended == ""
    assert all(frame.calc is None and not frame.has("momenta") for frame in frames)
    again, _ = ran(run, Guards(deviation=1e6))
    np.testing.assert_array_equal(frames[-1].positions, again[-1].positions)


def test_velocities_are_those_of_the_temperature(run: Path) -> None:
    """After one femtosecond, the root mean square displacement is that of free flight, to a fifth: 192 components."""
    seed = bulk("Si", cubic=True).repeat(2)
    dynamics = Dynamics(steps=1, every=1, timestep=1.0)
    frames, _ = run_ase(seed, KimgnnCalculator(run), dynamics, 900.0, Guards(deviation=1e6), np.random.default_rng(0))
    moved = np.sqrt(np.mean((frames[0].positions - seed.positions) ** 2))
    flight = units.fs * np.sqrt(units.kB * 900.0 / seed.get_masses()[0])
    assert moved == pytest.approx(flight, rel=0.2)


def test_an_exploding_deviation_ends_it(run: Path) -> None:
    """At the first step where it is above the guard, and nothing of that step is kept."""
    largest, calculator = [], KimgnnCalculator(run)
    for frame in ran(run, Guards(deviation=1e6)).frames:
        largest.append(np.linalg.norm(calculator.get_property("forces_deviation", frame), axis=1).max())
    guard = sorted(largest)[1]
    frames, ended = ran(run, Guards(deviation=guard))
    assert "force deviation" in ended
    for frame in frames:
        assert np.linalg.norm(calculator.get_property("forces_deviation", frame), axis=1).max() <= guard
    assert len(frames) < 4


def test_atoms_too_close_end_it(run: Path) -> None:
    frames, ended = ran(run, Guards(deviation=1e6, distance=0.99), bulk("Si", "sc", a=2.0, cubic=True).repeat(2))
    assert frames == []
    assert ended == "step 5: atoms too close"


def test_what_the_calculator_refuses_ends_it(run: Path) -> None:
    frames, ended = ran(run, Guards(), Atoms("Si2", np.zeros((2, 3))))
    assert frames == []
    assert "two atoms are at one place" in ended
