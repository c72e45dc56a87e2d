"""KimgnnCalculator: what PyTorch says, in ASE, from every kind of file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import ExpCellFilter, FixAtoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from structures import CUTOFF, mixed_atoms, small_checkpoint

from kimgnn.calculator import KimgnnCalculator
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import load_checkpoint, save_checkpoint
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

FILES = ["", "checkpoints/best.ckpt", "model.pt", "model.onnx"]
"""In a run directory: itself, and what lies there."""


def silicon_carbide() -> Atoms:
    return mixed_atoms(["Si", "C"])


def slab() -> Atoms:
    """A layer of silicon atoms whose cell vector out of the plane is zero."""
    atoms = fcc111("Si", (2, 2, 2), a=4.4)
    atoms.rattle(0.1, seed=2)
    return atoms


STRUCTURES = {
    "skewed cell": silicon_carbide(),
    "one atom, cell smaller than the cutoff": bulk("Si", "sc", a=2.3),
    "slab": slab(),
    "molecule without a cell": molecule("C2H4")[:2],
    "lone atom": Atoms("C"),
}


def pytorch(run: Path, atoms: Atoms) -> Prediction:
    """What the network of a run says through KLIFF's configuration and our training graph."""
    network = load_checkpoint(run).network
    (prediction,) = predict(Potential(network), [configuration_from_atoms(atoms)], PeriodicGraph(CUTOFF, n_layers=2))
    return prediction


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("file", FILES)
def test_every_file_says_what_pytorch_says(file: str, structure: str, trained: Path) -> None:
    """Energy, forces, stress and atomic energies to 1e-12: the same sums in another order, double precision."""
    atoms = STRUCTURES[structure].copy()
    atoms.calc = KimgnnCalculator(trained / file)
    expected = pytorch(trained, atoms)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected.atomic_energies, rtol=0, atol=1e-12)
    if atoms.pbc.all():
        np.testing.assert_allclose(atoms.get_stress(), expected.stress, rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", ["model.pt", "model.onnx"])
def test_forces_and_stress_are_derivatives_of_the_energy(file: str, trained: Path) -> None:
    """ASE's central differences: their error is of second order in the step, here 1e-7 eV/Å and 1e-11 eV/Å³."""
    atoms = silicon_carbide()[:4]
    atoms.calc = calculator = KimgnnCalculator(trained / file)
    forces = calculator.calculate_numerical_forces(atoms, d=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-6)
    stress = calculator.calculate_numerical_stress(atoms, d=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), stress, rtol=0, atol=1e-8)


def test_a_supercell_has_the_energy_of_its_cells(trained: Path) -> None:
    """Eight one-atom cells, each smaller than the cutoff, have eight times the energy and the same stress."""
    calculator = KimgnnCalculator(trained)
    cell = bulk("Si", "sc", a=2.3)
    supercell = cell * (2, 2, 2)
    energy, stress = calculator.get_potential_energy(cell), calculator.get_stress(cell)
    assert calculator.get_potential_energy(supercell) == pytest.approx(8 * energy, rel=1e-12)
    np.testing.assert_allclose(calculator.get_stress(supercell), stress, rtol=0, atol=1e-12)


@pytest.mark.parametrize("structure", ["slab", "molecule without a cell"])
def test_stress_only_of_a_crystal(structure: str, trained: Path) -> None:
    """Without three periodic directions ASE's error for a property that is not there; the others stay."""
    atoms = STRUCTURES[structure].copy()
    atoms.calc = KimgnnCalculator(trained)
    energy = atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="three directions"):
        atoms.get_stress()
    assert atoms.calc.results["energy"] == energy


