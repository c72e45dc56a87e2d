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
from kimgnn.export.folding import fold_shifts, fold_tables
from kimgnn.export.onnx_model import DECOMPOSITIONS, check_onnx, keep_constants_exact, without_notices
from kimgnn.export.onnx_padding import OPSET
from kimgnn.export.property_contract import (
    COPIES_INPUT,
    DEVIATION,
    PROPERTY_INPUTS,
    STATES_INPUT,
    TRIPLETS_INPUT,
    ExportedProperties,
)
from kimgnn.export.property_tables import STRUCTURE_OF_ATOM, TABLES, gather_sums, with_tables
from kimgnn.export.tracing import aten, simplified
from kimgnn.models.network import Network

_TYPES: Final = {
    "z": "int64[n_atoms]",
    "atom_counts": "int64[n_structures]",
    "edge_index": "int64[2, n_edges]",
    "edge_vectors": "double[n_edges, 3]",
    "edge_of_length": "int64[n_lengths]",
    "length_of_edge": "int64[n_edges]",
    COPIES_INPUT: "int64[n_edges]",
    TRIPLETS_INPUT: "int64[2, n_triplets]",
    STATES_INPUT: "double[n_structures, {n_states}]",
}
"""What ONNX calls the type of each input."""

_COUNTS: Final = {"n_structures": 31, "n_lengths": 37, "n_atoms": 41, "n_edges": 43, "n_triplets": 47}
"""Of an example: no two are equal, for tracing tells dimensions by their sizes, and none is a width of something."""

_WIDTHS: Final = dict(zip(TABLES, (53, 59, 61, 67), strict=True))
"""Columns of its tables."""


def write_onnx_properties(network: Network, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the properties of ``network`` to ``path``; arguments and errors are those of `export_onnx_properties`."""
    Path(path).write_bytes(export_onnx_properties(network, metadata).SerializeToString())


def export_onnx_properties(network: Network, metadata: Mapping[str, str]) -> ModelProto:
    """Return the properties of ``network`` as an ONNX model; all counts are dynamic.

    Args:
        network: With a property or classification head.
        metadata: What the file tells of itself, besides its inputs and outputs.

    Raises:
        ExportError: It cannot be written in ONNX without loss.
    """
    exported = ExportedProperties(network)
    inputs, filled = _example_inputs(network), _example_tables()
    every = inputs | filled
    names = list(exported(**inputs))

    def properties(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(every, tensors, strict=True))
        return tuple(exported.of_batch(**{name: given[name] for name in (*inputs, STRUCTURE_OF_ATOM)}).values())

    tracer = make_fx(properties, _DECOMPOSITIONS, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    dynamic = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            module = tracer(*every.values())
        for node, name in zip(module.graph.find_nodes(op="placeholder"), every, strict=True):
            node.target = name
        module = simplified(module)
        fold_tables(module)
        fold_shifts(module)
        gather_sums(module)
        keep_constants_exact(module)
        with without_notices():
            program: Any = torch.onnx.export(
                module.eval(),
                tuple(every.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes=tuple(
                    {
                        axis: dynamic
                        for axis, size in enumerate(tensor.shape)
                        if size in _COUNTS.values() or name in _WIDTHS
                    }
                    for name, tensor in every.items()
                ),
                input_names=list(every),
                output_names=names,
            )
    except ExportError:
        raise
    except Exception as error:  # torch raises many kinds on what it cannot export
        raise ExportError(f"torch cannot write the properties in ONNX:\n{error}", where="export.formats") from error
    types = ", ".join(f"{_TYPES[name]} {name}" for name in inputs).format(n_states=len(network.state_inputs))
    model = with_tables(program.model_proto, types)
    _name_dimensions(model, {name for name, decoder in exported.decoders.items() if decoder.per_atom})
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "kimgnn"
    check_onnx(model)
    return model


def _name_dimensions(model: ModelProto, of_atoms: set[str]) -> None:
    """Call the dimensions of outputs by what they count; those of inputs are."""
    for value in model.graph.output:
        by_atom = value.name in of_atoms or value.name.removesuffix(DEVIATION) in of_atoms
        value.type.tensor_type.shape.dim[0].dim_param = "n_atoms" if by_atom else "n_structures"
    model.graph.ClearField("value_info")


def _example_inputs(network: Network) -> dict[str, Tensor]:
    """Return a batch by the names of the inputs."""
    n_structures, n_lengths, n_atoms, n_edges, n_triplets = _COUNTS.values()
    known = int(ExportedProperties(network).known_z[0])
    atom_counts = torch.ones(n_structures, dtype=torch.int64)
    atom_counts[0] += n_atoms - n_structures
    receiver = torch.arange(n_edges).clamp(max=n_atoms - 1)
    batch = (
        torch.full((n_atoms,), known),
        atom_counts,
        torch.stack([receiver.flip(0), receiver]),
        torch.ones(n_edges, 3, dtype=torch.float64),
        torch.arange(n_lengths),
        torch.arange(n_edges).clamp(max=n_lengths - 1),
    )
    inputs = dict(zip(PROPERTY_INPUTS, batch, strict=True))
    if network.merges_edges:
        inputs[COPIES_INPUT] = torch.ones(n_edges, dtype=torch.int64)
    if network.uses_triplets:
        inputs[TRIPLETS_INPUT] = torch.arange(n_triplets).clamp(max=n_edges - 1).repeat(2, 1)
    if network.state_inputs:
        inputs[STATES_INPUT] = torch.zeros(n_structures, len(network.state_inputs), dtype=torch.float64)
    return inputs


def _example_tables() -> dict[str, Tensor]:
    """Return what the file fills, which is right in its shape alone."""
    n_structures, _, n_atoms, n_edges, _ = _COUNTS.values()
    rows = dict(zip(TABLES, (n_atoms, n_structures, n_structures, n_edges), strict=True))
    tables = {name: torch.zeros(rows[name], width, dtype=torch.int64) for name, width in _WIDTHS.items()}
    return {STRUCTURE_OF_ATOM: torch.arange(n_atoms).clamp(max=n_structures - 1), **tables}


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(βx)) / β``, also where exp overflows: a sum over the atoms of a large cell may be that large."""
    scaled = x if beta == 1.0 else x * beta
    result = torch.maximum(scaled, torch.log(torch.exp(scaled.clamp(max=80.0)) + 1.0))
    return result if beta == 1.0 else result / beta


def _silu(x: Tensor) -> Tensor:
    """``x / (1 + exp(-x))``: of ``x · sigmoid(x)``, ONNX Runtime before 1.31 or so makes what it has no float64 for."""
    return x / (torch.exp(-x) + 1.0)


def _bincount(x: Tensor, weights: Tensor | None = None, least: int = 0) -> Tensor:
    """Counts of ``least`` numbers, no other of which occurs."""
    return x.new_zeros(least).scatter_add(0, x, torch.ones_like(x)) if weights is None else NotImplemented


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
    aten.bincount.default: _bincount,
}
