"""What depends on no structure is computed at the export: constants in biases, layers of tables. Nothing changes."""

import torch
from structures import small_network
from torch.fx import GraphModule

from kimgnn.export.folding import fold_shifts, fold_tables
from kimgnn.export.onnx_model import DECOMPOSITIONS
from kimgnn.export.tracing import aten, example_inputs, trace


def shifts(module: GraphModule) -> int:
    """How many constants are subtracted from features."""
    nodes = module.graph.find_nodes(op="call_function", target=aten.sub.Tensor)
    return sum(getattr(node.args[1], "op", "") == "get_attr" for node in nodes)


def test_a_shift_goes_into_the_bias() -> None:
    """Two activations a layer and one in the head; energies and gradient stay what they are, within rounding."""
    layers = 2
    network = small_network(["Si"], layers)
    module = trace(network, DECOMPOSITIONS)
    inputs = list(example_inputs(network).values())
    inputs[2] = torch.rand(inputs[2].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1.0
    expected = module(*inputs)
    before = shifts(module)
    fold_shifts(module)
    assert before - shifts(module) == 2 * layers + 1
    for value, reference in zip(module(*inputs), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=0, atol=1e-12)


def test_layers_of_a_table_become_a_table() -> None:
    """What an atom begins with goes through the first layer's map of features, and no further."""
    network = small_network(["Si"], 2)
    module = trace(network, DECOMPOSITIONS)
    inputs = list(example_inputs(network).values())
    expected = module(*inputs)

    def products() -> int:
        return sum(node.target in (aten.mm.default, aten.addmm.default) for node in module.graph.nodes)

    before = products()
    fold_tables(module)
    assert before - products() == 1
    for value, reference in zip(module(*inputs), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=0, atol=1e-12)
