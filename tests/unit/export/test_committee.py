"""A committee's files: the mean of the members, and each member, whatever the format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from structures import CUTOFF, energies_and_gradient, forces_of, small_network, staged_graphs

from kimgnn.export.contract import CONTRACT, StagedGraph, contract_of
from kimgnn.export.documents import file_metadata
from kimgnn.export.onnx_model import write_onnx
from kimgnn.export.parameter_file import Parameters
from kimgnn.export.runtimes import load_exported
from kimgnn.export.torchscript import write_torchscript
from kimgnn.export.tracing import aten, trace
from kimgnn.models.build import build_network
from kimgnn.models.network import Network

FILES = ["model.pt", "model.onnx"]
"""A pt2 file takes a minute to compile: see the integration tests."""

SPECIES = ["Si", "C"]


@pytest.fixture(scope="module")
def committee() -> Network:
    """Two networks of two layers."""
    torch.manual_seed(1)
    return build_network(replace(small_network(SPECIES).spec, members=2)).eval()


@pytest.fixture(scope="module")
def folder(committee: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files, read only; kimgnn.param is that of TorchScript."""
    folder = tmp_path_factory.mktemp("committee")
    write_torchscript(committee, folder / "model.pt")
    (folder / "kimgnn.param").write_text(str(Parameters("torchscript", "model.pt", CUTOFF, 2, SPECIES, 2)))
    write_onnx(committee, folder / "model.onnx", file_metadata(committee, {}))
    return folder


def said(network: Network, graph: StagedGraph) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces in PyTorch."""
    energies, gradient = energies_and_gradient(network, graph)
    return energies.numpy(), forces_of(graph, gradient).numpy()


@pytest.mark.parametrize("file", FILES)
def test_files_say_mean_and_members(file: str, committee: Network, folder: Path) -> None:
    """Energies and forces to 1e-12, with ghosts or none, edges or none."""
    model = load_exported(folder / file)
    assert model.evaluate_members is not None
    for name, graph in staged_graphs(committee).items():
        expected = [said(member, graph) for member in committee.members]
        energies, gradients = model.evaluate_members(graph)
        assert energies.shape == (2, graph.node_counts[-1])
        assert gradients.shape == (2, *graph.edge_vectors.shape)
        for member, (want_energies, want_forces) in enumerate(expected):
            forces = forces_of(graph, torch.from_numpy(gradients[member])).numpy()
            np.testing.assert_allclose(energies[member], want_energies, rtol=0, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(forces, want_forces, rtol=0, atol=1e-12, err_msg=name)
        mean_energies, mean_gradient = model.evaluate(graph)
        mean_forces = forces_of(graph, torch.from_numpy(mean_gradient)).numpy()
        np.testing.assert_allclose(mean_energies, np.mean([want for want, _ in expected], 0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(mean_forces, np.mean([want for _, want in expected], 0), rtol=0, atol=1e-12)


def test_what_is_the_same_in_all_members_is_computed_once(committee: Network) -> None:
    """Of the distances: the envelope and the Gaussians, which have no weights, whatever the number of members."""
    of_one, of_two = trace(committee.members[0]), trace(committee)
    for operation in (aten.cos.default, aten.sqrt.default, aten.linalg_vector_norm.default):
        found = [len(module.graph.find_nodes(op="call_function", target=operation)) for module in (of_one, of_two)]
        assert found[0] == found[1], operation
    exponentials = [
        len(module.graph.find_nodes(op="call_function", target=aten.exp.default)) for module in (of_one, of_two)
    ]
    assert exponentials[0] == exponentials[1] > 0


def test_a_single_network_is_exported_as_before(trained: Path, committee: Network) -> None:
    """In the contract that drivers of before know; a committee's they refuse."""
    assert contract_of(committee.members[0]) == CONTRACT == 2
    assert contract_of(committee) == 3
    assert load_exported(trained / "model.onnx").evaluate_members is None
    assert load_exported(trained / "model.pt").evaluate_members is None
    assert (trained / "kimgnn.param").read_text().startswith("kimgnn 2\n")
