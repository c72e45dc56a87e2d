"""What an installed KIM model says of structures in ASE and in LAMMPS."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms

from kimgnn.errors import KIMError
from kimgnn.evaluation.predict import Prediction
from kimgnn.export.lammps import DATA_FILE, run_lammps
from kimgnn.export.lammps_data import LammpsBox, write_data
from kimgnn.export.lammps_decks import setup_commands

BAR: Final = 1.0 / 1.6021765e6
"""LAMMPS's bar in eV/Å³, as its ``metal`` units have it (not CODATA's newest)."""

_SINGLE_POINT: Final = """\
clear
{setup}
compute pressure all pressure NULL virial
compute energies all pe/atom
thermo_style custom step pe c_pressure[1] c_pressure[2] c_pressure[3] c_pressure[6] c_pressure[5] c_pressure[4]
dump atoms all custom 1 {folder}/atoms.dump id fx fy fz c_energies
dump_modify atoms sort id format float %.17g
run 0
undump atoms
print "$(pe:%.17g) {pressures}" file {folder}/totals
"""


def ase_prediction(atoms: Atoms, model_name: str) -> Prediction:
    """Return what a KIM model says in ASE.

    ASE's KIM calculator gives no energies of atoms; KIM does, for the same arrangement of atoms and images.

    Raises:
        KIMError: kimpy is missing, or KIM refuses the model or the structure.
    """
    try:
        import kimpy
        from ase.calculators.kim import KIM
        from kimpy import neighlist  # noqa: F401  ASE says only that a name is undefined
    except ImportError as error:
        raise KIMError("kimpy is not installed", remedy="pip install kimgnn[kim]") from error
    copy = without_labels(atoms)
    try:
        copy.calc = KIM(model_name)
        energy, forces = copy.get_potential_energy(), copy.get_forces()
        stress = copy.get_stress() if all(atoms.pbc) else np.full(6, np.nan)
        energies = np.zeros(copy.calc.num_particles[0])
        arguments = copy.calc.compute_args
        arguments.compute_args.set_argument_pointer(kimpy.compute_argument_name.partialParticleEnergy, energies)
        copy.calc.kim_model.compute(arguments, False)
    except Exception as error:  # kimpy and ASE's wrapper raise kinds of their own
        raise KIMError(f"ASE through KIM: {error}", where=model_name) from error
    return Prediction(float(energy), forces, stress, energies[: len(atoms)])


def lammps_predictions(
    structures: Sequence[Atoms], model_name: str, species: Sequence[str], ranks: int = 1
) -> list[Prediction | KIMError]:
    """Return for each structure what a KIM model says in LAMMPS, turned back into its frame, or the error.

    Args:
        structures: Computed one after the other by one LAMMPS, which is started again behind one that it refuses.
        model_name: Of an installed KIM model.
        species: Its elements.
        ranks: MPI ranks.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(index) for index in range(len(structures))]
        boxes = []
        for folder, atoms in zip(folders, structures, strict=True):
            folder.mkdir()
            boxes.append(write_data(folder / DATA_FILE, atoms, species))
        deck = Path(temporary) / "in.single"
        found: list[Prediction | KIMError] = []
        while len(found) < len(structures):
            start = len(found)
            commands = (
                _single_point(folder.name, setup_commands(model_name, species, box.boundary))
                for folder, box in zip(folders[start:], boxes[start:], strict=True)
            )
            deck.write_text("".join(commands), encoding="utf-8")
            refusal = None
            try:
                run_lammps(deck, ranks=ranks)
            except KIMError as error:
                refusal = error
            for folder, box, atoms in zip(folders[start:], boxes[start:], structures[start:], strict=True):
                if refusal is not None and not (folder / "totals").exists():
                    found.append(refusal)
                    break
                found.append(_read(folder, box, periodic=all(atoms.pbc)))
    return found


def lammps_prediction(atoms: Atoms, model_name: str, species: Sequence[str], ranks: int = 1) -> Prediction:
    """Return the same for one structure.

    Raises:
        KIMError: LAMMPS is missing, or refuses the model or the structure.
    """
    (found,) = lammps_predictions([atoms], model_name, species, ranks)
    if isinstance(found, KIMError):
        raise found
    return found


def without_labels(atoms: Atoms) -> Atoms:
    """Return the structure without labels and constraints, which some readers take for results."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _single_point(folder: str, setup: str) -> str:
    pressures = " ".join(f"$(c_pressure[{component}]:%.17g)" for component in (1, 2, 3, 6, 5, 4))
    setup = setup.replace(DATA_FILE, f"{folder}/{DATA_FILE}")
    return _SINGLE_POINT.format(setup=setup, folder=folder, pressures=pressures)


def _read(folder: Path, box: LammpsBox, periodic: bool) -> Prediction:
    energy, *pressure = map(float, (folder / "totals").read_text(encoding="utf-8").split())
    atoms = np.loadtxt(folder / "atoms.dump", skiprows=9, ndmin=2)
    stress = box.stress_back(-BAR * np.array(pressure)) if periodic else np.full(6, np.nan)
    return Prediction(energy, box.forces_back(atoms[:, 1:4]), stress, atoms[:, 4])
