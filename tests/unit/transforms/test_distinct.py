"""distinct_edges: edges of one sender, receiver and length are one; what networks say of them."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from kimgnn import fields
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.transforms.collate import collate
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.distinct import edges_by_length
from kimgnn.transforms.graph import AtomGraph
from kimgnn.transforms.line_graph import LineGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph


def graph_of(atoms: Atoms, **options: Any) -> AtomGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few neighbours
        return CrystalGraph(**({"cutoff": 6.0} | options))(configuration_from_atoms(atoms))


def lengths_of(graph: AtomGraph) -> torch.Tensor:
    sender, receiver = graph.edge_index0
    return (graph.coords[receiver] - graph.coords[sender] + graph.shifts).norm(dim=1)


CRYSTALS = [
    bulk("Cu"),  # one atom, twelve neighbours at one distance
    bulk("NaCl", "rocksalt", 5.64),
    bulk("Ti", "hcp", 2.95, 4.68),
    Atoms("BaTiO3", np.array([[0, 0, 0], [2, 2, 2], [2, 2, 0], [2, 0, 2], [0, 2, 2]]), cell=[4, 4, 4.2], pbc=True),
    Atoms("He", cell=[30] * 3, pbc=True),  # no neighbour
]


def test_a_cubic_crystal_has_one() -> None:
    """In copper's primitive cell all twelve neighbours are images of the atom at one distance."""
    graph = graph_of(bulk("Cu"))
    assert graph.distinct_edges.tolist() == [0]
    assert graph.distinct_copies.tolist() == [12]
    assert graph.distinct_of_length.tolist() == graph.length_of_distinct.tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CRYSTALS), st.sampled_from([0.0, 0.1]), st.integers(1, 2))
def test_every_edge_is_one_of_the_distinct(seed: int, crystal: Atoms, shaken: float, copies: int) -> None:
    """Each edge has exactly one of them with its sender, receiver and length, and no two of them are alike."""
    rng = np.random.default_rng(seed)
    atoms = crystal.repeat((copies, 1, 1))
    atoms.positions += rng.normal(scale=shaken, size=(len(atoms), 3))
    graph = graph_of(atoms)
    lengths, edges = lengths_of(graph), graph.edge_index0
    kept = graph.distinct_edges
    alike = (edges[:, :, None] == edges[:, None, kept]).all(0)
    alike &= (lengths[:, None] - lengths[None, kept]).abs() < 1e-9
    assert (alike.sum(1) == 1).all()
    assert torch.equal(alike.sum(0), graph.distinct_copies)
    if len(kept):
        assert (alike.long().argmax(0) == kept).all()  # the first of its kind
    # Lengths: each distinct edge has the one that is pointed to, and no two are the same.
    own = lengths[kept][graph.distinct_of_length]
    assert len(own) == 0 or int(graph.length_of_distinct.max()) == len(own) - 1
    torch.testing.assert_close(own[graph.length_of_distinct], lengths[kept], rtol=0, atol=1e-9)
    assert len(own) < 2 or own.sort().values.diff().min() > 1e-11


def test_graphs_in_pairs_and_with_triplets_have_none() -> None:
    """Pairs share more where forces are needed; bonds of a line graph differ by their angles."""
    configuration = configuration_from_atoms(bulk("Cu"))
    for graph in (PeriodicGraph(3.0)(configuration), LineGraph(4.0, max_neighbors=12)(configuration)):
        assert not set(fields.DISTINCT) & set(graph.keys())


