"""CGCNN against PyG's and the authors' convolution, its invariances, and as a potential."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import CGConv

from kimgnn.data.element_features import element_feature_table
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.build import build_network
from kimgnn.models.cgcnn import CGCNN, CGCNNOptions, GatedConvolution
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.layer_edges import LayerEdges
from kimgnn.physics.potential import Potential
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.graph import AtomGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS = {"cutoff": 5.0, "hidden_channels": 16, "num_convolutions": 3}
POTENTIAL = {"normalization": "none", "cutoff_function": "polynomial"}
KINDS = [
    {},
    {"convolution": "shared"},
    {"normalization": "layer", "cutoff_function": "cosine"},
    {"element_features": "onehot", "activation": "silu"},
    {"activate_output": True},
]


def make_network(precision: str = "double", **options: object) -> Network:
    """A network with an energy head and random weights."""
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    return build_network(NetworkSpec("cgcnn", OPTIONS | options, [head], ["C", "Si"], precision))


def rattled() -> Atoms:
    """Eight atoms of silicon and carbon, off their sites."""
    atoms = bulk("Si", cubic=True)
    atoms.symbols[[0, 3]] = "C"
    atoms.rattle(0.1, seed=3)
    return atoms


def energy_of(network: Network, atoms: Atoms) -> float:
    graph = PeriodicGraph(network.cutoff)(configuration_from_atoms(atoms))
    return float(Potential(network).eval()(graph, forces=False, stress=False)["energy"])


def inputs_of(graph: AtomGraph, layers: int) -> tuple[Tensor, Tensor, Tensor, list[int], list[int]]:
    """What a trunk is given."""
    sender, receiver = graph.edge_index0
    vectors = graph.coords[receiver] - graph.coords[sender] + graph.shifts
    return graph.z, graph.edge_index0, vectors, [len(graph.z)] * layers, [len(sender)] * layers


def concatenated(convolution: GatedConvolution) -> tuple[Tensor, Tensor]:
    """The one linear map of ``v_i ⊕ v_j ⊕ u_ij`` that ours is the sum of."""
    parts = (convolution.of_receiver, convolution.of_sender, convolution.of_distance)
    return torch.cat([part.weight for part in parts], dim=1).detach(), convolution.of_receiver.bias.detach()


@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1e-6), ("double", 1e-10)])
@pytest.mark.parametrize("neighbors", [12, None])
def test_same_outputs_as_pyg_with_its_weights(precision: str, tolerance: float, neighbors: int | None) -> None:
    """With the weights of PyG's CGConv copied in, every atom's features agree, layer by layer and after three.

    To rounding in float32; PyG's softplus is wrong by up to e^-20.
    """
    trunk = make_network(precision, normalization="none", hidden_channels=32).trunk
    dtype = trunk.elements.weight.dtype
    torch.manual_seed(1)
    references = [CGConv(32, trunk.basis.centres.numel()).to(dtype) for _ in trunk.convolutions]
    with torch.no_grad():
        for ours, theirs in zip(trunk.convolutions, references, strict=True):
            weight = torch.cat([theirs.lin_f.weight, theirs.lin_s.weight])
            parts = (ours.of_receiver, ours.of_sender, ours.of_distance)
            for part, columns in zip(parts, weight.split([32, 32, weight.shape[1] - 64], dim=1), strict=True):
                part.weight.copy_(columns)
            ours.of_receiver.bias.copy_(torch.cat([theirs.lin_f.bias, theirs.lin_s.bias]))
    graph = CrystalGraph(5.0, neighbors)(configuration_from_atoms(rattled()))
    inputs = inputs_of(graph, 3)
    sender, receiver = graph.edge_index0
    x = trunk.elements(graph.z)
    basis = trunk.basis(inputs[2].to(dtype).norm(dim=1))
    for ours, theirs in zip(trunk.convolutions, references, strict=True):
        found, x = ours(x, LayerEdges(sender, receiver, basis, None, 8, None)), theirs(x, graph.edge_index0, basis)
        # Features grow from layer to layer: the tolerance is of the largest.
        scale = float(x.detach().abs().max())
        torch.testing.assert_close(found / scale, x / scale, rtol=0, atol=tolerance)
    # In float32, seventy neighbours' rounding errors add up over three layers.
    torch.testing.assert_close(trunk(GraphInputs(*inputs)) / scale, x / scale, rtol=0, atol=10 * tolerance)


def test_same_outputs_as_the_authors_layer_in_training() -> None:
    """Batch normalisation before the gate and after the sum, softplus last: the authors' layer, written densely."""
    torch.manual_seed(2)
    convolution = GatedConvolution(CGCNNOptions(hidden_channels=16, activate_output=True)).double().train()
    weight, bias = concatenated(convolution)
    inside, after = nn.BatchNorm1d(32).double(), nn.BatchNorm1d(16).double()
    n, k = 10, 12
    x, bonds = torch.randn(n, 16).double(), torch.rand(n, k, 41).double()
    neighbors = torch.randint(n, (n, k))
    z = torch.cat([x.unsqueeze(1).expand(n, k, 16), x[neighbors], bonds], dim=2) @ weight.T + bias
    gate, core = inside(z.view(-1, 32)).view(n, k, 32).chunk(2, dim=2)
    summed = after((torch.sigmoid(gate) * nn.functional.softplus(core)).sum(dim=1))
    expected = nn.functional.softplus(x + summed)
    receiver = torch.arange(n).repeat_interleave(k)
    found = convolution(x, LayerEdges(neighbors.view(-1), receiver, bonds.view(-1, 41), None, n, None))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(convolution.normalize_sum.running_var, after.running_var)


