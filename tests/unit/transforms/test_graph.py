"""attach_labels: labels and weights of a configuration in its graph, on our graphs and on KLIFF's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kliff.dataset import Configuration
from kliff.dataset.weight import MagnitudeInverseWeight, Weight
from kliff.transforms.configuration_transforms.graphs import RadialGraph
from torch_geometric.data import Batch

from kimgnn.errors import DataError
from kimgnn.transforms.graph import AtomGraph, attach_labels
from kimgnn.transforms.radial_graph import radial_graph


def dimer(**labels: object) -> Configuration:
    coords = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    return Configuration(np.eye(3) * 20, ["Si", "Si"], coords, [True] * 3, **labels)


def test_labels_keep_double_precision() -> None:
    """An energy of a thousand eV keeps its ninth decimal; KLIFF's graph rounds it to float32."""
    energy = -1234.123456789
    source = dimer(energy=energy, forces=np.zeros((2, 3)))
    assert attach_labels(AtomGraph(), source).energy.item() == energy
    assert RadialGraph(["Si"], 3.0, 1)(source).energy.item() != energy
    assert radial_graph(source, RadialGraph(["Si"], 3.0, 1)).energy.item() == energy


def test_missing_labels_are_nan() -> None:
    """A bare configuration gives NaN of the right shapes, for our graph and for KLIFF's."""
    for graph in (attach_labels(AtomGraph(), dimer()), radial_graph(dimer(), RadialGraph(["Si"], 3.0, 2))):
        assert graph.energy.shape == ()
        assert graph.energy.isnan()
        assert graph.forces.shape == (2, 3)
        assert graph.forces.isnan().all()
        assert graph.stress.shape == (1, 6)
        assert graph.stress.isnan().all()


def test_radial_graph_leaves_the_configuration_alone() -> None:
    """The zeros that KLIFF is given in place of missing labels reach neither the configuration nor the graph."""
    source = dimer(energy=1.0)
    transform = RadialGraph(["Si"], 3.0, 2, copy_to_config=True)
    graph = radial_graph(source, transform)
    assert source._forces is None
    assert graph.energy == 1.0
    assert source.fingerprint is graph
    batch = Batch.from_data_list([graph, radial_graph(dimer(), transform)])
    assert batch.energy.isnan().tolist() == [False, True]
    assert batch.stress.shape == (2, 6)


def test_radial_graph_refuses_an_unknown_element() -> None:
    """KLIFF's C++ table has no answer for it."""
    source = Configuration(np.eye(3) * 20, ["Xx"], np.zeros((1, 3)), [True] * 3)
    with pytest.raises(DataError, match="not a chemical element"):
        radial_graph(source, RadialGraph(["Si"], 3.0, 1))


def test_weights() -> None:
    """A label weight of None is 'not used', 0; a configuration weight of None is 1; others are taken as they are."""
    graph = attach_labels(AtomGraph(), dimer(weight=Weight(None, 2.0, None, 0.5)))
    assert [graph.config_weight, graph.energy_weight, graph.stress_weight] == [1.0, 2.0, 0.5]
    assert graph.forces_weight.tolist() == [[0.0], [0.0]]
    assert {graph[f"{name}_weight"].dtype for name in ("config", "energy", "forces", "stress")} == {torch.float64}


def test_force_weights_atom_by_atom() -> None:
    """KLIFF's column of per-atom force weights stays one."""
    graph = attach_labels(AtomGraph(), dimer(weight=Weight(forces_weight=np.array([[1.0], [3.0]]))))
    assert graph.forces_weight.tolist() == [[1.0], [3.0]]


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"forces": np.zeros((3, 3))}, "forces"),
        ({"stress": np.zeros(9)}, "stress"),
        ({"weight": Weight(forces_weight=np.ones(3))}, "forces_weight"),
        ({"weight": Weight(config_weight=np.ones(2))}, "config_weight"),
        ({"forces": np.ones((2, 3)), "weight": MagnitudeInverseWeight()}, "forces_weight"),
    ],
)
def test_wrong_shapes(labels: dict[str, object], name: str) -> None:
    """A label or weight of the wrong size is refused by name, not broadcast."""
    with pytest.raises(DataError, match=f"here: {name} has the wrong shape"):
        attach_labels(AtomGraph(), dimer(identifier="here", **labels))
