"""SchNet against PyG's, and its own invariances."""

import math

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from kliff.dataset import Configuration
from torch_geometric.nn import SchNet as PyGSchNet

from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS = {"cutoff": 5.0, "hidden_channels": 32, "num_filters": 24, "num_interactions": 3, "num_gaussians": 20}


def make_network(precision: str = "double", **options: object):
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    return build_network(NetworkSpec("schnet", OPTIONS | options, [head], ["H", "C", "O", "Si"], precision))


def configuration(atoms) -> Configuration:
    return Configuration(np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.get_positions(), list(atoms.pbc))


def energy_of(network, atoms) -> float:
    graph = PeriodicGraph(cutoff=network.cutoff)(configuration(atoms))
    return float(Potential(network).eval()(graph, forces=False, stress=False)["energy"])


@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1e-6), ("double", 1e-12)])
def test_same_outputs_as_pyg_with_its_weights(precision: str, tolerance: float):
    """With the weights of PyG's SchNet copied in, every atom's output agrees: to rounding in float32.

    PyG keeps its Gaussians and ln 2 in float32, so for float64 it is given ours.
    """
    torch.manual_seed(1)
    reference = PyGSchNet(hidden_channels=32, num_filters=24, num_interactions=3, num_gaussians=20, cutoff=5.0)
    network = make_network(precision)
    if precision == "double":
        reference = reference.double()
        reference.distance_expansion.offset = network.trunk.basis.centres
        reference.distance_expansion.coeff = -(float(network.trunk.basis.steepness) ** 2)
        for module in reference.modules():
            if hasattr(module, "shift"):
                module.shift = math.log(2.0)
    trunk, head = network.trunk, network.heads["energy"]
    copies = [(trunk.embedding.weight[:100], reference.embedding.weight)]
    for ours, theirs in zip(trunk.interactions, reference.interactions, strict=True):
        pairs = [
            (ours.filter[0], theirs.mlp[0]),
            (ours.filter[2], theirs.mlp[2]),
            (ours.to_filters, theirs.conv.lin1),
            (ours.update[0], theirs.conv.lin2),
            (ours.update[2], theirs.lin),
        ]
        copies += [(a.weight, b.weight) for a, b in pairs]
        copies += [(a.bias, b.bias) for a, b in pairs if a.bias is not None]
    for ours, theirs in ((head.mlp[0], reference.lin1), (head.mlp[2], reference.lin2)):
        copies += [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]
    with torch.no_grad():
        for target, source in copies:
            target.copy_(source)
    for name in ("CH3CH2OH", "SiH4", "C6H6"):
        atoms = molecule(name)
        graph = PeriodicGraph(cutoff=5.0)(configuration(atoms))
        # PyG's own radius_graph needs torch_cluster; its interaction blocks take any edges.
        sender, receiver = graph.edge_index0
        distance = (graph.coords[receiver] - graph.coords[sender]).norm(dim=1).to(network.trunk.embedding.weight.dtype)
        x = reference.embedding(graph.z)
        for block in reference.interactions:
            x = x + block(x, graph.edge_index0, distance, reference.distance_expansion(distance))
        expected = reference.lin2(reference.act(reference.lin1(x))).squeeze(1).detach().double()
        atomic = Potential(network).eval()(graph, forces=False, stress=False)["atomic_energies"]
        torch.testing.assert_close(atomic, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("envelope", ["cosine", "polynomial"])
@pytest.mark.parametrize("shared", [False, True])
def test_energy_is_invariant(envelope: str, shared: bool):
    """Rotation, translation, permutation and the choice of cell leave the energy per atom as it is, to rounding."""
    network = make_network(cutoff_function=envelope, shared_interactions=shared)
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=3)
    energy = energy_of(network, atoms)
    moved = atoms.copy()
    moved.rotate(37.0, (1, 2, 3), rotate_cell=True)
    moved.translate((0.3, -7.1, 2.2))
    assert energy_of(network, moved) == pytest.approx(energy, abs=1e-10)
    assert energy_of(network, atoms[np.random.default_rng(0).permutation(8)]) == pytest.approx(energy, abs=1e-10)
    assert energy_of(network, atoms.repeat((2, 1, 3))) == pytest.approx(6 * energy, abs=1e-9)


def test_reach_is_the_number_of_interactions_times_the_cutoff():
    """On a chain with spacing just under the cutoff, an atom feels exactly num_interactions neighbours away."""
    network = make_network(cutoff=3.0, num_interactions=2).eval()
    from ase import Atoms

    def first_energy(n: int) -> float:
        graph = PeriodicGraph(cutoff=3.0)(configuration(Atoms(f"Si{n}", [(2.5 * i, 0, 0) for i in range(n)])))
        return float(Potential(network).eval()(graph, False, False)["atomic_energies"][0])

    assert first_energy(4) == pytest.approx(first_energy(3), abs=1e-14)
    assert abs(first_energy(3) - first_energy(2)) > 1e-8


def test_prefixes_and_pairs_give_what_the_whole_graph_gives(check_prefixes_and_pairs):
    """A staged chain, each layer on a prefix, yields the contributing atom's energy of the whole, in pairs or not."""
    check_prefixes_and_pairs(make_network(num_interactions=2).eval())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutoff": 0.0}, "cutoff"),
        ({"num_gaussians": 1}, "num_gaussians"),
        ({"gaussian_width": -1.0}, "gaussian_width"),
    ],
)
def test_options_out_of_range_are_named(options: dict, words: str):
    """An option out of range is an error that names it."""
    with pytest.raises(ValueError, match=words):
        make_network(**options)
