"""The attention network against PyG's GATv2, a plain reference, its invariances, and as a potential."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GATv2Conv

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.build import build_network
from kimgnn.models.gat import AttentionConvolution, GATOptions
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.layer_edges import LayerEdges
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS: dict[str, Any] = {"cutoff": 5.0, "hidden_channels": 12, "num_convolutions": 2, "num_heads": 3}
POTENTIAL: dict[str, Any] = {
    "normalization": "none", "cutoff_function": "polynomial", "score_activation": "silu"
}  # fmt: skip
KINDS = [{}, {"normalization": "layer"}, {"cutoff_function": "cosine", "num_heads": 1, "activation": "silu"}]


def make_network(precision: str = "double", **options: Any) -> Network:
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    return build_network(NetworkSpec("gat", OPTIONS | options, [head], ["C", "Si"], precision)).eval()


def rattled(seed: int = 3, species: str = "SiC") -> Atoms:
    atoms = bulk("Si", cubic=True)
    if species == "SiC":
        atoms.symbols[[0, 3]] = "C"
    atoms.rattle(0.1, seed=seed)
    return atoms


def energy_of(network: Network, atoms: Atoms) -> float:
    graph = PeriodicGraph(network.cutoff)(configuration_from_atoms(atoms))
    return float(Potential(network).eval()(graph, forces=False, stress=False)["energy"])


def convolution(**options: Any) -> AttentionConvolution:
    torch.manual_seed(1)
    return AttentionConvolution(GATOptions(**OPTIONS | {"normalization": "none", "num_gaussians": 6} | options))


def edges_of(n_atoms: int, n_edges: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sender, receiver and features; the last atom receives none."""
    return torch.randint(n_atoms, (n_edges,)), torch.randint(n_atoms - 1, (n_edges,)), torch.rand(n_edges, 6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("heads", [1, 3])
def test_same_as_pygs_gatv2_with_its_weights(dtype: torch.dtype, tolerance: float, heads: int) -> None:
    """Where messages have no features of edges, which is what PyG does; loops without features are the atom itself."""
    ours = convolution(num_heads=heads).to(dtype)
    theirs = GATv2Conv(12, 12 // heads, heads, edge_dim=6, add_self_loops=False).to(dtype)
    torch.nn.init.normal_(theirs.bias)
    with torch.no_grad():
        ours.of_receiver.weight.copy_(theirs.lin_r.weight)
        ours.of_sender.weight.copy_(theirs.lin_l.weight)
        # Its two biases in the score are one; that of the message is added whatever the weights, which sum to one.
        ours.of_receiver.bias.copy_(theirs.lin_r.bias + theirs.lin_l.bias)
        ours.bias.copy_(theirs.bias + theirs.lin_l.bias)
        ours.of_distance.weight.copy_(torch.cat([theirs.lin_edge.weight, torch.zeros(12, 6)]))
        ours.attention.copy_(theirs.att[0])
    x, (sender, receiver, basis) = torch.randn(7, 12, dtype=dtype), edges_of(7, 30)
    basis, loops = basis.to(dtype), torch.arange(7)
    ends = torch.stack([torch.cat([sender, loops]), torch.cat([receiver, loops])])
    attended = theirs(x, ends, torch.cat([basis, torch.zeros(7, 6, dtype=dtype)]))
    expected = x + torch.nn.functional.softplus(attended, threshold=40.0)
    found = ours(x, LayerEdges(sender, receiver, basis, None, 7, None))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_it_is_its_equation() -> None:
    """Atom by atom, head by head: messages with distances, an envelope, and the atom itself."""
    layer = convolution(score_activation="silu").double()
    x, (sender, receiver, basis) = torch.randn(5, 12).double(), edges_of(5, 14)
    basis, envelope = basis.double(), torch.rand(14).double()
    in_score, in_message = layer.of_distance.weight.split(12)
    expected = []
    for i in range(5):
        row = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            terms = [(1.0, torch.zeros(6).double(), i)]
            terms += [(float(envelope[k]), basis[k], int(sender[k])) for k in range(14) if receiver[k] == i]
            top, total = torch.zeros(4).double(), 0.0
            for factor, u, j in terms:
                said = layer.of_sender.weight @ x[j]
                z = layer.of_receiver(x[i]) + said + in_score @ u
                weight = factor * torch.exp((layer.attention[head] * torch.nn.functional.silu(z)[part]).sum())
                top, total = top + weight * (said + in_message @ u)[part], total + weight
            row.append(top / total)
        expected.append(x[i] + torch.nn.functional.softplus(torch.cat(row) + layer.bias))
    found = layer(x, LayerEdges(sender, receiver, basis, envelope, 5, None))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-13)


def test_scores_of_hundreds_in_single_precision() -> None:
    """The softmax neither overflows nor vanishes where one neighbour outweighs another by e^500, or all outweigh it."""
    layer = convolution()
    with torch.no_grad():
        layer.attention.mul_(300.0)
    double = convolution().double()
    double.load_state_dict(layer.state_dict())
    x, (sender, receiver, basis) = 3.0 * torch.randn(9, 12), edges_of(9, 60)
    found = layer(x, LayerEdges(sender, receiver, basis, None, 9, None))
    expected = double(x.double(), LayerEdges(sender, receiver, basis.double(), None, 9, None))
    # Scores of hundreds are rounded to 1e-5 or so.
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


def test_an_element_alone_is_seen_at_any_density() -> None:
    """Weights that add up to one say nothing of equal messages: the distances in the messages do."""
    network = make_network(**POTENTIAL)
    energies = [energy_of(network, bulk("Si", a=a)) / 2 for a in (5.2, 5.43, 5.6)]
    assert min(abs(np.diff(energies))) > 1e-4


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.floats(-5, 5)] * 3),
)
def test_energy_is_invariant(
    options: dict[str, Any], seed: int, repeats: tuple[int, int, int], shift: tuple[float, float, float]
) -> None:
    """Supercell, order of atoms, translation and rotation leave the energy of an atom what it is, to rounding."""
    network, atoms = make_network(**POTENTIAL | options), rattled(seed % 89)
    moved = atoms.repeat(repeats)
    moved = moved[np.random.default_rng(seed).permutation(len(moved))]
    moved.translate(shift)
    moved.rotate(seed % 360, (1, 2, 3), rotate_cell=True)
    assert energy_of(network, moved) == pytest.approx(energy_of(network, atoms) * np.prod(repeats), rel=1e-10)


