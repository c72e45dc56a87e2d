"""Properties as ONNX, in standard operators: `kimgnn.export.property_contract`'s function, an output for each name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import ModelProto
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from kimgnn.errors import ExportError
from kimgnn.export.onnx_model import DECOMPOSITIONS, check_onnx, keep_constants_exact, without_notices
from kimgnn.export.onnx_padding import OPSET
from kimgnn.export.property_contract import PROPERTY_INPUTS, STATES_INPUT, TRIPLETS_INPUT, ExportedProperties
from kimgnn.export.tracing import aten, without_effect
from kimgnn.models.network import Network

_COUNTED: Final = {"z": (0, "n_atoms"), "edge_index": (1, "n_edges"), "edge_vectors": (0, "n_edges"),
                   TRIPLETS_INPUT: (1, "n_triplets")}  # fmt: skip
"""Input -> the dimension of it that any number may be, and what it counts."""


def write_onnx_properties(network: Network, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the properties of ``network`` to ``path``; arguments and errors are those of `export_onnx_properties`."""
    Path(path).write_bytes(export_onnx_properties(network, metadata).SerializeToString())


def export_onnx_properties(network: Network, metadata: Mapping[str, str]) -> ModelProto:
    """Return the properties of ``network`` as an ONNX model; the numbers of atoms and edges are dynamic.

    Args:
        network: With a property or classification head.
        metadata: What the file tells of itself, besides its inputs and outputs.

    Raises:
        ExportError: It cannot be written in ONNX without loss.
    """
    exported = ExportedProperties(network)
    inputs = _example_inputs(network)
    names = list(exported(**inputs))

    def properties(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(exported(**dict(zip(inputs, tensors, strict=True))).values())

    tracer = make_fx(properties, _DECOMPOSITIONS, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    dynamic = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            module = tracer(*inputs.values())
        for node in list(module.graph.nodes):
            without_effect(node)
        module.graph.eliminate_dead_code()
        keep_constants_exact(module)
        with without_notices():
            program: Any = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes=tuple({_COUNTED[name][0]: dynamic} if name in _COUNTED else {} for name in inputs),
                input_names=list(inputs),
                output_names=names,
            )
    except ExportError:
        raise
    except Exception as error:  # torch raises many kinds on what it cannot export
        raise ExportError(f"torch cannot write the properties in ONNX:\n{error}", where="export.formats") from error
    model: ModelProto = program.model_proto
    _name_dimensions(model)
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "kimgnn"
    check_onnx(model)
    return model


def _name_dimensions(model: ModelProto) -> None:
    """Call the dimensions of inputs and outputs by what they count."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)}
    names = {shapes[name][axis].dim_param: count for name, (axis, count) in _COUNTED.items() if name in shapes}
    for dimension in (dimension for shape in shapes.values() for dimension in shape if dimension.dim_param):
        dimension.dim_param = names.get(dimension.dim_param, dimension.dim_param)
    model.graph.ClearField("value_info")


def _example_inputs(network: Network) -> dict[str, Tensor]:
    """Return a structure in which no two counts are equal: tracing tells dimensions by their sizes."""
    n_atoms, n_edges, n_triplets = 7, 11, 17
    ends = torch.arange(2 * n_edges).view(2, n_edges) % n_atoms
    known = int(ExportedProperties(network).known_z[0])
    structure = torch.full((n_atoms,), known), ends, torch.ones(n_edges, 3, dtype=torch.float64)
    inputs = dict(zip(PROPERTY_INPUTS, structure, strict=True))
    if network.uses_triplets:
        inputs[TRIPLETS_INPUT] = torch.arange(2 * n_triplets).view(2, n_triplets) % n_edges
    if network.state_inputs:
        inputs[STATES_INPUT] = torch.zeros(len(network.state_inputs), dtype=torch.float64)
    return inputs


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(βx)) / β``, also where exp overflows: a sum over the atoms of a large cell may be that large."""
    scaled = x if beta == 1.0 else x * beta
    result = scaled.relu() + torch.log(torch.exp(-scaled.abs()) + 1.0)
    return result if beta == 1.0 else result / beta


def _silu(x: Tensor) -> Tensor:
    """``x / (1 + exp(-x))``: of ``x · sigmoid(x)``, ONNX Runtime before 1.31 or so makes what it has no float64 for."""
    return x / (torch.exp(-x) + 1.0)


def _index_add(x: Tensor, dimension: int, index: Tensor, source: Tensor) -> Tensor:
    """Sum over edges as a ``scatter_add``, which ONNX Runtime computes correctly: on one thread."""
    if dimension != 0 or source.dim() != 2:
        return NotImplemented
    return x.scatter_add(0, index.unsqueeze(-1).expand_as(source), source)


def _vector_norm(
    x: Tensor, order: float = 2, dimensions: list[int] | None = None, keep: bool = False, dtype: Any = None
) -> Tensor:
    """Lengths of vectors, component by component: of no vectors, ONNX Runtime's reduction has the wrong shape."""
    if order != 2 or dimensions not in ([-1], [x.dim() - 1]) or keep or dtype is not None:
        return NotImplemented
    first, *others = (x.select(-1, component).square() for component in range(int(x.shape[-1])))
    return torch.sqrt(sum(others, first))


_DECOMPOSITIONS: Final = DECOMPOSITIONS | {
    aten.linalg_vector_norm.default: _vector_norm,
    aten.softplus.default: _softplus,
    aten.silu.default: _silu,
    aten.index_add.default: _index_add,
}
