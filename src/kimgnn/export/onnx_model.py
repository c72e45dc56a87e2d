"""The network and its gradient as an ONNX file, in standard operators; see `kimgnn.export.contract`.

Operators of tables (`kimgnn.export.table_operators`) are ours, and the file defines them by the standard ones.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import GraphModule, Node

from kimgnn.errors import ExportError
from kimgnn.export.contract import MEMBER_OUTPUTS, OUTPUTS
from kimgnn.export.folding import fold_shifts
from kimgnn.export.onnx_padding import OPSET, pad_and_unpad, padded_names
from kimgnn.export.sums import TABLES, replace_scatters
from kimgnn.export.table_operators import DOMAIN, TABLE_DECOMPOSITIONS, add_functions
from kimgnn.export.tracing import aten, example_inputs, trace
from kimgnn.models.network import Network

RACING: Final = "ScatterND"
"""With a reduction it loses updates in ONNX Runtime's CPU provider as soon as there are two threads."""


def write_onnx(network: Network, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write ``network`` to ``path``; arguments and errors are those of `export_onnx`."""
    Path(path).write_bytes(export_onnx(network, metadata).SerializeToString())


def export_onnx(network: Network, metadata: Mapping[str, str]) -> ModelProto:
    """Return ``network`` as an ONNX model, which computes energies and gradient in one run.

    Args:
        network: A network that can be a potential.
        metadata: What the file tells of itself, besides its inputs and outputs.

    Raises:
        ExportError: The network cannot be a potential, or cannot be written in ONNX without loss.
    """
    layers = network.num_layers
    module = trace(network, DECOMPOSITIONS)
    replace_scatters(module, layers)
    fold_shifts(module)
    keep_constants_exact(module)
    reach = float(network.angle_cutoff) if network.uses_triplets else None
    model = pad_and_unpad(_to_onnx(module, network), layers, float(network.cutoff), reach, network.spec.members)
    add_functions(model, OPSET)
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "kimgnn"
    check_onnx(model)
    return model


def check_onnx(model: ModelProto) -> None:
    """Refuse what ONNX Runtime would compute wrongly, or not at all.

    Raises:
        ExportError: With the operators.
    """
    racing = [node.name for node in model.graph.node if node.op_type == RACING and _reduction(node) != "none"]
    if racing:
        raise ExportError(
            f"{RACING} with a reduction is wrong on more than one thread in ONNX Runtime",
            where="export.formats",
            value=", ".join(racing),
            remedy="Sum in the network with index_add or scatter_add, which are exported otherwise.",
        )
    ours = {function.name for function in model.functions if function.domain == DOMAIN}
    foreign = {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")} - ours
    if foreign or len(ours) < len(model.functions):
        raise ExportError(
            "the model needs operators that are not ONNX's own",
            where="export.formats",
            value=", ".join(sorted(foreign)),
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx raises kinds of its own
        raise ExportError(f"the model is not valid ONNX: {error}", where="export.formats") from error


def _reduction(node: onnx.NodeProto) -> str:
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == "reduction"), "none")


def _to_onnx(module: GraphModule, network: Network) -> ModelProto:
    """Return what torch's exporter makes of a traced network on padded graphs."""
    example = example_inputs(network)
    n_edges, n_pairs, n_receivers = (len(example[name]) for name in ("edge_vectors", "edge_of_pair", "nodes_0"))
    tables = [(n_receivers, n_edges // n_receivers), (n_pairs,), (n_pairs,), (n_edges,)]
    inputs = [*example.values(), *(torch.zeros(shape, dtype=torch.int64) for shape in tables)]
    outputs = OUTPUTS if network.spec.members == 1 else OUTPUTS + MEMBER_OUTPUTS
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [{0: dynamic} for _ in inputs]
    shapes[1] = {1: dynamic}
    shapes[-len(TABLES)] = {0: dynamic, 1: dynamic}
    try:
        with without_notices():
            program: Any = torch.onnx.export(
                module,
                tuple(inputs),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes=tuple(shapes),
                input_names=padded_names(example),
                output_names=[f"padded_{name}" for name in outputs],
            )
    except Exception as error:  # torch raises many kinds on what it cannot export
        raise ExportError(f"torch cannot write the model in ONNX:\n{error}", where="export.formats") from error
    return program.model_proto


@contextmanager
def without_notices() -> Iterator[None]:
    """Silence torch's exporter, which says that torchvision is missing and that torch uses its own old functions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def keep_constants_exact(module: GraphModule) -> None:
    """Turn Python numbers that float32 cannot hold into tensors: torch's exporter rounds numbers, not tensors.

    Raises:
        ExportError: An operation takes such a number and would not take a tensor.
    """
    for node in list(module.graph.nodes):
        inexact = [value for value in node.args if isinstance(value, float) and float(np.float32(value)) != value]
        if not inexact:
            continue
        overload = {"Scalar": "Tensor", "Tensor": "Tensor", "Tensor_Scalar": "Tensor_Tensor"}.get(
            node.target._overloadname
        )
        if overload is None or overload not in node.target.overloadpacket.overloads():
            raise ExportError(
                f"{node.target} takes a number that ONNX export would round to float32",
                where="export.formats",
                value=inexact[0],
                remedy="Keep the number in a float64 buffer of the network.",
            )
        node.target = getattr(node.target.overloadpacket, overload)
        node.args = tuple(_constant(module, node, arg) if arg in inexact else arg for arg in node.args)
    module.recompile()


def _constant(module: GraphModule, user: Node, value: float) -> Node:
    name = f"_number{len(list(module.named_buffers()))}"
    module.register_buffer(name, torch.tensor(value, dtype=user.meta["val"].dtype))
    with module.graph.inserting_before(user):
        return module.graph.get_attr(name)


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(βx)) / β``: ONNX Runtime's own has no float64.

    Where exp overflows, beyond 709 in float64 and 88 in float32, it is infinite: a simulation stops, it goes not wrong.
    """
    scaled = x if beta == 1.0 else x * beta
    result = torch.log(torch.exp(scaled) + 1.0)
    return result if beta == 1.0 else result / beta


def _softplus_backward(gradient: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    # With the exponential of the forward pass, which need not be computed again.
    scaled = x if beta == 1.0 else x * beta
    return gradient - gradient / (torch.exp(scaled) + 1.0)


def _slice_backward(gradient: Tensor, sizes: list[int], dimension: int, start: int, end: int, step: int) -> Tensor:
    """Zeros beyond a slice that begins at the beginning, as all prefixes do; others are left to torch."""
    if (start, step) != (0, 1):
        return NotImplemented
    rest = list(sizes)
    rest[dimension] = sizes[dimension] - gradient.shape[dimension]
    if isinstance(rest[dimension], int) and rest[dimension] == 0:
        return gradient
    return torch.cat([gradient, gradient.new_zeros(rest)], dimension)


def _power(x: Tensor, exponent: float) -> Tensor:
    """Whole powers as products: several times as fast as ONNX Runtime's power, and exact in float64."""
    if exponent not in range(1, 9):
        return NotImplemented
    result = x
    for _ in range(int(exponent) - 1):
        result = result * x
    return result


def _cosine(x: Tensor) -> Tensor:
    """``sin(x + π/2)``: before 1.31 or so, ONNX Runtime has no float64 cosine, though it has the sine."""
    return torch.sin(x + 0.5 * math.pi)


def _index(x: Tensor, indices: list[Tensor]) -> Tensor:
    """``x[rows]`` as the selection of rows that it is."""
    return x.index_select(0, indices[0]) if _are_rows(indices) else NotImplemented


def _index_put(x: Tensor, indices: list[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """The backward pass of ``x[rows]`` as a sum over rows, which is exported without a race."""
    return x.index_add(0, indices[0], values) if accumulate and _are_rows(indices) else NotImplemented


def _are_rows(indices: list[Tensor]) -> bool:
    return len(indices) == 1 and indices[0] is not None and indices[0].dim() == 1 and indices[0].dtype == torch.int64


DECOMPOSITIONS: Final[dict[Any, Any]] = {
    aten.cos.default: _cosine,
    aten.index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten.softplus.default: _softplus,
    aten.softplus_backward.default: _softplus_backward,
    aten.slice_backward.default: _slice_backward,
    aten.pow.Tensor_Scalar: _power,
    # torch's own: ONNX has no backward pass of these.
    **TABLE_DECOMPOSITIONS,
    **get_decompositions([aten.silu, aten.silu_backward, aten.native_layer_norm, aten.native_layer_norm_backward]),
}
"""Operation of torch -> what ONNX Runtime computes right, and in float64, in its place."""
