"""ALIGNN against the authors' equations, its invariances, its reach, and as a potential."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.alignn import EdgeGatedConvolution, Links
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.potential import Potential
from kimgnn.transforms.line_graph import LineGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph

SMALL = {
    "cutoff": 4.0,
    "alignn_layers": 2,
    "gcn_layers": 1,
    "hidden_channels": 8,
    "embedding_channels": 6,
    "num_gaussians": 12,
    "num_angle_gaussians": 8,
    "element_features": "embedding",
}
POTENTIAL = {"normalization": "layer", "cutoff_function": "polynomial"}
KINDS = [{}, {"angle_cutoff": 3.0}, {"normalization": "none", "cutoff_function": "cosine"}, {"gcn_layers": 0}]
HEAD = {"type": "energy", "reference_energies": "none", "scale": 1.0}


def make_network(**options: object) -> Network:
    """A network with an energy head and random weights, not all of one sign."""
    torch.manual_seed(0)
    return build_network(NetworkSpec("alignn", SMALL | options, [HEAD], ["C", "Si"])).eval()


def rattled() -> Atoms:
    """Eight atoms of silicon and carbon, off their sites."""
    atoms = bulk("Si", cubic=True)
    atoms.symbols[[0, 3]] = "C"
    atoms.rattle(0.1, seed=3)
    return atoms


def energies_of(network: Network, atoms: Atoms, transform=None) -> Tensor:
    """Atomic energies, eV."""
    graph = (transform or PeriodicGraph(network.cutoff))(configuration_from_atoms(atoms))
    return Potential(network).eval()(graph, forces=False, stress=False)["atomic_energies"]


def forces_of(network: Network, atoms: Atoms) -> dict[str, Tensor]:
    return Potential(network).eval()(PeriodicGraph(network.cutoff)(configuration_from_atoms(atoms)))


class AuthorsConvolution(nn.Module):
    """The edge-gated convolution, edge by edge, with one linear map for each letter of the paper."""

    def __init__(self, ours: EdgeGatedConvolution) -> None:
        super().__init__()
        n = ours.channels
        self.src_gate, self.dst_update = (nn.Linear(n, n).double() for _ in range(2))
        with torch.no_grad():
            for part, rows in ((self.src_gate, slice(0, n)), (self.dst_update, slice(n, None))):
                part.weight.copy_(ours.of_source.weight[rows])
                part.bias.copy_(ours.of_source.bias[rows])
        self.dst_gate, self.edge_gate, self.src_update = ours.target_gate, ours.edge_gate, ours.of_target
        self.bn_nodes, self.bn_edges = nn.BatchNorm1d(n).double(), nn.BatchNorm1d(n).double()

    def forward(self, nodes: Tensor, edges: Tensor, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
        m = torch.stack(
            [
                self.src_gate(nodes[i]) + self.dst_gate(nodes[j]) + self.edge_gate(edges[e])
                for e, (i, j) in enumerate(zip(source, target, strict=True))
            ]
        )
        sigma, update = torch.sigmoid(m), self.dst_update(nodes)
        h = []
        for j in range(len(nodes)):
            mine = [e for e, end in enumerate(target) if end == j]
            above = sum((sigma[e] * update[source[e]] for e in mine), torch.zeros_like(nodes[0]))
            below = sum((sigma[e] for e in mine), torch.zeros_like(nodes[0]))
            h.append(above / (below + 1e-6))
        x = nodes + nn.functional.silu(self.bn_nodes(self.src_update(nodes) + torch.stack(h)))
        return x, edges + nn.functional.silu(self.bn_edges(m))


def test_convolution_is_the_authors() -> None:
    """With batch normalisation in training, as published; in double precision, so the tolerance is rounding."""
    torch.manual_seed(1)
    ours = EdgeGatedConvolution(6, "batch", updates_edges=True).double().train()
    theirs = AuthorsConvolution(ours).train()
    nodes, edges = torch.randn(5, 6).double(), torch.randn(11, 6).double()
    source, target = torch.randint(5, (11,)), torch.randint(4, (11,))  # the last node receives nothing
    found = ours(nodes, edges, Links(source, target, None, 5))
    expected = theirs(nodes, edges, source.tolist(), target.tolist())
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=0, atol=1e-12)


def test_whole_network_is_the_authors() -> None:
    """Bond graph and line graph by loops over atoms, as in the authors' code: nodes first, then the line graph."""
    network = make_network(normalization="batch", gcn_layers=2).train()
    graph = LineGraph(4.0, 6)(configuration_from_atoms(rattled()))
    sender, receiver = graph.edge_index0
    vectors = graph.coords[receiver] - graph.coords[sender] + graph.shifts
    n_edges, trunk = len(sender), network.trunk

    def gaussians(values: Tensor, low: float, high: float, bins: int) -> Tensor:
        centres = torch.linspace(low, high, bins, dtype=torch.float64)
        return torch.exp(-((values[:, None] - centres) ** 2) / (centres[1] - centres[0]))

    pairs = [(a, b) for b in range(n_edges) for a in range(n_edges) if receiver[a] == sender[b]]
    cosines = torch.stack(
        [torch.dot(-vectors[a], vectors[b]) / (vectors[a].norm() * vectors[b].norm()) for a, b in pairs]
    )
    x = trunk.embed_atoms(trunk.elements(graph.z))
    y = trunk.embed_bonds(gaussians(vectors.norm(dim=1), 0.0, 4.0, 12))
    z = trunk.embed_angles(gaussians(cosines, -1.0, 1.0, 8))
    bonds, angles = (sender.tolist(), receiver.tolist()), tuple(map(list, zip(*pairs, strict=True)))
    for block in trunk.blocks:
        x, y = AuthorsConvolution(block.node_update)(x, y, *bonds)
        if block.bond_update is not None:
            y, z = AuthorsConvolution(block.bond_update)(y, z, *angles)
    layers = network.num_layers
    counts = ([len(graph.z)] * layers, [n_edges] * layers)
    first, second = graph.triplets
    given = GraphInputs(graph.z, graph.edge_index0, vectors, *counts, None, (first, second, [len(first)] * layers))
    # Batch statistics divide by spreads of a few structures: rounding errors grow a little.
    torch.testing.assert_close(trunk(given), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", KINDS)
def test_triplets_of_the_graph_are_those_that_are_found(options: dict) -> None:
    """A network that is given none makes the same of a structure."""
    network = make_network(**(POTENTIAL | options))
    given = LineGraph(4.0, None, angle_cutoff=options.get("angle_cutoff"))
    torch.testing.assert_close(
        energies_of(network, rattled(), given), energies_of(network, rattled()), rtol=0, atol=1e-12
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from(KINDS), st.booleans())
def test_energy_is_invariant(seed: int, options: dict, nearest: bool) -> None:
    """Rotation, translation, permutation and the choice of cell leave each atom's energy as it is, to rounding."""
    network = make_network(**(POTENTIAL | options))
    rng = np.random.default_rng(seed)
    atoms = rattled()
    atoms.rattle(0.2, rng=rng)
    atoms.set_cell(atoms.cell[:] + rng.normal(0, 0.3, (3, 3)), scale_atoms=True)
    transform = LineGraph(4.0, 6, angle_neighbors=3) if nearest else None
    before = energies_of(network, atoms, transform)
    moved = atoms.copy()
    moved.rotate(float(rng.uniform(0, 360)), rng.normal(size=3), rotate_cell=True)
    moved.translate(rng.normal(0, 5, 3))
    torch.testing.assert_close(energies_of(network, moved, transform), before, rtol=0, atol=1e-9)
    order = rng.permutation(8)
    torch.testing.assert_close(energies_of(network, atoms[order], transform), before[order], rtol=0, atol=1e-9)
    supercell = energies_of(network, atoms.repeat((2, 1, 2)), transform)
    torch.testing.assert_close(supercell, before.repeat(4), rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", KINDS)
def test_forces_and_stress_are_derivatives(options: dict) -> None:
    """Central differences of the energy by positions and strain, with forces and stress of the edge gradient."""
    network, atoms, step = make_network(**(POTENTIAL | options)), rattled(), 1e-4
    result = forces_of(network, atoms)  # of the differences, the third derivative times step² is the error: near 1e-8
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(float(energies_of(network, moved).sum()))
        force = (energies[1] - energies[0]) / (2 * step)
        assert float(result["forces"][atom, axis]) == pytest.approx(force, abs=1e-6)
        assert abs(force) > 1e-4
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strain = np.eye(3)
        strain[1, 2] = strain[2, 1] = sign * step / 2
        strained.set_cell(atoms.cell @ strain, scale_atoms=True)
        energies.append(float(energies_of(network, strained).sum()))
    stress = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert float(result["stress"][0, 3]) == pytest.approx(stress, abs=1e-6)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("passed", ["cutoff", "angle_cutoff"])
def test_it_is_smooth_where_a_bond_passes_a_cutoff(options: dict, passed: str) -> None:
    """An atom beside a bent molecule goes through the cutoff, or that of angles: no jump of energy or forces."""
    network = make_network(**(POTENTIAL | options))
    where = options.get("angle_cutoff", 4.0) if passed == "angle_cutoff" else 4.0
    found = []
    for distance in (where - 1e-5, where + 1e-5):
        atoms = Atoms("SiCSi", [[0, 0, 0], [1.6, 1.1, 0], [-distance, 0, 0]])
        result = forces_of(network, atoms)
        found.append(torch.cat([result["energy"], result["forces"].flatten()]))
    # 2e-5 Å apart: what a force constant of up to 5 eV/Å² changes.
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"alignn_layers": 3, "gcn_layers": 0}, {"alignn_layers": 0, "gcn_layers": 2}])
def test_reach_is_that_of_its_layers(options: dict) -> None:
    """Of a chain, an atom feels what is within layers times the cutoff, by one hop after another, and no more."""
    network = make_network(**(POTENTIAL | options))
    layers, spacing = network.num_layers, 3.0  # neighbours only: a second one is at 6 Å
    atoms = Atoms(["C", "Si"] * 4, [[spacing * i, 0.4 * (i % 2), 0] for i in range(8)])
    before = energies_of(network, atoms)[0]

    def change(index: int) -> float:
        moved = atoms.copy()
        moved.positions[index] += (0.0, 0.1, 0.2)
        return abs(float(energies_of(network, moved)[0] - before))

    assert change(layers) > 1e-9
    assert change(layers + 1) == 0.0


