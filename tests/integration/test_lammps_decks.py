"""The decks of an export run as they are, and do what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import GPa
from exported import install_network, silicon_carbide_structures, small_network

from kimgnn.errors import KIMError
from kimgnn.export.lammps import DATA_FILE, run_lammps
from kimgnn.export.lammps_data import write_data
from kimgnn.export.lammps_decks import decks
from kimgnn.models.network import Network
from kimgnn.physics.derivatives import VOIGT
from kimgnn.verify.parity import torch_predictions

NAME = "LammpsDecks_SiC__MO_000000000006_000"
SPECIES = ["Si", "C"]
STILLINGER_WEBER = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
ONE_SET_OF_UNITS = "ex_model_Ar_P_Morse_07C"
"""A model of the KIM API's own that knows Å and eV only."""

pytestmark = [pytest.mark.kim, pytest.mark.lammps]


@pytest.fixture(scope="module")
def network() -> Network:
    """One layer, for speed; its random weights have minima of energy."""
    return small_network(1)


@pytest.fixture(scope="module")
def exported(network: Network, kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported folder of ``network``, which is installed."""
    return install_network(network, NAME, tmp_path_factory.mktemp("export"))


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported folder, to run in."""
    return shutil.copytree(exported, tmp_path / "deck")


@pytest.fixture(scope="module")
def relaxed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the exported folder in which ``in.minimize`` has run."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("relaxed") / "deck")
    run_lammps(folder / "in.minimize", variables={"force": 1e-9})
    return folder


def write_decks(folder: Path, model_name: str, atoms: Atoms, species: list[str]) -> None:
    """Write the decks of an installed model, and ``atoms`` for them to run."""
    box = write_data(folder / DATA_FILE, atoms, species)
    for file, text in decks(model_name, species, box.boundary).items():
        (folder / file).write_text(text)


def read_relaxed(folder: Path, pbc: bool | tuple[bool, bool, bool] = True) -> Atoms:
    """What ``in.minimize`` has written, of types Si C."""
    atoms = ase.io.read(folder / "relaxed.data", format="lammps-data", style="atomic", Z_of_type={1: 14, 2: 6})
    return Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=pbc)


def elastic_constants(folder: Path) -> np.ndarray:
    """C_ij (6, 6) in GPa, from the log of ``in.elastic``."""
    rows = (folder / "log.lammps").read_text().rpartition("Elastic constants C_ij (GPa)")[2].splitlines()[1:7]
    return np.array([row.split() for row in rows], float)


def test_constant_energy(folder: Path) -> None:
    """The total energy of the rattled cell drifts by less than 0.1 meV an atom in 200 steps of 0.25 fs."""
    thermo = run_lammps(folder / "in.nve", variables={"steps": 200, "timestep": 0.00025})
    assert thermo["Step"][-1] == 200
    assert np.ptp(thermo["TotEng"]) < 8 * 1e-4
    assert np.ptp(thermo["KinEng"]) > 8 * 1e-3


def test_constant_pressure_of_a_network(folder: Path) -> None:
    """On two ranks: the volume answers to the pressure."""
    thermo = run_lammps(folder / "in.npt", ranks=2, variables={"steps": 40})
    assert thermo["Step"][-1] == 40
    assert np.ptp(thermo["Volume"]) > 0
    assert all(np.isfinite(values).all() for values in thermo.values())


@pytest.mark.parametrize("deck", ["in.nvt", "in.npt"])
def test_temperature_and_pressure(deck: str, tmp_path: Path) -> None:
    """Silicon, 64 atoms, Stillinger-Weber: on average over 4 ps temperature and pressure are those asked for.

    These are some four of the barostat's periods, of which the averages are uncertain by 3 % and 0.03 GPa.
    """
    write_decks(tmp_path, STILLINGER_WEBER, bulk("Si", cubic=True).repeat(2), ["Si"])
    asked = {"temperature": 600} | ({"pressure": 20000} if deck == "in.npt" else {})
    thermo = run_lammps(tmp_path / deck, variables={"steps": 5000} | asked)
    settled = thermo["Step"] > 1000
    assert thermo["Temp"][settled].mean() == pytest.approx(600, rel=0.1)
    if deck == "in.npt":
        assert thermo["Press"][settled].mean() == pytest.approx(20000, abs=1000)


@pytest.mark.parametrize("kind", ["cell", "slab", "wire", "molecule"])
def test_minimisation(kind: str, network: Network, folder: Path) -> None:
    """In PyTorch nothing pulls at the relaxed atoms, nor strains the periodic directions, shears included."""
    atoms = silicon_carbide_structures()[kind]
    write_decks(folder, NAME, atoms, SPECIES)
    run_lammps(folder / "in.minimize")
    relaxed = read_relaxed(folder, tuple(atoms.pbc))
    start, end = torch_predictions(network, [atoms, relaxed])
    assert end.energy < start.energy - 0.01
    assert np.linalg.norm(end.forces) < 1.1e-6
    for i, j in VOIGT:
        if atoms.pbc[i] and atoms.pbc[j]:
            minus, plus = torch_predictions(network, [_strained(relaxed, i, j, size) for size in (-1e-5, 1e-5)])
            assert plus.energy - minus.energy == pytest.approx(0, abs=2e-5 * 1e-6)


