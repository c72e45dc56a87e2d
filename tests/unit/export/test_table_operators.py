"""Files of networks with tables: every format gives what the network gives in PyTorch."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper
from structures import CUTOFF, energies_and_gradient, forces_of, staged_graphs

from kimgnn.errors import ExportError
from kimgnn.export.contract import INPUTS, OUTPUTS
from kimgnn.export.onnx_model import check_onnx, export_onnx
from kimgnn.export.table_operators import DOMAIN
from kimgnn.export.torchscript import export_torchscript
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.models.tabulation import tabulated

OPTIONS = {
    "schnet": {"num_interactions": 3, "num_filters": 6},
    "cgcnn": {"num_convolutions": 2, "normalization": "none"},
    "gat": {"num_convolutions": 2, "normalization": "layer", "score_activation": "silu"},
}

TOLERANCES = {"double": 1e-12, "single": 1e-5}
"""Rounding of energies of a few eV, and of forces."""


def network_with_tables(architecture: str, precision: str) -> Network:
    """A small network of Si and C with random weights; the tables' error does not matter here."""
    options = {"cutoff": CUTOFF, "hidden_channels": 8, "cutoff_function": "polynomial", **OPTIONS[architecture]}
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 1.0}
    network = build_network(NetworkSpec(architecture, options, [head], ["Si", "C"], precision)).eval()
    return tabulated(network, 80)


@pytest.mark.parametrize(
    ("architecture", "precision"), [("schnet", "double"), ("schnet", "single"), ("cgcnn", "double")]
)
def test_onnx_equals_pytorch(architecture: str, precision: str) -> None:
    """By ONNX's own operators, where ONNX Runtime has no kernels of ours; those run in tests/integration."""
    network = network_with_tables(architecture, precision)
    model = export_onnx(network, {})
    onnx.checker.check_model(model, full_check=True)
    of_ours = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    names = {"FilteredSum", "FilterProducts"} if architecture == "schnet" else {"WeightedRows", "DotRows"}
    assert of_ours == {name + ("Float" if precision == "single" else "") for name in names}
    # Of the sums over edges, only those of padding are scattered.
    inside = [node for node in model.graph.node if any(name.startswith("network.") for name in node.output)]
    assert not [node.name for node in inside if node.op_type.startswith("Scatter")]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    loaded = onnxruntime.InferenceSession(model.SerializeToString(), options)
    tolerance = TOLERANCES[precision]
    for name, graph in staged_graphs(network).items():
        expected, gradient = energies_and_gradient(network, graph)
        inputs = {key: np.asarray(value) for key, value in zip(INPUTS, graph, strict=True)}
        energies, found = map(torch.from_numpy, loaded.run(OUTPUTS, inputs))
        torch.testing.assert_close(energies, expected, rtol=0, atol=tolerance, msg=name)
        forces = forces_of(graph, gradient)
        torch.testing.assert_close(forces_of(graph, found), forces, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("architecture", OPTIONS)
def test_torchscript_equals_pytorch(architecture: str, precision: str) -> None:
    """With torch's own operators alone."""
    network = network_with_tables(architecture, precision)
    scripted = export_torchscript(network)
    assert f"{DOMAIN}::" not in str(scripted.inlined_graph)
    tolerance = TOLERANCES[precision]
    for name, graph in staged_graphs(network).items():
        expected, expected_gradient = energies_and_gradient(network, graph)
        vectors = graph.edge_vectors.clone().requires_grad_()
        with torch.jit.optimized_execution(False):  # as the driver runs it
            energies = scripted(*graph._replace(edge_vectors=vectors))
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        torch.testing.assert_close(energies.detach(), expected, rtol=0, atol=tolerance, msg=name)
        forces = forces_of(graph, expected_gradient)
        torch.testing.assert_close(forces_of(graph, gradient), forces, rtol=0, atol=tolerance, msg=name)


def test_an_operator_without_meaning_is_refused() -> None:
    """One of ours that the file does not define would run in our driver alone."""
    rows = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [4, 6]) for name in ("x", "y")]
    node = helper.make_node("Unheard", ["x"], ["y"], domain=DOMAIN)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    model: ModelProto = helper.make_model(
        helper.make_graph([node], "g", rows[:1], rows[1:]), ir_version=10, opset_imports=imports
    )
    with pytest.raises(ExportError, match="not ONNX's own.*Unheard"):
        check_onnx(model)
