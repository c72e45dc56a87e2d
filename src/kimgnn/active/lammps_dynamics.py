"""Molecular dynamics with the committee in LAMMPS, where it is a KIM model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
from ase import Atoms

from kimgnn.active.dynamics import Trajectory
from kimgnn.active.frames import bare
from kimgnn.active.guards import too_close
from kimgnn.errors import KIMError
from kimgnn.export.driver import install_driver, install_model
from kimgnn.export.lammps import DATA_FILE, run_lammps
from kimgnn.export.lammps_data import LammpsBox, write_data
from kimgnn.export.lammps_decks import setup_commands
from kimgnn.export.portable_model import export_portable_model
from kimgnn.manifest.active import Dynamics, Guards
from kimgnn.models.checkpoint import Checkpoint

MODELS: Final = "KIM_API_PORTABLE_MODELS_DIR"
"""Folders in which KIM looks for models besides its own."""

MAX_SEED: Final = 900_000_000
"""Of LAMMPS's random numbers."""

DUMP: Final = "frames.dump"

_DECK: Final = """\
{setup}
timestep $({timestep}*v_fs*v__u_time)
velocity all create {temperature} {velocities} mom yes dist gaussian
fix integrate all nve
fix thermostat all langevin {temperature} {temperature} $({damping}*v_fs*v__u_time) {noise}
dump frames all custom {every} {dump} id xu yu zu
dump_modify frames sort id format float %.17g
thermo {every}
run {steps}
"""


@contextmanager
def installed_committee(committee: Checkpoint, name: str) -> Iterator[str]:
    """Export a committee and install it, for KIM in this process and what it starts; it is gone afterwards.

    Args:
        committee: Its networks.
        name: Of the KIM model.

    Raises:
        KIMError: KIM, a compiler or LAMMPS's package is missing, or the build fails.
        ExportError: The network cannot be exported, with the reason.
    """
    install_driver()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "installed"
        models.mkdir()
        before = [os.environ[MODELS]] if os.environ.get(MODELS) else []
        with patch.dict(os.environ, {MODELS: os.pathsep.join([str(models), *before])}):
            install_model(export_portable_model(committee, name, Path(folder) / "exported"), "environment")
            yield name


def run_in_lammps(
    seed: Atoms,
    model: str,
    species: list[str],
    dynamics: Dynamics,
    temperature: float,
    guards: Guards,
    rng: np.random.Generator,
) -> Trajectory:
    """Run Langevin dynamics from a seed, and keep the frames before one in which atoms are too close.

    LAMMPS knows no deviation: whoever has the frames looks at it. Where it loses atoms, the frames until then count.

    Args:
        seed: Where to start; velocities are drawn at ``temperature``.
        model: The committee's KIM model, installed.
        species: Its elements.
        dynamics: How long, and how often a frame is kept.
        temperature: K.
        guards: See `kimgnn.manifest.active.Guards`.
        rng: Random numbers.

    Raises:
        KIMError: LAMMPS is missing, or stops before the first frame.
    """
    with tempfile.TemporaryDirectory() as folder:
        box = write_data(Path(folder) / DATA_FILE, seed, species)
        deck = Path(folder) / "in.explore"
        velocities, noise = rng.integers(1, MAX_SEED, size=2)
        # Metal units: ps. A box that is not periodic follows the atoms.
        setup = "variable fs equal 0.001\n" + setup_commands(model, species, box.boundary.replace("f", "s"))
        commands = _DECK.format(
            setup=setup,
            timestep=dynamics.timestep,
            temperature=temperature,
            velocities=velocities,
            damping=1 / dynamics.friction,
            noise=noise,
            every=dynamics.every,
            dump=DUMP,
            steps=dynamics.steps,
        )
        deck.write_text(commands, encoding="utf-8")
        ended = ""
        try:
            run_lammps(deck)
        except KIMError as error:
            ended = error.problems[0].message
            if not (Path(folder) / DUMP).exists():
                raise
        frames = list(_read_dump(Path(folder) / DUMP, seed, box))
    for number, frame in enumerate(frames):
        if too_close(frame, guards.distance):
            return Trajectory(frames[:number], f"frame {number + 1}: atoms too close")
    return Trajectory(frames, ended)


def _read_dump(path: Path, seed: Atoms, box: LammpsBox) -> Iterator[Atoms]:
    """Yield the whole frames of a dump, turned back into the seed's frame; the last one may be cut off."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    n_lines = len(seed) + 9
    for start in range(0, len(lines) - n_lines + 1, n_lines):
        if lines[start + 1].strip() == "0":  # the seed itself
            continue
        values = np.array([line.split() for line in lines[start + 9 : start + n_lines]], dtype=float)
        if values.shape != (len(seed), 4) or not np.isfinite(values).all():
            return
        frame = bare(seed)
        frame.positions = values[:, 1:] @ box.rotation.T
        yield frame