def test_shared_convolution_is_equation_4() -> None:
    """One weight for ``v_j ⊕ u_ij`` of all neighbours, another for the atom itself, one bias."""
    trunk = make_network(convolution="shared", num_convolutions=1, normalization="none").trunk
    graph = CrystalGraph(5.0)(configuration_from_atoms(rattled()))
    inputs = inputs_of(graph, 1)
    (layer,) = trunk.convolutions
    x, basis = trunk.elements(graph.z), trunk.basis(inputs[2].norm(dim=1))
    sender, receiver = graph.edge_index0
    weight = torch.cat([layer.of_senders.weight, layer.of_distances.weight], dim=1)
    sums = torch.stack([torch.cat([x[sender], basis], 1)[receiver == i].sum(0) for i in range(8)])
    own = x @ layer.of_receiver.weight.T + layer.of_receiver.bias
    expected = nn.functional.softplus(sums @ weight.T + own)
    torch.testing.assert_close(trunk(GraphInputs(*inputs)), expected, rtol=0, atol=1e-13)


def test_gaussians_are_the_papers() -> None:
    """exp(-(d - μ)² / 0.2²) at 0, 0.2, ..., 8 Å: 41; up to 12 Å: 61."""
    basis = CGCNN(CGCNNOptions()).basis
    distances = torch.tensor([0.3, 2.82, 7.99], dtype=torch.float64)
    expected = np.exp(-((distances.numpy()[:, None] - np.arange(0, 8.1, 0.2)) ** 2) / 0.2**2)
    np.testing.assert_allclose(basis(distances), expected, atol=1e-12)
    assert CGCNNOptions(cutoff=12.0).gaussians == 61
    assert CGCNNOptions(cutoff=5.0, num_gaussians=7).gaussians == 7


def test_sodium_chloride_of_the_homework() -> None:
    """8 atoms, 12 neighbours each, features (8, 92) and (8, 12, 41)."""
    graph = CrystalGraph()(configuration_from_atoms(bulk("NaCl", "rocksalt", a=5.64, cubic=True)))
    _, _, vectors, _, _ = inputs_of(graph, 1)
    assert element_feature_table("properties")[graph.z].shape == (8, 92)
    trunk = CGCNN(CGCNNOptions())
    assert trunk.basis(vectors.norm(dim=1)).view(8, 12, -1).shape == (8, 12, 41)
    assert graph.edge_index0[1].tolist() == np.repeat(np.arange(8), 12).tolist()


@pytest.mark.parametrize("options", KINDS)
def test_energy_is_invariant(options: dict) -> None:
    """Rotation, translation, permutation and the choice of cell leave the energy per atom as it is, to rounding."""
    network = make_network(**(POTENTIAL | options))
    atoms = rattled()
    energy = energy_of(network, atoms)
    moved = atoms.copy()
    moved.rotate(37.0, (1, 2, 3), rotate_cell=True)
    moved.translate((0.3, -7.1, 2.2))
    assert energy_of(network, moved) == pytest.approx(energy, abs=1e-9)
    assert energy_of(network, atoms[np.random.default_rng(0).permutation(8)]) == pytest.approx(energy, abs=1e-9)
    assert energy_of(network, atoms.repeat((2, 1, 3))) == pytest.approx(6 * energy, abs=1e-8)


