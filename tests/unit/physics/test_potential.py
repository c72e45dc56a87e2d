"""Forces and stress against finite differences; batches against single structures."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from kliff.dataset import Configuration
from torch_geometric.data import Batch

from kimgnn.errors import ModelError
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.derivatives import VOIGT
from kimgnn.physics.potential import CoordinatePotential, Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

CUTOFF = 4.0


def graph_of(atoms: Atoms):
    configuration = Configuration(
        np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.get_positions(), list(atoms.pbc)
    )
    return PeriodicGraph(cutoff=CUTOFF)(configuration)


@pytest.fixture(scope="module")
def potential() -> Potential:
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": {"Si": -3.0, "C": -1.5}, "scale": 2.0}
    options = {"cutoff": CUTOFF, "hidden_channels": 16, "num_filters": 16, "num_gaussians": 12}
    return Potential(build_network(NetworkSpec("schnet", options, [head], ["Si", "C"]))).eval()


@pytest.fixture
def crystal() -> Atoms:
    """A skewed, rattled SiC cell smaller than the cutoff."""
    atoms = bulk("SiC", "zincblende", a=4.36)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0.02, 0.03, 0], [0, -0.01, 0.05], [0.01, 0, 0.03]]), scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    return atoms


def test_forces_are_minus_the_slope_of_the_energy(potential: Potential, crystal: Atoms):
    """Central differences with h = 1e-4 Å err by O(h²) ~ 1e-8 relative: forces agree to 1e-6 relative."""
    forces = potential(graph_of(crystal))["forces"].numpy()
    numerical = np.zeros_like(forces)
    step = 1e-4
    for atom in range(len(crystal)):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = crystal.copy()
                moved.positions[atom, axis] += sign * step
                energies.append(float(potential(graph_of(moved), False, False)["energy"]))
            numerical[atom, axis] = -(energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(forces, numerical, atol=1e-6 * np.abs(forces).max())


def test_stress_is_the_slope_of_the_energy_with_strain(potential: Potential, crystal: Atoms):
    """Stress has ASE's sign (positive in tension) and Voigt order, by symmetric finite strains."""
    stress = potential(graph_of(crystal))["stress"][0].numpy()
    numerical = np.zeros(6)
    step = 1e-5
    for index, (i, j) in enumerate(VOIGT):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            strained = crystal.copy()
            strained.set_cell(crystal.cell @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(float(potential(graph_of(strained), False, False)["energy"]))
        numerical[index] = (energies[0] - energies[1]) / (2 * step) / crystal.get_volume()
    np.testing.assert_allclose(stress, numerical, atol=1e-6 * np.abs(stress).max())


def test_stretched_crystal_pulls_back(potential: Potential):
    """dE/dV > 0 means a positive (tensile) trace: the sign convention in words."""
    atoms = bulk("Si", cubic=True)
    energies = []
    for scale in (0.9999, 1.0001):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * scale, scale_atoms=True)
        energies.append(float(potential(graph_of(scaled), False, False)["energy"]))
    trace = float(potential(graph_of(atoms))["stress"][0, :3].sum())
    assert np.sign(trace) == np.sign(energies[1] - energies[0])


def test_batch_equals_single_structures(potential: Potential, crystal: Atoms):
    """A batch of a crystal, a molecule and a lone atom gives each one's own numbers; stress of a molecule is NaN."""
    structures = [crystal, molecule("SiH4")[:1], molecule("C2H2")[:2], bulk("Si")]
    batch = potential(Batch.from_data_list([graph_of(atoms) for atoms in structures]))
    offset = 0
    for index, atoms in enumerate(structures):
        single = potential(graph_of(atoms))
        torch.testing.assert_close(batch["energy"][index], single["energy"][0], rtol=0, atol=1e-12)
        rows = slice(offset, offset + len(atoms))
        torch.testing.assert_close(batch["forces"][rows], single["forces"], rtol=0, atol=1e-12)
        torch.testing.assert_close(batch["stress"][index], single["stress"][0], rtol=0, atol=1e-13, equal_nan=True)
        offset += len(atoms)
    assert torch.isnan(batch["stress"][1]).all()


def test_pairs_change_nothing(potential: Potential, crystal: Atoms):
    """Filters computed once a pair give the energies, forces, stress and training gradients of once an edge."""

    def evaluate(batch) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        potential.train().zero_grad(set_to_none=True)
        result = potential(batch)
        (result["energy"].sum() + result["forces"].square().sum() + result["stress"].square().sum()).backward()
        gradients = [p.grad.clone() for p in potential.parameters()]
        potential.eval().zero_grad(set_to_none=True)
        return result, gradients

    batch = Batch.from_data_list([graph_of(crystal), graph_of(bulk("Si")), graph_of(bulk("SiC", "rocksalt", a=4.1))])
    without = batch.clone()
    del without["edge_of_pair"]
    ours, our_gradients = evaluate(batch)
    theirs, their_gradients = evaluate(without)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_training_on_forces_and_stress_gives_finite_gradients(potential: Potential, crystal: Atoms):
    """A structure without a volume in the batch does not poison the gradient of a masked stress loss."""
    potential.train()
    batch = Batch.from_data_list([graph_of(crystal), graph_of(molecule("C2H2")[:2])])
    result = potential(batch)
    loss = result["energy"].sum() + result["forces"].square().sum() + result["stress"][:1].square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in potential.parameters() if p.grad is not None)
    potential.zero_grad(set_to_none=True)
    potential.eval()


def test_coordinate_potential_agrees(potential: Potential, crystal: Atoms):
    """A module that takes coordinates and shifts, as KLIFF's do, gives the same energy, forces and stress."""

    class Module(torch.nn.Module):
        def forward(self, z, coords, edge_index0, shifts, contributions):
            vectors = coords[edge_index0[1]] - coords[edge_index0[0]] + shifts
            layers = potential.network.num_layers
            nodes, edges = [len(z)] * layers, [edge_index0.shape[1]] * layers
            atomic = potential.network(GraphInputs(z, edge_index0, vectors, nodes, edges))["energy"]
            return atomic.new_zeros(int(contributions.max()) + 1).index_add(0, contributions, atomic)[::2]

    names = ["z", "coords", "edge_index0", "shifts", "contributions"]
    batch = Batch.from_data_list([graph_of(crystal), graph_of(bulk("Si"))])
    ours, theirs = potential(batch), CoordinatePotential(Module(), names).eval()(batch)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-12)


def test_module_that_returns_other_than_one_energy_a_graph_is_refused(crystal: Atoms):
    """The ghosts' slots, say, or atomic energies: nothing is broadcast against the labels."""

    class Atomic(torch.nn.Module):
        def forward(self, coords):
            return coords.sum(dim=1)

    with pytest.raises(ModelError, match=r"one energy a graph \(got \(2,\)\).*contributions"):
        CoordinatePotential(Atomic(), ["coords"])(graph_of(crystal))