@pytest.mark.parametrize("options", KINDS)
def test_prefixes_and_pairs_give_what_the_whole_graph_gives(check_prefixes_and_pairs, options: dict) -> None:
    """A staged chain, each layer on a prefix, yields the contributing atom's energy of the whole, in pairs or not."""
    check_prefixes_and_pairs(make_network(**(POTENTIAL | options | {"alignn_layers": 1, "gcn_layers": 1})))


def test_few_bonds_straight_angles_and_atoms_at_one_place_have_finite_forces() -> None:
    """No bond, one bond, three atoms in a line, and two atoms that a simulation has brought to one place."""
    network = make_network(**POTENTIAL)
    lined_up = [[0, 0, 0], [2, 0, 0], [4, 0, 0]]
    for atoms in (Atoms("Si"), Atoms("SiC", [[0, 0, 0], [0, 0, 2]]), Atoms("SiCSi", lined_up)):
        assert forces_of(network, atoms)["forces"].isfinite().all()
    z, edges = torch.tensor([14, 14, 6]), torch.tensor([[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    to = torch.tensor([[0.0, 0, 0], [0, 0, 0], [2, 0, 0]], dtype=torch.float64)
    for gap in (0.0, 1e-9):
        to[1, 1] = gap
        vectors = (to[edges[1]] - to[edges[0]]).requires_grad_()
        energy = network(GraphInputs(z, edges, vectors, [3] * 3, [6] * 3))["energy"].sum()
        (gradient,) = torch.autograd.grad(energy, vectors)
        assert energy.isfinite()
        assert gradient.isfinite().all()


def test_batch_statistics_of_a_structure_without_bonds() -> None:
    """A training batch without a single bond goes through, as one with a structure that has none."""
    network = make_network(normalization="batch").train()
    potential = Potential(network).train()
    graph = LineGraph(4.0, None)
    with pytest.warns(UserWarning, match="no neighbour"):
        alone = graph(configuration_from_atoms(Atoms("Si", cell=[20, 20, 20], pbc=True)))
    assert potential(alone, forces=False, stress=False)["energy"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"normalization": "layer"}, "envelope"),
        ({"normalization": "batch", "cutoff_function": "cosine"}, "batch normalisation"),
        (POTENTIAL, ""),
    ],
)
def test_what_cannot_be_a_potential_says_why(options: dict, words: str) -> None:
    """An energy that jumps, or that depends on other structures, is told with what to take instead."""
    reason = make_network(**options).potential_refusal()
    assert words in reason
    assert bool(words) == bool(reason)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutoff": 0.0}, "cutoff"),
        ({"angle_cutoff": 4.1}, "angle_cutoff"),
        ({"alignn_layers": -1}, "alignn_layers"),
        ({"alignn_layers": 0, "gcn_layers": 0}, "at least one layer"),
        ({"hidden_channels": 0}, "hidden_channels"),
        ({"num_angle_gaussians": 1}, "num_angle_gaussians"),
        ({"element_features": "atoms.csv"}, "element_features"),
    ],
)
def test_options_out_of_range_are_named(options: dict, words: str) -> None:
    """An option out of range is an error that names it."""
    with pytest.raises(ValueError, match=words):
        make_network(**options)
