"""Networks with tables: the same function to a small error, with forces that are its derivative."""

import pytest
import torch
from structures import CUTOFF, energies_and_gradient, forces_of, mixed_atoms, periodic_inputs, staged_graphs

from kimgnn.errors import ModelError
from kimgnn.export.contract import ExportedPotential
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.models.tabulation import default_intervals, in_double, tabulated, tabulation_refusal
from kimgnn.nn.tables import Table

OPTIONS = {
    "schnet": {"num_interactions": 2, "num_filters": 6},
    "schnet of one block": {"num_interactions": 2, "shared_interactions": True, "gaussian_width": 0.12},
    "cgcnn": {"num_convolutions": 2, "normalization": "layer"},
    "gat": {"num_convolutions": 2, "normalization": "none", "score_activation": "silu"},
}


def network_of(name: str, precision: str = "double", **changed: object) -> Network:
    """A small network of Si and C with random weights that can be a potential."""
    architecture = name.partition(" ")[0]
    options = {"cutoff": CUTOFF, "hidden_channels": 8, "cutoff_function": "polynomial", **OPTIONS[name], **changed}
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 1.0}
    return build_network(NetworkSpec(architecture, options, [head], ["Si", "C"], precision)).eval()


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_the_same_function(name: str) -> None:
    """Energies and forces to the error of eight intervals a Gaussian, on every kind of graph."""
    network = network_of(name)
    with_tables = tabulated(network, default_intervals(network))
    assert not any(isinstance(part, Table) for part in network.modules())
    assert {type(getattr(layer, layer.distance_map)) for layer in with_tables.trunk.layers()} == {Table}
    for kind, graph in staged_graphs(network).items():
        energies, gradient = energies_and_gradient(network, graph)
        found, found_gradient = energies_and_gradient(with_tables, graph)
        # A relative 1e-8 of filters near one, in sums of tens; their slopes over an interval of 0.01 Å less exactly.
        torch.testing.assert_close(found, energies, rtol=0, atol=1e-7, msg=kind)
        torch.testing.assert_close(
            forces_of(graph, found_gradient), forces_of(graph, gradient), rtol=0, atol=2e-6, msg=kind
        )


@pytest.mark.parametrize("name", OPTIONS)
def test_the_error_falls_as_the_sixth_power(name: str) -> None:
    """Twice the intervals: 64 times less, until rounding."""
    network = network_of(name)
    graph = periodic_inputs(network, mixed_atoms(["Si", "C"]))
    expected, _ = energies_and_gradient(network, graph)
    errors = []
    for intervals in (default_intervals(network) // 4, default_intervals(network) // 2):
        found, _ = energies_and_gradient(tabulated(network, intervals), graph)
        errors.append(float((found - expected).abs().max()))
    assert errors[0] / errors[1] > 20  # 64, less what the leading term leaves out of so few intervals


@pytest.mark.parametrize("name", OPTIONS)
def test_forces_are_the_derivative_of_the_energy(name: str) -> None:
    """Whatever the tables' error: of tables so coarse that it is large, too."""
    network = tabulated(network_of(name), 30)
    graph = periodic_inputs(network, mixed_atoms(["Si", "C"]))
    _, gradient = energies_and_gradient(network, graph)
    step = 1e-5
    for edge, axis in ((0, 0), (7, 1), (31, 2)):
        energies = []
        for sign in (1.0, -1.0):
            moved = graph.edge_vectors.clone()
            moved[edge, axis] += sign * step
            energies.append(energies_and_gradient(network, graph._replace(edge_vectors=moved))[0].sum())
        # The fourth derivative over the step squared, and rounding of a few eV over the step.
        torch.testing.assert_close((energies[0] - energies[1]) / (2 * step), gradient[edge, axis], rtol=1e-6, atol=1e-8)


def test_pairs_change_nothing() -> None:
    """Sums of messages with no array of edges are those with: SchNet's, values and gradient."""
    network = tabulated(network_of("schnet"), 100)
    for kind, graph in staged_graphs(network).items():
        expected, expected_gradient = energies_and_gradient(network, graph)
        vectors = graph.edge_vectors.clone().requires_grad_()
        found = ExportedPotential(network)(*graph._replace(edge_vectors=vectors))
        (gradient,) = torch.autograd.grad(found.sum(), vectors, allow_unused=True)
        torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-13, msg=kind)
        forces = forces_of(graph, torch.zeros_like(vectors) if gradient is None else gradient)
        torch.testing.assert_close(forces, forces_of(graph, expected_gradient), rtol=0, atol=1e-12, msg=kind)


def test_second_derivatives_are_continuous() -> None:
    """The force's slope on both sides of the end of an interval is the same."""
    network = tabulated(network_of("schnet"), 40)
    end = 20 * CUTOFF / 40
    graph = next(graph for kind, graph in staged_graphs(network).items() if kind == "dimer")

    def slope(length: float) -> float:
        gradients = []
        for shifted in (length - 1e-4, length + 1e-4):
            vectors = graph.edge_vectors / graph.edge_vectors.norm(dim=1, keepdim=True) * shifted
            gradients.append(energies_and_gradient(network, graph._replace(edge_vectors=vectors))[1][0, 0])
        return float(gradients[1] - gradients[0]) / 2e-4

    # 4e-4 Å apart: a jump of the second derivative would not depend on that; the third derivative times that does.
    assert slope(end + 2e-4) == pytest.approx(slope(end - 2e-4), abs=0.05 * abs(slope(end)))


def test_single_precision() -> None:
    """Coefficients are computed in double precision: the error is that of rounding."""
    network = network_of("schnet", "single")
    with_tables = tabulated(network, default_intervals(network))
    assert with_tables.trunk.interactions[0].filter.coefficients.dtype == torch.float32
    graph = periodic_inputs(network, mixed_atoms(["Si", "C"]))
    expected, _ = energies_and_gradient(in_double(network), graph)
    found, _ = energies_and_gradient(with_tables, graph)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_cannot_be_tabulated_is_told() -> None:
    """A convolution that sums before it maps, a network of angles, no intervals."""
    shared = network_of("cgcnn", convolution="shared")
    assert "convolution: gated" in tabulation_refusal(shared)
    with pytest.raises(ModelError, match=r"export\.tabulate: the model cannot be tabulated: .*each distance alone"):
        tabulated(shared, 100)
    head = {"type": "energy", "reference_energies": {"Si": -5.4}, "scale": 1.0}
    angles = build_network(NetworkSpec("alignn", {"cutoff": CUTOFF, "hidden_channels": 8}, [head], ["Si"]))
    assert tabulation_refusal(angles)
    with pytest.raises(ModelError, match="intervals"):
        tabulated(network_of("schnet"), 0)