def test_nothing_is_computed_twice(trained: Path) -> None:
    """One evaluation gives everything; the next follows a change of what the network sees, and of nothing else."""
    atoms = silicon_carbide()
    atoms.calc = calculator = KimgnnCalculator(trained)
    evaluated = []
    model = calculator.model
    calculator.model = replace(model, evaluate=lambda graph: evaluated.append(graph) or model.evaluate(graph))

    def evaluations() -> int:
        evaluated.clear()
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energies()
        return len(evaluated)

    assert evaluations() == 1
    assert evaluations() == 0
    atoms.set_initial_charges([1.0] * 8)
    atoms.set_initial_magnetic_moments([1.0] * 8)
    atoms.set_tags(range(8))
    assert evaluations() == 0
    forces = atoms.get_forces()
    forces *= 0.0
    assert atoms.get_forces().any()
    for change in (
        lambda: atoms.rattle(0.01),
        lambda: atoms.set_cell(atoms.cell * 1.01),
        lambda: atoms.set_chemical_symbols(["Si"] * 8),
    ):
        change()
        assert evaluations() == 1
    atoms.pbc = (True, True, False)
    atoms.get_forces()
    assert len(evaluated) == 2


def test_what_is_refused_leaves_no_results(trained: Path) -> None:
    """After an error, the results of the structure before are not taken for those of the one refused."""
    calculator = KimgnnCalculator(trained)
    calculator.calculate(silicon_carbide())
    with pytest.raises(PropertyNotImplementedError):
        calculator.calculate(slab(), ["stress"])
    assert calculator.get_potential_energy(slab()) == pytest.approx(pytorch(trained, slab()).energy, abs=1e-12)
    calculator.calculate(silicon_carbide())
    broken = silicon_carbide()
    broken.positions[0] = np.nan
    for _ in range(2):
        with pytest.raises(DataError, match="C4Si4: a position is NaN"):
            calculator.get_potential_energy(broken)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("GeSiN", np.eye(3) * 3), r"every species.*got 'N, Ge'.*Allowed: Si, C"),
        (Atoms("SiX", np.eye(3)[:2] * 3), r"every species.*got 'X'"),
        (Atoms(), "no atoms"),
        (Atoms("Si2", [[0, 0, 0], [0, 0, 1e-5]]), "two atoms are at one place"),
        (Atoms("Si", cell=[3, 3, 0], pbc=True), "no volume"),
    ],
)
def test_structures_that_cannot_be_computed(atoms: Atoms, message: str, trained: Path) -> None:
    """Each is told, instead of a number."""
    with pytest.raises(DataError, match=message):
        KimgnnCalculator(trained).get_potential_energy(atoms)


def test_energy_is_conserved_without_a_thermostat(trained: Path) -> None:
    """Over 50 fs at 600 K the energy fluctuates by velocity Verlet's error, which is of second order in the step."""
    total = {}
    for step in (1.0, 0.5):
        atoms = silicon_carbide()
        atoms.calc = KimgnnCalculator(trained)
        MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.RandomState(4))
        with VelocityVerlet(atoms, step * units.fs) as dynamics:
            total[step] = [atoms.get_total_energy() for _ in dynamics.irun(int(50 / step))]
    fluctuation = {step: np.ptp(energies) for step, energies in total.items()}
    assert fluctuation[1.0] < 1e-3
    assert fluctuation[1.0] / fluctuation[0.5] == pytest.approx(4.0, rel=0.1)


def test_optimisers_relax_atoms_and_cell(trained: Path) -> None:
    """BFGS ends where the forces vanish and the stress too, which the filter multiplies by the volume."""
    atoms = silicon_carbide()
    atoms.calc = KimgnnCalculator(trained)
    before = atoms.get_potential_energy()
    with BFGS(ExpCellFilter(atoms), logfile=None) as optimizer:
        assert optimizer.run(fmax=1e-3, steps=200)
    assert atoms.get_potential_energy() < before
    assert abs(atoms.get_forces()).max() < 1e-3
    assert abs(atoms.get_stress()).max() * atoms.get_volume() < 1e-3


