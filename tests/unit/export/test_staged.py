"""Staging a graph with ghosts loses nothing that the contributing atoms depend on."""

import pytest
import torch
from kliff.transforms.configuration_transforms.graphs import RadialGraph
from structures import CUTOFF, mixed_configuration, small_network

from kimgnn.export.staged import stage_by_hop
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_staged_equals_periodic(n_layers: int) -> None:
    """Energies of the atoms are the same on KLIFF's ghost-extended graph, staged, as on the periodic one."""
    configuration, net = mixed_configuration(["C", "Si"]), small_network(["C", "Si"], n_layers)
    expected = Potential(net).eval()(PeriodicGraph(CUTOFF, n_layers=n_layers)(configuration))

    graph = RadialGraph(["C", "Si"], CUTOFF, n_layers)(configuration)
    contributing = graph.contributions == 0
    every_edge = graph[f"edge_index{n_layers - 1}"]
    nodes, edges, staged, node_counts, edge_counts = stage_by_hop(every_edge, contributing, n_layers)
    positions = graph.coords[nodes]
    vectors = positions[staged[1]] - positions[staged[0]]
    atomic = net(GraphInputs(graph.z[nodes], staged, vectors, node_counts, edge_counts))["energy"]

    assert torch.equal(nodes[: node_counts[-1]], torch.nonzero(contributing).view(-1))
    assert torch.equal(nodes[staged], every_edge[:, edges])
    torch.testing.assert_close(atomic.detach(), expected["atomic_energies"], rtol=0, atol=1e-12)


def test_last_list_holds_every_edge() -> None:
    """KLIFF's last edge list contains those of all other layers, so that one list is enough to stage from."""
    graph = RadialGraph(["C", "Si"], CUTOFF, 3)(mixed_configuration(["C", "Si"]))
    lists = [set(map(tuple, graph[f"edge_index{k}"].T.tolist())) for k in range(3)]
    assert lists[0] < lists[1] < lists[2]


def test_counts_of_a_chain() -> None:
    """Along a chain of one atom and its ghosts, each layer reaches one neighbour further."""
    edge_index = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    contributing = torch.tensor([False, False, False, True])
    nodes, _, staged, node_counts, edge_counts = stage_by_hop(edge_index, contributing, 2)
    assert nodes.tolist() == [3, 2, 1]
    assert (node_counts, edge_counts) == ([2, 1], [3, 1])
    assert staged[1].tolist() == [0, 1, 1]


@pytest.mark.parametrize("n_ghosts", [0, 2])
def test_no_edges(n_ghosts: int) -> None:
    """An atom without neighbours is staged alone; so is nothing at all."""
    contributing = torch.tensor([True] + [False] * n_ghosts)
    nodes, edges, staged, node_counts, edge_counts = stage_by_hop(torch.zeros(2, 0, dtype=torch.int64), contributing, 2)
    assert nodes.tolist() == [0]
    assert staged.shape == (2, 0)
    assert len(edges) == 0
    assert (node_counts, edge_counts) == ([1, 1], [0, 0])


def test_scripts() -> None:
    """TorchScript compiles it, and gives the same answer."""
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    contributing = torch.tensor([True, False, False])
    eager = stage_by_hop(edge_index, contributing, 2)
    scripted = torch.jit.script(stage_by_hop)(edge_index, contributing, 2)
    for one, other in zip(eager, scripted, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
