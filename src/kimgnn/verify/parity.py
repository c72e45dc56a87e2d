"""The same structures in PyTorch, in ASE through KIM and in LAMMPS, and their largest differences."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import KIMError
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.export.lammps import DATA_FILE, run_lammps, setup_commands
from kimgnn.export.lammps_data import write_data
from kimgnn.models.network import Network
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

TOLERANCES: Final = {"energy": 1e-9, "forces": 1e-8, "stress": 1e-9}
"""Allowed in float64, eV a structure, eV/Å and eV/Å³."""

SINGLE_TOLERANCES: Final = {"energy": 1e-4, "forces": 1e-4, "stress": 1e-5}
"""Allowed in float32: seven digits of sums over tens of atoms."""

BAR: Final = 1.0 / 1.6021765e6
"""LAMMPS's bar in eV/Å³, as its ``metal`` units have it (not CODATA's newest)."""

_SINGLE_POINT = """\
{setup}
compute pressure all pressure NULL virial
thermo_style custom step pe c_pressure[1] c_pressure[2] c_pressure[3] c_pressure[6] c_pressure[5] c_pressure[4]
thermo_modify format float %.17g
dump forces all custom 1 forces.dump id fx fy fz
dump_modify forces sort id format float %.17g
run 0
"""


@dataclass(frozen=True)
class ParityRow:
    """Largest differences of one runtime from PyTorch, over the structures that it computed.

    Attributes:
        runtime: ``ASE (KIM)``, ``LAMMPS, 2 ranks``.
        computed: Structures it computed.
        energy: eV a structure.
        forces: eV/Å.
        stress: eV/Å³, over the structures periodic in three directions; ``None`` without any.
        skipped: Structure's index -> why the runtime refused it.
    """

    runtime: str
    computed: int
    energy: float
    forces: float
    stress: float | None
    skipped: dict[int, str]

    def within(self, tolerances: Mapping[str, float]) -> bool:
        """Whether it computed every structure, each difference a number within the tolerances."""
        differences = {name: getattr(self, name) for name in tolerances}
        return not self.skipped and all(
            value is None or value <= tolerances[name] for name, value in differences.items()
        )

    def __str__(self) -> str:
        stress = "-" if self.stress is None else f"{self.stress:.1e}"
        line = f"{self.runtime:32} {self.computed:>10} {self.energy:>10.1e} {self.forces:>10.1e} {stress:>10}"
        return "\n".join([line, *(f"  structure {index} skipped: {why}" for index, why in self.skipped.items())])


@dataclass(frozen=True)
class ParityTable:
    """One row a runtime, beside what is allowed.

    Attributes:
        rows: One a runtime.
        tolerances: ``energy``, ``forces`` and ``stress`` -> the largest difference allowed.
    """

    rows: list[ParityRow]
    tolerances: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every runtime computed every structure, within the tolerances."""
        return all(row.within(self.tolerances) for row in self.rows)

    def __str__(self) -> str:
        head = f"{'largest difference from PyTorch':32} {'structures':>10} {'eV':>10} {'eV/Å':>10} {'eV/Å³':>10}"
        allowed = "".join(f" {self.tolerances[name]:>10.1e}" for name in ("energy", "forces", "stress"))
        return "\n".join([head, *map(str, self.rows), f"{'allowed':43}{allowed}"])


def check_parity(
    network: Network, model_name: str, structures: Sequence[Atoms], ranks: Sequence[int] = (1, 2)
) -> ParityTable:
    """Return how far ASE through KIM, and LAMMPS on each number of ranks, are from PyTorch.

    Args:
        network: What was exported.
        model_name: The exported model, installed where KIM finds it.
        structures: Periodic or not; their own labels are not looked at.
        ranks: MPI ranks to run LAMMPS on.

    Raises:
        KIMError: kimpy, LAMMPS or the model is missing.
    """
    configurations = [configuration_from_atoms(_bare(atoms)) for atoms in structures]
    expected = predict(Potential(network), configurations, PeriodicGraph(network.cutoff, n_layers=network.num_layers))
    rows = [
        _row("ASE (KIM)", structures, expected, [_attempt(ase_prediction, atoms, model_name) for atoms in structures])
    ]
    for count in ranks:
        found = [_attempt(lammps_prediction, atoms, model_name, network.spec.species, count) for atoms in structures]
        rows.append(_row(f"LAMMPS, {count} rank{'s' if count > 1 else ''}", structures, expected, found))
    return ParityTable(rows, TOLERANCES if network.spec.precision == "double" else SINGLE_TOLERANCES)


