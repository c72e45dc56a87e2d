"""Operators of tabulated networks in an ONNX file, for which our driver has kernels (kim_export/table_operators.cpp).

The file defines each by ONNX's own operators too, as a function: ONNX Runtime computes it so where it has no such
kernel, for example in Python. The results are the same to rounding; the kernels write down nothing of all edges.
"""

from collections.abc import Sequence
from typing import Any, Final

import onnx.parser
import torch
from onnx import FunctionProto, ModelProto
from torch import Tensor
from torch.fx import Graph, Node
from torch.onnx.ops import symbolic

from kimgnn.nn.rows import DOTS, ROWS

DOMAIN: Final = "kimgnn"

SUFFIXES: Final = {torch.float64: "", torch.float32: "Float"}
"""Of an operator's name, by precision: a kernel has one signature."""

_SIX_ROWS: Final = """
  one = Constant <value_ints = [1]> ()
  t0 = Gather (table, first)
  first1 = Add (first, one)
  t1 = Gather (table, first1)
  first2 = Add (first1, one)
  t2 = Gather (table, first2)
  first3 = Add (first2, one)
  t3 = Gather (table, first3)
  first4 = Add (first3, one)
  t4 = Gather (table, first4)
  first5 = Add (first4, one)
  t5 = Gather (table, first5)
"""

_BODIES: Final = {
    "WeightedRows": f"""
(table, first, weights) => (result)
{{{{{_SIX_ROWS}
  w0, w1, w2, w3, w4, w5 = Split <axis = 1, num_outputs = 6> (weights)
  p0 = Mul (w0, t0)
  p1 = Mul (w1, t1)
  p2 = Mul (w2, t2)
  p3 = Mul (w3, t3)
  p4 = Mul (w4, t4)
  p5 = Mul (w5, t5)
  result = Sum (p0, p1, p2, p3, p4, p5)
}}}}
""",
    "DotRows": f"""
(gradient, table, first) => (result)
{{{{{_SIX_ROWS}
  axis = Constant <value_ints = [1]> ()
  p0 = Mul (gradient, t0)
  p1 = Mul (gradient, t1)
  p2 = Mul (gradient, t2)
  p3 = Mul (gradient, t3)
  p4 = Mul (gradient, t4)
  p5 = Mul (gradient, t5)
  s0 = ReduceSum <keepdims = 1> (p0, axis)
  s1 = ReduceSum <keepdims = 1> (p1, axis)
  s2 = ReduceSum <keepdims = 1> (p2, axis)
  s3 = ReduceSum <keepdims = 1> (p3, axis)
  s4 = ReduceSum <keepdims = 1> (p4, axis)
  s5 = ReduceSum <keepdims = 1> (p5, axis)
  result = Concat <axis = 1> (s0, s1, s2, s3, s4, s5)
}}}}
""",
    # An edge beyond the last stands for none.
    "FilteredSum": """
(values, table, first, weights, source, pair, edges) => (result)
{{
  axis = Constant <value_ints = [1]> ()
  flat = Constant <value_ints = [-1]> ()
  filters = {domain}.WeightedRows{suffix} (table, first, weights)
  filter_of_edge = Gather (filters, pair)
  value_of_edge = Gather (values, source)
  messages = Mul (filter_of_edge, value_of_edge)
  channels = Shape <start = 1> (messages)
  one_row = Concat <axis = 0> (axis, channels)
  nothing = ConstantOfShape (one_row)
  none = CastLike (nothing, messages)
  messages_and_none = Concat <axis = 0> (messages, none)
  n_edges = Shape (source)
  edge_or_none = Min (edges, n_edges)
  places = Reshape (edge_or_none, flat)
  found = Gather (messages_and_none, places)
  columns = Shape (edges)
  shape = Concat <axis = 0> (columns, channels)
  by_row = Reshape (found, shape)
  result = ReduceSum <keepdims = 0> (by_row, axis)
}}
""",
    "FilterProducts": """
(gradient, values, table, first, receiver, sender, first_edge, second_edge) => (result)
{{
  one = Constant <value_ints = [1]> ()
  gradient_of_edge = Gather (gradient, receiver)
  value_of_edge = Gather (values, sender)
  products = Mul (gradient_of_edge, value_of_edge)
  channels = Shape <start = 1> (products)
  one_row = Concat <axis = 0> (one, channels)
  nothing = ConstantOfShape (one_row)
  none = CastLike (nothing, products)
  products_and_none = Concat <axis = 0> (products, none)
  n_edges = Shape (receiver)
  first_or_none = Min (first_edge, n_edges)
  second_or_none = Min (second_edge, n_edges)
  of_first = Gather (products_and_none, first_or_none)
  of_second = Gather (products_and_none, second_or_none)
  of_pair = Add (of_first, of_second)
  result = {domain}.DotRows{suffix} (of_pair, table, first)
}}
""",
}
"""Operator -> signature and meaning; what is given of pairs and edges is said in kim_export/table_operators.cpp."""


def add_functions(model: ModelProto, opset: int) -> None:
    """Add what the operators of ours in a model mean to the model, which is changed.

    Args:
        model: With or without such operators.
        opset: Version of ONNX's operators.
    """
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    if not used:
        return
    for suffix in SUFFIXES.values():
        # Those that others are made of come first.
        names = [f"{name}{suffix}" for name in _BODIES]
        if used & set(names):
            model.functions.extend(_function(name, suffix, opset) for name in _BODIES)
    if DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def _function(name: str, suffix: str, opset: int) -> FunctionProto:
    head = f'<opset_import: ["" : {opset}, "{DOMAIN}" : 1], domain: "{DOMAIN}"> {name}{suffix} '
    return onnx.parser.parse_function(head + _BODIES[name].format(domain=DOMAIN, suffix=suffix))


def _weighted_rows(table: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    name = f"{DOMAIN}::WeightedRows{SUFFIXES[table.dtype]}"
    shape = (first.shape[0], table.shape[1])
    return symbolic(name, (table, first, weights), dtype=table.dtype, shape=shape, version=1)


def _dot_rows(gradient: Tensor, table: Tensor, first: Tensor) -> Tensor:
    name = f"{DOMAIN}::DotRows{SUFFIXES[table.dtype]}"
    return symbolic(name, (gradient, table, first), dtype=table.dtype, shape=(first.shape[0], 6), version=1)


TABLE_DECOMPOSITIONS: Final[dict[Any, Any]] = {ROWS: _weighted_rows, DOTS: _dot_rows}
"""Operator of `kimgnn.nn.rows` that needs to know nothing of edges -> the operator in ONNX."""


def operator_node(graph: Graph, name: str, inputs: Sequence[Any], like: Node, shape: Sequence[Any]) -> Node:
    """Add an operator to a traced graph, and return its node.

    Args:
        graph: Where it is inserted.
        name: One of ours, without the precision.
        inputs: Nodes, in the operator's order.
        like: Traced, in the precision of the result.
        shape: Of the result.
    """
    dtype = like.meta["val"].dtype
    return graph.call_function(
        symbolic,
        (f"{DOMAIN}::{name}{SUFFIXES[dtype]}", tuple(inputs)),
        {"dtype": dtype, "shape": tuple(shape), "version": 1},
    )