def network_of(architecture: str, options: dict[str, Any], seed: int = 0) -> Potential:
    torch.manual_seed(seed)
    head = {"type": "property", "target": "gap", "reference": "none", "mean": [0.0], "spread": [1.0]}
    options = {"cutoff": 6.0, "hidden_channels": 8, "num_convolutions": 3} | options
    species = ["Ba", "Cl", "Cu", "He", "Na", "O", "Ti"]
    return Potential(build_network(NetworkSpec(architecture, options, [head], species, "double")))


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("cgcnn", {"normalization": "none"}),
        ("cgcnn", {"normalization": "batch"}),
        ("cgcnn", {"normalization": "layer", "cutoff_function": "cosine"}),
        ("cgcnn", {"convolution": "shared", "normalization": "batch", "cutoff_function": "polynomial"}),
        ("gat", {"num_heads": 2, "normalization": "batch"}),
        ("gat", {"num_heads": 2, "cutoff_function": "cosine"}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_networks_say_the_same_of_them(architecture: str, options: dict[str, Any], training: bool) -> None:
    """Values, gradients and the statistics of batch normalisation are those of all edges, up to rounding."""
    whole = network_of(architecture, options).train(training)
    merged = copy.deepcopy(whole)
    rng = np.random.default_rng(1)
    shaken = [atoms.copy() for atoms in CRYSTALS]
    for atoms in shaken:
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
    graphs = [graph_of(atoms) for atoms in [*CRYSTALS, *shaken]]
    batch = collate(graphs)
    assert len(batch.distinct_edges) < 0.6 * batch.edge_index0.shape[1]
    plain = copy.copy(batch)
    for name in fields.DISTINCT:
        del plain[name]
    with torch.no_grad():  # statistics that are not those of a fresh network
        for one, other in zip(whole.buffers(), merged.buffers(), strict=True):
            if one.is_floating_point():
                other.add_(0.1)
                one.copy_(other)
    expected, found = whole(plain)["gap"], merged(batch)["gap"]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    if training:
        weights = torch.from_numpy(rng.normal(size=expected.shape))
        (expected * weights).sum().backward()
        (found * weights).sum().backward()
        for (name, one), other in zip(whole.named_parameters(), merged.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-9, atol=1e-10, msg=lambda text, n=name: n + text)
    for one, other in zip(whole.buffers(), merged.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


def test_one_edge_is_normalised_as_its_copies() -> None:
    """A batch of copper alone has one distinct edge; batch normalisation sees twelve equal rows."""
    whole = network_of("cgcnn", {"normalization": "batch", "num_convolutions": 1}).train()
    merged = copy.deepcopy(whole)
    batch = collate([graph_of(bulk("Cu"))])
    plain = copy.copy(batch)
    for name in fields.DISTINCT:
        del plain[name]
    torch.testing.assert_close(merged(batch)["gap"], whole(plain)["gap"], rtol=0, atol=1e-12)
    for one, other in zip(whole.buffers(), merged.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_derivatives_see_all_edges() -> None:
    """Forces of a potential on nearest neighbours are the energy's derivative: edges of one length move apart."""
    torch.manual_seed(0)
    options = {"cutoff": 6.0, "hidden_channels": 8, "num_convolutions": 2, "normalization": "none"}
    heads = [{"type": "energy", "reference_energies": {"Na": 0.0, "Cl": 0.0}, "scale": 1.0}]
    network = build_network(NetworkSpec("cgcnn", options, heads, ["Na", "Cl"], "double"))
    potential = Potential(network).eval()
    atoms = bulk("NaCl", "rocksalt", 5.64)
    graph = graph_of(atoms)
    stress = potential(graph)["stress"]
    assert stress.abs().max() > 1e-4
    # Of a cubic crystal it is isotropic; from one edge of each length it would not be.
    torch.testing.assert_close(stress[0, :3], stress[0, 0].expand(3), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(stress[0, 3:], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    alone = potential(graph, forces=False, stress=False)["energy"]
    torch.testing.assert_close(alone, potential(graph)["energy"], rtol=1e-12, atol=1e-12)


def test_edges_of_one_length() -> None:
    """Lengths within rounding are one; each edge's is that of the edge that stands for it; of none there is none."""
    lengths = np.array([2.0, 3.0, 2.0 + 1e-13, 2.5, 3.0 - 1e-12, 2.0 + 1e-9])
    of_length, length = edges_by_length(lengths)
    assert length.tolist() == [0, 3, 0, 2, 3, 1]
    np.testing.assert_allclose(lengths[of_length][length], lengths, rtol=0, atol=1e-11)
    assert all(len(found) == 0 for found in edges_by_length(np.empty(0)))
