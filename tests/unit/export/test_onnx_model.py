"""An exported ONNX file is the network and its gradient, in ONNX Runtime on any number of threads."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper
from structures import energies_and_gradient, forces_of, small_network, staged_graphs
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.export import onnx_model
from kimgnn.export.contract import INPUTS, OUTPUTS, StagedGraph
from kimgnn.export.documents import file_metadata
from kimgnn.export.onnx_model import export_onnx
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.network import Network
from kimgnn.nn.inputs import GraphInputs

METADATA = {"species": "Si C", "cutoff": "4.0"}


@pytest.fixture(scope="module", params=["double", "single"])
def exported(request: pytest.FixtureRequest, trained: Path) -> tuple[Network, ModelProto]:
    """A network of two layers and its export."""
    if request.param == "double":
        return load_checkpoint(trained).network, onnx.load(trained / "model.onnx")
    network = small_network(["Si", "C"], 2, request.param)
    return network, export_onnx(network, METADATA)


def session(model: ModelProto, threads: int = 2) -> onnxruntime.InferenceSession:
    """A model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(loaded: onnxruntime.InferenceSession, graph: StagedGraph) -> tuple[Tensor, Tensor]:
    """Energies and gradient in ONNX Runtime."""
    inputs = {name: np.asarray(value) for name, value in zip(INPUTS, graph, strict=True)}
    energies, gradient = loaded.run(OUTPUTS, inputs)
    return torch.from_numpy(energies), torch.from_numpy(gradient)


def test_it_equals_pytorch(exported: tuple[Network, ModelProto]) -> None:
    """Energies and forces agree on every kind of graph, one with no edges too: counts are dynamic."""
    network, model = exported
    # float32 has seven digits, and these networks' energies are a few eV.
    tolerance = 1e-12 if network.spec.precision == "double" else 1e-5
    loaded = session(model)
    for name, graph in staged_graphs(network).items():
        expected, expected_gradient = energies_and_gradient(network, graph)
        energies, gradient = run(loaded, graph)
        assert energies.dtype == gradient.dtype == torch.float64
        assert gradient.shape == graph.edge_vectors.shape
        torch.testing.assert_close(energies, expected, rtol=0, atol=tolerance, msg=name)
        forces, expected_forces = forces_of(graph, gradient), forces_of(graph, expected_gradient)
        torch.testing.assert_close(forces, expected_forces, rtol=0, atol=tolerance, msg=name)


def test_threads_change_nothing(exported: tuple[Network, ModelProto]) -> None:
    """Ten runs on more threads than cores are bit for bit the run on one: no sum races (trap 1)."""
    network, model = exported
    graph = staged_graphs(network)["supercell"]
    energies, gradient = run(session(model, threads=1), graph)
    loaded = session(model, threads=8)
    for _ in range(10):
        again, gradient_again = run(loaded, graph)
        assert torch.equal(energies, again)
        assert torch.equal(gradient, gradient_again)


def test_the_file_is_standard_onnx_and_says_what_it_is(exported: tuple[Network, ModelProto], trained: Path) -> None:
    """Its inputs and outputs are the contract's, its operators ONNX's own; no sum over edges is scattered."""
    network, model = exported
    onnx.checker.check_model(model, full_check=True)
    assert tuple(value.name for value in model.graph.input) == INPUTS
    assert tuple(value.name for value in model.graph.output) == OUTPUTS
    assert {node.domain for node in model.graph.node} == {""}
    # ONNX Runtime 1.22 to 1.26 have no float64 kernel for these.
    assert not {node.op_type for node in model.graph.node} & {"Cos", "Softplus"}
    of_trained = file_metadata(network, load_checkpoint(trained).manifest)
    metadata = METADATA if network.spec.precision == "single" else of_trained
    assert {entry.key: entry.value for entry in model.metadata_props} == metadata
    network_nodes = [node for node in model.graph.node if any(name.startswith("network.") for name in node.output)]
    assert network_nodes
    assert not [node.name for node in network_nodes if node.op_type.startswith("Scatter")]