def test_a_committee_says_how_sure_it_is(tmp_path: Path) -> None:
    """Standard deviations of its members, as PyTorch has them; a single network's calculator tells of none."""
    checkpoint = small_checkpoint(["Si", "C"])
    network = build_network(replace(checkpoint.spec, members=3)).eval()
    save_checkpoint(tmp_path / "committee.ckpt", replace(checkpoint, network=network))
    save_checkpoint(tmp_path / "single.ckpt", checkpoint)
    calculator, single = KimgnnCalculator(tmp_path / "committee.ckpt"), KimgnnCalculator(tmp_path / "single.ckpt")
    for atoms in STRUCTURES.values():
        members = [
            predict(Potential(member), [configuration_from_atoms(atoms)], PeriodicGraph(CUTOFF, n_layers=2))[0]
            for member in network.members
        ]
        expected = {
            "energy_deviation": np.std([one.energy for one in members], ddof=1),
            "energies_deviation": np.std([one.atomic_energies for one in members], 0, ddof=1),
            "forces_deviation": np.std([one.forces for one in members], 0, ddof=1),
            "forces": np.mean([one.forces for one in members], 0),
            "energy": np.mean([one.energy for one in members]),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(calculator.get_property(name, atoms), values, rtol=0, atol=1e-12)
        with pytest.raises(PropertyNotImplementedError):
            single.get_property("forces_deviation", atoms)
        assert "energy_deviation" not in single.results
    assert "forces_deviation" not in KimgnnCalculator.implemented_properties


def test_constraints_are_left_to_ase(trained: Path) -> None:
    """Forces on fixed atoms are computed, and set to zero by ASE only."""
    atoms = silicon_carbide()
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = KimgnnCalculator(trained)
    assert not atoms.get_forces()[:2].any()
    np.testing.assert_allclose(
        atoms.get_forces(apply_constraint=False), pytorch(trained, atoms).forces, rtol=0, atol=1e-12
    )


def test_results_go_into_files(trained: Path, tmp_path: Path) -> None:
    """ASE's writers take what is computed, also where there is no stress."""
    for name in ("skewed cell", "molecule without a cell"):
        atoms = STRUCTURES[name].copy()
        atoms.calc = KimgnnCalculator(trained)
        energy = atoms.get_potential_energy()
        atoms.write(tmp_path / "out.traj")
        assert ase.io.read(tmp_path / "out.traj").get_potential_energy() == energy


def test_what_is_no_model(trained: Path, tmp_path: Path) -> None:
    """A folder that is no run, a file that is not there, and a network that gives no energy."""
    with pytest.raises(ModelError, match="no such checkpoint"):
        KimgnnCalculator(tmp_path)
    with pytest.raises(ModelError, match=r"other\.pt: no such file"):
        KimgnnCalculator(trained / "other.pt")
    checkpoint = load_checkpoint(trained)
    network = build_network(replace(checkpoint.spec, heads=[]))
    save_checkpoint(tmp_path / "properties.ckpt", replace(checkpoint, network=network))
    nearest = {"name": "CrystalGraph", "kwargs": {"cutoff": 4.0, "max_neighbors": 12}}
    save_checkpoint(tmp_path / "nearest.ckpt", replace(checkpoint, transform=nearest))
    with pytest.raises(ModelError, match=r"nearest\.ckpt: .*nearest neighbours"):
        KimgnnCalculator(tmp_path / "nearest.ckpt")
    with pytest.raises(ModelError, match=r"properties\.ckpt: .*no energy head"):
        KimgnnCalculator(tmp_path / "properties.ckpt")


def test_needs_neither_kliff_nor_lightning_nor_pydantic(trained: Path) -> None:
    """None of them is imported, nor PyG, on the way from any file to forces."""
    code = """
import sys
from ase import Atoms
from kimgnn.calculator import KimgnnCalculator
for file in sys.argv[1:]:
    KimgnnCalculator(file).get_forces(Atoms("Si2", [[0, 0, 0], [0, 0, 2]]))
print(sorted({"kliff", "lightning", "pytorch_lightning", "pydantic", "torch_geometric"} & sys.modules.keys()))
"""
    run = [sys.executable, "-c", code, *(trained / file for file in FILES)]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "[]\n"