@pytest.mark.parametrize("options", KINDS)
def test_forces_and_stress_are_derivatives(options: dict) -> None:
    """Central differences of the energy by positions and strain, with forces and stress of the edge gradient."""
    network = make_network(**(POTENTIAL | options))
    atoms = rattled()
    result = Potential(network).eval()(PeriodicGraph(5.0)(configuration_from_atoms(atoms)))
    step = 1e-4  # the error is the third derivative times its square, near 1e-8
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(energy_of(network, moved))
        force = (energies[1] - energies[0]) / (2 * step)
        assert float(result["forces"][atom, axis]) == pytest.approx(force, abs=1e-5)
    for voigt, (i, j) in ((0, (0, 0)), (3, (1, 2))):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell @ strain, scale_atoms=True)
            energies.append(energy_of(network, strained))
        stress = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert float(result["stress"][0, voigt]) == pytest.approx(stress, abs=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_prefixes_and_pairs_give_what_the_whole_graph_gives(check_prefixes_and_pairs, options: dict) -> None:
    """A staged chain, each layer on a prefix, yields the contributing atom's energy of the whole, in pairs or not."""
    check_prefixes_and_pairs(make_network(**(POTENTIAL | options | {"num_convolutions": 2})).eval())


def test_an_atom_without_neighbours_and_a_batch_without_edges() -> None:
    """Batch normalisation has nothing to measure there, in training too; the features are numbers."""
    trunk = make_network().trunk.train()
    with pytest.warns(UserWarning, match="1 of 1 atoms have no neighbour"):
        graph = CrystalGraph(5.0)(configuration_from_atoms(Atoms("Si")))
    assert trunk(GraphInputs(*inputs_of(graph, 3))).isfinite().all()
    crystal = CrystalGraph(5.0)(configuration_from_atoms(rattled()))
    assert trunk(GraphInputs(*inputs_of(Batch.from_data_list([graph, crystal]), 3))).isfinite().all()


def test_without_convolution_structure_is_not_seen() -> None:
    """Atoms stay what their elements say, however they are arranged."""
    trunk = make_network(convolution="none").trunk
    graph = CrystalGraph(5.0)(configuration_from_atoms(rattled()))
    assert torch.equal(trunk(GraphInputs(*inputs_of(graph, trunk.num_layers))), trunk.elements(graph.z))


def test_dropout_samples_only_when_it_is_switched_on() -> None:
    """Evaluation is deterministic; with the dropout layer in training mode alone, predictions scatter."""
    network = make_network(dropout=0.3, **POTENTIAL).eval()
    atoms = rattled()
    assert energy_of(network, atoms) == energy_of(network, atoms)
    inputs = inputs_of(PeriodicGraph(5.0)(configuration_from_atoms(atoms)), 3)
    network.trunk.dropout.train()
    assert not torch.equal(network.trunk(GraphInputs(*inputs)), network.trunk(GraphInputs(*inputs)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"normalization": "none"}, "without an envelope"),
        ({"cutoff_function": "cosine"}, "other structures of the batch"),
        (POTENTIAL | {"convolution": "none"}, "does not depend on positions"),
        (POTENTIAL | {"activation": "relu"}, "forces jump"),
        (POTENTIAL, ""),
        (POTENTIAL | {"normalization": "layer"}, ""),
    ],
)
def test_what_cannot_be_a_potential_says_why(options: dict, words: str) -> None:
    """An energy that jumps, or that depends on other structures, is told with what to take instead."""
    reason = make_network(**options).potential_refusal()
    assert words in reason
    assert bool(words) == bool(reason)


def test_energy_ends_smoothly_at_the_cutoff() -> None:
    """Energy and force of a dimer are continuous where it breaks, and constant beyond."""
    network = make_network(**POTENTIAL)
    apart = [Atoms("SiC", [(0, 0, 0), (5.0 + d, 0, 0)]) for d in (-1e-4, 0.0, 1.0)]
    energies = [energy_of(network, atoms) for atoms in apart]
    assert energies[0] == pytest.approx(energies[2], abs=1e-10)
    assert energies[1] == energies[2]


@pytest.mark.parametrize("source", ["properties", "file"])
def test_a_table_of_elements_goes_into_the_checkpoint(source: str, tmp_path: Path) -> None:
    """The network is read again without the file; what it says of an element outside the table is no number."""
    if source == "file":
        path = tmp_path / "atom_init.json"
        path.write_text(json.dumps({"6": [1, 0, 0.5], "14": [0, 1, 0.25]}))
        source = str(path)
    network = make_network(element_features=source, **POTENTIAL)
    assert np.isnan(energy_of(network, rattled()))  # it has no table yet
    network.trunk.elements.set_table(torch.from_numpy(element_feature_table(source)))
    network.eval()
    energy = energy_of(network, rattled())
    assert np.isfinite(energy)
    save_checkpoint(tmp_path / "net.ckpt", Checkpoint(network, {}, {}))
    (tmp_path / "atom_init.json").unlink(missing_ok=True)
    again = load_checkpoint(tmp_path / "net.ckpt").network
    assert energy_of(again, rattled()) == energy
    if source != "properties":
        assert np.isnan(energy_of(again, bulk("Ge")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutoff": 0.0}, "cutoff"),
        ({"num_gaussians": 1}, "num_gaussians"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_convolutions": 0}, "num_convolutions"),
        ({"element_features": "atoms.csv"}, "element_features"),
    ],
)
def test_options_out_of_range_are_named(options: dict, words: str) -> None:
    """An option out of range is an error that names it."""
    with pytest.raises(ValueError, match=words):
        make_network(**options)