def test_a_racing_sum_is_refused() -> None:
    """A reducing ScatterND never leaves the exporter; one that only places values may."""
    tensor = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)  # noqa: E731
    inputs = [
        tensor("x", onnx.TensorProto.DOUBLE, [4]),
        tensor("places", onnx.TensorProto.INT64, [3, 1]),
        tensor("terms", onnx.TensorProto.DOUBLE, [3]),
    ]
    output = [tensor("y", onnx.TensorProto.DOUBLE, [4])]
    for reduction, refused in (("add", True), ("none", False)):
        node = helper.make_node("ScatterND", ["x", "places", "terms"], ["y"], name="sum", reduction=reduction)
        model = helper.make_model(helper.make_graph([node], "g", inputs, output), ir_version=10)
        if refused:
            with pytest.raises(ExportError, match="more than one thread"):
                onnx_model.check_onnx(model)
        else:
            onnx_model.check_onnx(model)


class _OtherSums(nn.Module):
    """A trunk with what SchNet lacks: Python numbers, a sum over no edge's end, states of all nodes, no pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.cutoff, self.num_layers, self.out_channels = 4.0, 2, 8
        self.embedding = nn.Embedding(120, 8, dtype=torch.float64)

    def potential_refusal(self) -> str:
        return ""

    def forward(self, inputs: GraphInputs) -> Tensor:
        sender, receiver = inputs.edge_index[0], inputs.edge_index[1]
        lengths = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        envelope = (torch.cos(lengths * (torch.pi / 4.0)) * 0.3 + 0.3) ** 3 * (lengths < 4.0)
        x = self.embedding(inputs.z)
        # The parity of the node's number, of all nodes, ghosts included.
        parity = torch.zeros(x.shape[0], 8, dtype=x.dtype).index_add(
            0, sender, (envelope * 0.1).unsqueeze(1).expand(-1, 8)
        )
        x = x + parity
        for nodes, edges in zip(inputs.node_counts, inputs.edge_counts, strict=True):
            terms = nn.functional.softplus(x[sender[:edges]] * 0.7) * envelope[:edges, None]
            x = x[:nodes] + torch.zeros(nodes, 8, dtype=x.dtype).index_add(0, receiver[:edges], terms)
        return x


def test_any_network_can_be_exported_exactly() -> None:
    """Numbers that float32 cannot hold keep their digits (trap 2); unknown sums are right, if slower (trap 1)."""
    network = small_network(["Si", "C"], 2)
    torch.manual_seed(3)
    network.trunk = _OtherSums()
    network.eval()
    model = export_onnx(network, METADATA)
    assert [node for node in model.graph.node if node.op_type == "ScatterElements"]
    loaded = session(model, threads=4)
    for name, graph in staged_graphs(network).items():
        if name == "ghosts":
            continue  # this trunk is not local to its layers
        expected, expected_gradient = energies_and_gradient(network, graph)
        energies, gradient = run(loaded, graph)
        torch.testing.assert_close(energies, expected, rtol=0, atol=1e-12, msg=name)
        forces, expected_forces = forces_of(graph, gradient), forces_of(graph, expected_gradient)
        torch.testing.assert_close(forces, expected_forces, rtol=0, atol=1e-12, msg=name)


def test_softplus_is_exact_in_float64() -> None:
    """ONNX Runtime has no float64 softplus (trap 3): ours is torch's, and so is its slope, within rounding."""
    x = torch.linspace(-60, 60, 2001, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.softplus(x, 1.0, 40.0)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(onnx_model._softplus(x.detach()), expected.detach(), rtol=1e-15, atol=1e-15)
    ours = onnx_model._softplus_backward(torch.ones_like(x), x.detach(), 1.0, 40.0)
    torch.testing.assert_close(ours, slope, rtol=1e-15, atol=1e-15)
    assert torch.isinf(onnx_model._softplus(torch.tensor(800.0, dtype=torch.float64)))


def test_what_cannot_be_a_potential_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network says why; the export passes it on."""
    network = small_network(["Si"])
    monkeypatch.setattr(network.trunk, "potential_refusal", lambda: "it pools over the whole structure")
    with pytest.raises(ExportError, match="pools over the whole structure"):
        export_onnx(network, METADATA)
