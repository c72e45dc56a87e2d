"""MEGNet against the paper's equations written atom by atom and edge by edge, its invariances, and its state inputs."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.predict import give_states, predict
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.megnet import MEGNet, MEGNetOptions
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.states import StateInput
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS: dict[str, Any] = {
    "cutoff": 4.0, "num_blocks": 3, "hidden_channels": 12, "block_channels": 7, "embedding_channels": 5,
    "num_gaussians": 20, "set2set_channels": 4, "set2set_steps": 2,
}  # fmt: skip
STATES = [{"name": "temperature", "mean": 300.0, "spread": 50.0}, {"name": "method", "classes": ["PBE", "HSE"]}]
HEADS = [
    {"type": "property", "target": "gap", "mean": [1.0], "spread": [2.0]},
    {"type": "property", "target": "peak", "mean": [0.0], "spread": [1.0], "readout": "max"},
    {"type": "property", "target": "total", "extensive": True, "reference": "none", "mean": [0.0], "spread": [1.0]},
]


def make_network(precision: str = "double", **options: Any) -> Network:
    torch.manual_seed(0)
    return build_network(NetworkSpec("megnet", OPTIONS | options, HEADS, ["C", "Si"], precision)).eval()


def rattled(seed: int = 3, amplitude: float = 0.1) -> Atoms:
    """Eight atoms of silicon and carbon, off their sites."""
    atoms = bulk("Si", cubic=True)
    atoms.symbols[[0, 3]] = "C"
    atoms.rattle(amplitude, seed=seed)
    return atoms


def says(network: Network, structures: list[Atoms], batch_size: int = 8) -> list[dict[str, float]]:
    """What the heads say of structures."""
    configurations = [configuration_from_atoms(atoms) for atoms in structures]
    for configuration, atoms in zip(configurations, structures, strict=True):
        give_states(configuration, [StateInput(**state) for state in network.spec.options.get("state_inputs", [])],
                    atoms.info)  # fmt: skip
    found = predict(Potential(network), configurations, PeriodicGraph(network.cutoff), batch_size)
    return [{name: value.item() for name, value in prediction.properties.items()} for prediction in found]


def zeta(x: Tensor) -> Tensor:
    """ζ(x) = ln(e^x / 2 + 1/2)."""
    return torch.log(0.5 * torch.exp(x) + 0.5)


def dense(x: Tensor, weights: dict[str, Tensor], name: str, layers: int, last: bool) -> Tensor:
    """Dense layers one after the other, ζ after each, after the last of them only if asked."""
    for layer in range(layers):
        x = weights[f"{name}.{2 * layer}.weight"] @ x + weights[f"{name}.{2 * layer}.bias"]
        x = zeta(x) if last or layer < layers - 1 else x
    return x


def read_set(members: list[Tensor], weights: dict[str, Tensor], name: str, steps: int) -> Tensor:
    """Set2set, an LSTM written out (Vinyals et al. 2016)."""
    w_read, w_query, bias = (
        weights[f"{name}.{part}"] for part in ("of_read.weight", "of_query.weight", "of_read.bias")
    )
    n = w_query.shape[1]
    query, memory, total = torch.zeros(n).double(), torch.zeros(n).double(), torch.zeros(n).double()
    for _ in range(steps):
        gates = w_read @ torch.cat([query, total]) + bias + w_query @ query
        keep_in, forget, new, out = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(keep_in) * torch.tanh(new)
        query = torch.sigmoid(out) * torch.tanh(memory)
        scores = [float((member * query).sum()) for member in members]
        norm = sum(math.exp(score) for score in scores)
        total = torch.zeros(n).double()
        for member, score in zip(members, scores, strict=True):
            total = total + math.exp(score) / norm * member
    return torch.cat([query, total])


def reference(trunk: MEGNet, atoms: Atoms, state: Tensor) -> Tensor:
    """The paper, for one structure: no batch, no index arithmetic, neighbours found by trying all images."""
    options, weights = MEGNetOptions(**OPTIONS), trunk.state_dict()
    edges = []
    for s in range(len(atoms)):
        for r in range(len(atoms)):
            for image in np.ndindex(3, 3, 3):
                vector = atoms.positions[r] + (np.array(image) - 1) @ atoms.cell.array - atoms.positions[s]
                if 0 < (length := float(np.linalg.norm(vector))) < options.cutoff:
                    edges.append((s, r, length))
    centres = np.linspace(0.0, options.cutoff + 1.0, options.num_gaussians)
    v = [dense(weights["elements.weight"][z], weights, "dense_nodes", 2, True) for z in atoms.numbers]
    e = [
        dense(torch.tensor(np.exp(-((length - centres) ** 2) / 0.5**2)), weights, "dense_edges", 2, True)
        for *_, length in edges
    ]
    u = dense(state, weights, "dense_state", 2, True)
    for block in range(options.num_blocks):
        name = f"blocks.{block}"
        v_in, e_in, u_in = v, e, u
        if block:
            v = [dense(x, weights, f"{name}.dense_nodes", 2, True) for x in v]
            e = [dense(x, weights, f"{name}.dense_edges", 2, True) for x in e]
            u = dense(u, weights, f"{name}.dense_state", 2, True)
        e = [
            dense(torch.cat([v[s], v[r], x, u]), weights, f"{name}.update_edges", 3, False)
            for x, (s, r, _) in zip(e, edges, strict=True)
        ]
        heard = [torch.stack([x for x, (_, r, _) in zip(e, edges, strict=True) if r == i]).mean(0)
                 for i in range(len(atoms))]  # fmt: skip
        v = [dense(torch.cat([heard[i], v[i], u]), weights, f"{name}.update_nodes", 3, False)
             for i in range(len(atoms))]  # fmt: skip
        means = torch.cat([torch.stack(e).mean(0), torch.stack(v).mean(0), u])
        u = dense(means, weights, f"{name}.update_state", 3, False) + u_in
        v = [new + old for new, old in zip(v, v_in, strict=True)]
        e = [new + old for new, old in zip(e, e_in, strict=True)]
    nodes = [dense(x, {k.replace("of_nodes.", "of_nodes.0."): w for k, w in weights.items()}, "of_nodes", 1, False)
             for x in v]  # fmt: skip
    bonds = [dense(x, {k.replace("of_edges.", "of_edges.0."): w for k, w in weights.items()}, "of_edges", 1, False)
             for x in e]  # fmt: skip
    steps = options.set2set_steps
    return torch.cat([read_set(nodes, weights, "read_nodes", steps), read_set(bonds, weights, "read_edges", steps), u])


def features(trunk: MEGNet, atoms: Atoms, states: Tensor | None = None) -> Tensor:
    graph = PeriodicGraph(trunk.cutoff)(configuration_from_atoms(atoms))
    sender, receiver = graph.edge_index0
    vectors = graph.coords[receiver] - graph.coords[sender] + graph.shifts
    nodes, edges = [len(atoms)] * trunk.num_layers, [len(sender)] * trunk.num_layers
    return trunk(GraphInputs(graph.z, graph.edge_index0, vectors, nodes, edges, states=states)).detach()


@pytest.mark.parametrize("with_states", [False, True])
def test_it_is_the_papers_equations(with_states: bool) -> None:
    """Three blocks with their skip connections, means, and both readouts, to rounding; each atom has the same row."""
    trunk = make_network(state_inputs=STATES).trunk if with_states else make_network().trunk
    states = torch.tensor([[250.0, 1.0]], dtype=torch.float64) if with_states else None
    seen = torch.tensor([-1.0, 0.0, 1.0] if with_states else [0.0, 0.0], dtype=torch.float64)
    found = features(trunk, rattled(), states)
    assert found.shape == (8, trunk.out_channels)
    expected = reference(trunk, rattled(), seen)
    torch.testing.assert_close(found, expected.expand(8, -1), rtol=0, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.tuples(*[st.integers(1, 2)] * 3), st.tuples(*[st.floats(-5, 5)] * 3), st.floats(0, 360)
)
def test_what_a_crystal_is_does_not_depend_on_how_it_is_written(
    seed: int, repeats: tuple[int, int, int], shift: tuple[float, float, float], angle: float
) -> None:
    """Supercell, order of atoms, translation and rotation: intensive outputs the same, an extensive one a multiple."""
    network, atoms = make_network(), rattled(seed % 97, 0.15)
    (right,) = says(network, [atoms])
    moved = atoms.repeat(repeats)
    moved = moved[np.random.default_rng(seed).permutation(len(moved))]
    moved.translate(shift)
    moved.rotate(angle, (1, 2, 3), rotate_cell=True)
    (found,) = says(network, [moved])
    assert found["gap"] == pytest.approx(right["gap"], abs=1e-10)
    assert found["peak"] == pytest.approx(right["peak"], abs=1e-10)
    assert found["total"] == pytest.approx(right["total"] * np.prod(repeats), rel=1e-10)


def test_a_batch_says_what_each_structure_says_alone() -> None:
    """Crystals of several sizes, a molecule, an atom without any bond: none sees the others."""
    network = make_network()
    structures = [rattled(), rattled(5).repeat((2, 1, 1)), Atoms("SiC", [[0, 0, 0], [1.9, 0, 0]]), Atoms("Si")]
    together = says(network, structures)
    for found, right in zip(together, [says(network, [atoms])[0] for atoms in structures], strict=True):
        assert found == pytest.approx(right, abs=1e-12)
    assert all(math.isfinite(value) for item in together for value in item.values())


def test_states_are_told_apart_and_none_is_guessed() -> None:
    """Temperature and method change the answer, in a batch each its own; without one, an error tells the structure."""
    network, atoms = make_network(state_inputs=STATES), rattled()
    states = [{"temperature": t, "method": m} for t in (250.0, 350.0) for m in ("PBE", "HSE")]
    structures = []
    for state in states:
        structures.append(atoms.copy())
        structures[-1].info |= state
    gaps = [found["gap"] for found in says(network, structures)]
    assert len({round(gap, 6) for gap in gaps}) == 4
    assert [says(network, [item])[0]["gap"] for item in structures] == pytest.approx(gaps, abs=1e-12)
    with pytest.raises(DataError, match="temperature.*no such value"):
        says(network, [atoms])
    with pytest.raises(DataError, match="temperature: the structures have no such value"):
        predict(Potential(network), [configuration_from_atoms(atoms)], PeriodicGraph(4.0))


def test_the_checkpoint_keeps_the_scale_of_the_states(tmp_path: Any) -> None:
    """What is read again says the same."""
    network, atoms = make_network(state_inputs=STATES), rattled()
    atoms.info |= {"temperature": 280.0, "method": "HSE"}
    save_checkpoint(tmp_path / "net.ckpt", Checkpoint(network, {}, {}))
    assert says(load_checkpoint(tmp_path / "net.ckpt").network, [atoms]) == says(network, [atoms])


def test_it_is_no_potential_though_it_has_forces() -> None:
    """The reason, and what to take; forces are the energy's derivative and, for training, have one themselves."""
    energy = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    torch.manual_seed(0)
    network = build_network(NetworkSpec("megnet", OPTIONS, [energy], ["C", "Si"]))
    potential, transform, atoms, step = Potential(network), PeriodicGraph(4.0), rattled(), 1e-4
    forces = potential(transform(configuration_from_atoms(atoms)))["forces"]
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[5, 2] += sign * step
        energies.append(potential(transform(configuration_from_atoms(moved)), forces=False)["energy"].item())
    # The paper's graph has no envelope: no neighbour passes the cutoff here.
    assert forces[5, 2].item() == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-6)
    forces.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.trunk.read_nodes.parameters())
    assert "however far apart" in network.potential_refusal()
    assert "take schnet" in network.potential_refusal()


def test_a_property_of_each_atom_is_refused() -> None:
    """All atoms of a structure have the same features."""
    head = {"type": "property", "target": "charge", "per_atom": True, "mean": [0.0], "spread": [1.0]}
    with pytest.raises(ModelError, match=r"heads.0.per_atom.*whole structure"):
        build_network(NetworkSpec("megnet", OPTIONS, [head], ["Si"]))


@pytest.mark.parametrize(
    "options",
    [
        {"cutoff": 0.0}, {"gaussian_width": -1.0}, {"num_blocks": 0}, {"num_gaussians": 1}, {"set2set_steps": 0},
        {"dropout": 1.0}, {"element_features": "atoms.csv"}, {"state_inputs": [{"name": "x"}, {"name": "x"}]},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    """An option out of range is an error that names it."""
    with pytest.raises(ValueError, match=next(iter(options))):
        MEGNetOptions(**options)