@pytest.mark.parametrize("options", KINDS)
def test_forces_are_derivatives(options: dict[str, Any]) -> None:
    """Central differences of the energy, for an element alone too."""
    network, step = make_network(**POTENTIAL | options), 1e-4
    for atoms in (rattled(), rattled(species="Si")):
        forces = Potential(network).eval()(PeriodicGraph(5.0)(configuration_from_atoms(atoms)))["forces"]
        assert float(forces.abs().max()) > 1e-3
        for atom, axis in ((0, 0), (5, 2)):
            moved = [atoms.copy(), atoms.copy()]
            moved[0].positions[atom, axis] += step
            moved[1].positions[atom, axis] -= step
            slope = (energy_of(network, moved[1]) - energy_of(network, moved[0])) / (2 * step)
            # The error is the third derivative times the square of the step.
            assert float(forces[atom, axis]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_prefixes_and_pairs_give_what_the_whole_graph_gives(check_prefixes_and_pairs, options: dict[str, Any]) -> None:
    """A staged chain, each layer on a prefix, yields the contributing atom's energy of the whole, in pairs or not."""
    check_prefixes_and_pairs(make_network(**POTENTIAL | options))


@pytest.mark.parametrize("options", KINDS)
def test_energy_and_force_end_smoothly_at_the_cutoff(options: dict[str, Any]) -> None:
    """A dimer breaks without a step in energy or force, and so does one bond of three; beyond, an atom is alone."""
    network = make_network(**POTENTIAL | options)
    alone = energy_of(network, Atoms("Si")) + energy_of(network, Atoms("C"))
    assert energy_of(network, Atoms("SiC", [(0, 0, 0), (6, 0, 0)])) == pytest.approx(alone, abs=1e-12)
    for others in ([], [(0, 1.9, 0), (0, 0, 2.4)]):
        found = []
        for distance in (5.0 - 1e-5, 5.0 + 1e-5):
            atoms = Atoms("SiC" + "Si" * len(others), [(0, 0, 0), (distance, 0, 0), *others])
            result = Potential(network).eval()(PeriodicGraph(5.0)(configuration_from_atoms(atoms)))
            found.append(torch.cat([result["energy"].view(1), result["forces"][1]]))
        # The cosine's second derivative jumps: its slope at 1e-5 Å is that times 1e-5.
        torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (POTENTIAL | {"score_activation": "leaky_relu"}, "score_activation: silu"),
        (POTENTIAL | {"cutoff_function": "none"}, "without an envelope"),
        (POTENTIAL | {"normalization": "batch"}, "other structures of the batch"),
        (POTENTIAL | {"activation": "relu"}, "forces jump"),
        (POTENTIAL, ""),
        (POTENTIAL | {"normalization": "layer"}, ""),
    ],
)
def test_what_cannot_be_a_potential_says_why(options: dict[str, Any], words: str) -> None:
    """Told with what to take instead."""
    reason = make_network(**options).potential_refusal()
    assert words in reason
    assert bool(words) == bool(reason)


def test_heads_must_divide_the_features() -> None:
    """Told, with both numbers."""
    with pytest.raises(ValueError, match=r"num_heads must divide hidden_channels, 12.*got 5"):
        make_network(num_heads=5)