def test_units(folder: Path) -> None:
    """``real`` gives what ``metal`` does: LAMMPS's own factors between them have seven digits."""
    results = {}
    for units in ("metal", "real"):
        deck = folder / "in.nve"
        dump = "dump forces all custom 1 forces.dump id fx fy fz\ndump_modify forces sort id\nrun ${steps}"
        deck.write_text((folder / "in.nvt").read_text().replace("run ${steps}", dump))
        thermo = run_lammps(deck, variables={"units": units, "steps": 20})
        forces = np.loadtxt(folder / "forces.dump", skiprows=9, max_rows=8)[:, 1:]
        results[units] = thermo["PotEng"], thermo["TotEng"], thermo["Press"], forces, thermo["Temp"], thermo["Time"]
    kcal_per_mol, atmosphere, femtosecond = 23.060548, 1 / 1.01325, 1000.0
    factors = (kcal_per_mol, kcal_per_mol, atmosphere, kcal_per_mol, 1.0, femtosecond)
    for metal, real, factor in zip(results["metal"], results["real"], factors, strict=True):
        np.testing.assert_allclose(real, factor * metal, rtol=5e-6, atol=1e-5)


def test_model_with_units_of_its_own(tmp_path: Path) -> None:
    """Asked for ``real``, a model of Å and eV runs in ``metal``, and 100 atm are 101.325 bar on the way there."""
    write_decks(tmp_path, ONE_SET_OF_UNITS, bulk("Ar", a=5.3, cubic=True), ["Ar"])
    metal = run_lammps(tmp_path / "in.npt", variables={"pressure": 101.325, "steps": 40})
    real = run_lammps(tmp_path / "in.npt", variables={"pressure": 100, "steps": 40, "units": "real"})
    for name, values in metal.items():
        np.testing.assert_allclose(real[name], values, rtol=1e-9)
    run_lammps(tmp_path / "in.elastic")
    constants = elastic_constants(tmp_path)
    run_lammps(tmp_path / "in.elastic", variables={"units": "real"})
    np.testing.assert_allclose(elastic_constants(tmp_path), constants, atol=1e-3)
    assert constants[0, 0] > 1


def test_other_units_are_refused(folder: Path) -> None:
    """The data file has Å, which ``si`` would take for metres."""
    with pytest.raises(KIMError, match="units must be metal or real"):
        run_lammps(folder / "in.nve", variables={"units": "si"})


def test_elastic_constants_of_silicon(tmp_path: Path) -> None:
    """Stillinger and Weber's potential has C11, C12, C44 of 151.4, 76.4 and 56.4 GPa, atoms relaxed.

    Balamane, Halicioglu and Tiller, Phys. Rev. B 46, 2250 (1992). The start is rattled, and strained by 1 %.
    """
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    write_decks(tmp_path, STILLINGER_WEBER, atoms, ["Si"])
    run_lammps(tmp_path / "in.elastic")
    expected = np.zeros((6, 6))
    expected[:3, :3] = 76.4
    np.fill_diagonal(expected, 3 * [151.4] + 3 * [56.4])
    np.testing.assert_allclose(elastic_constants(tmp_path), expected, atol=0.06)


def test_elastic_constants_of_a_network(network: Network, relaxed: Path) -> None:
    """The deck's, of a cell without symmetry, are those of PyTorch's stress by symmetric strain, atoms relaxed."""
    run_lammps(relaxed / "in.elastic", variables={"strain": 1e-4, "force": 1e-9})
    found = elastic_constants(relaxed)
    expected = _strain_derivative_of_stress(network, read_relaxed(relaxed), 1e-4) / GPa
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found - found.T).max() < 1e-4 * np.abs(found).max()


def _strain_derivative_of_stress(network: Network, reference: Atoms, size: float) -> np.ndarray:
    """Central differences, (6, 6) in eV/Å³, of the stress with the atoms moved to where no force acts on them."""
    step = 1e-4
    displacements = step * np.eye(3 * len(reference)).reshape(-1, len(reference), 3)
    shifted = [_moved(reference, sign * displacement) for displacement in displacements for sign in (1, -1)]
    forces = np.array([prediction.forces.ravel() for prediction in torch_predictions(network, shifted)])
    stiffness = (forces[1::2] - forces[::2]) / (2 * step)
    compliance = np.linalg.pinv(stiffness, rcond=1e-8, hermitian=True)

    columns = []
    for i, j in VOIGT:
        stresses = []
        for sign in (1, -1):
            atoms = _strained(reference, i, j, sign * size)
            for _ in range(6):
                (found,) = torch_predictions(network, [atoms])
                atoms = _moved(atoms, (compliance @ found.forces.ravel()).reshape(-1, 3))
            assert np.linalg.norm(found.forces) < 1e-8
            stresses.append(found.stress)
        columns.append((stresses[0] - stresses[1]) / (2 * size))
    return np.array(columns)


def _strained(atoms: Atoms, i: int, j: int, size: float) -> Atoms:
    """Under a symmetric strain, of engineering size if it is a shear."""
    deformation = np.eye(3)
    deformation[i, j] += size / 2
    deformation[j, i] += size / 2
    return Atoms(atoms.symbols, atoms.positions @ deformation, cell=atoms.cell @ deformation, pbc=atoms.pbc)


def _moved(atoms: Atoms, displacements: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += displacements
    return moved