def ase_prediction(atoms: Atoms, model_name: str) -> Prediction:
    """Return what a KIM model says in ASE.

    Raises:
        KIMError: kimpy is missing, or KIM refuses the model or the structure.
    """
    try:
        from ase.calculators.kim import KIM
        from kimpy import neighlist  # noqa: F401  ASE says only that a name is undefined
    except ImportError as error:
        raise KIMError("kimpy is not installed", remedy="pip install kimgnn[kim]") from error
    copy = _bare(atoms)
    try:
        copy.calc = KIM(model_name)
        energy, forces = copy.get_potential_energy(), copy.get_forces()
        stress = copy.get_stress() if all(atoms.pbc) else np.full(6, np.nan)
    except Exception as error:  # kimpy and ASE's wrapper raise kinds of their own
        raise KIMError(f"ASE through KIM: {error}", where=model_name) from error
    return Prediction(float(energy), forces, stress)


def lammps_prediction(atoms: Atoms, model_name: str, species: Sequence[str], ranks: int = 1) -> Prediction:
    """Return what a KIM model says in LAMMPS, turned back into the frame of ``atoms``.

    Args:
        atoms: The structure.
        model_name: Of an installed KIM model.
        species: Its elements.
        ranks: MPI ranks.

    Raises:
        KIMError: LAMMPS is missing, or refuses the model or the structure.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        box = write_data(folder / DATA_FILE, atoms, species)
        deck = folder / "in.single"
        deck.write_text(_SINGLE_POINT.format(setup=setup_commands(model_name, species, box.boundary)))
        thermo = run_lammps(deck, ranks=ranks)
        dump = np.loadtxt(folder / "forces.dump", skiprows=9, ndmin=2)
    energy, *pressure = (column[-1] for name, column in thermo.items() if name != "Step")
    stress = box.stress_back(-BAR * np.array(pressure)) if all(atoms.pbc) else np.full(6, np.nan)
    return Prediction(float(energy), box.forces_back(dump[:, 1:]), stress)


def _bare(atoms: Atoms) -> Atoms:
    """The structure without labels and constraints, which some readers take for results."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _attempt(compute: Callable[..., Prediction], atoms: Atoms, *arguments: object) -> Prediction | str:
    try:
        return compute(atoms, *arguments)
    except KIMError as error:
        return str(error)


def _row(
    runtime: str, structures: Sequence[Atoms], expected: Sequence[Prediction], found: Sequence[Prediction | str]
) -> ParityRow:
    computed = [
        (want, have, all(atoms.pbc))
        for atoms, want, have in zip(structures, expected, found, strict=True)
        if isinstance(have, Prediction)
    ]
    stresses = [(want.stress, have.stress) for want, have, periodic in computed if periodic]
    return ParityRow(
        runtime,
        len(computed),
        _largest([(want.energy, have.energy) for want, have, _ in computed]),
        _largest([(want.forces, have.forces) for want, have, _ in computed]),
        _largest(stresses) if stresses else None,
        {index: have for index, have in enumerate(found) if isinstance(have, str)},
    )


def _largest(pairs: Sequence[tuple[Any, Any]]) -> float:
    """The largest difference; NaN if one is NaN, or there is none."""
    return float(np.max([np.abs(np.subtract(*pair)).max() for pair in pairs])) if pairs else float("nan")
