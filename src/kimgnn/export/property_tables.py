"""Sums over the edges of an atom, the atoms of a structure and the like, in an ONNX file of properties.

ONNX's own sums at indices are slow, or wrong on several threads (see `kimgnn.export.sums`). What is summed stands
together in a batch, so that a table can name the terms of each sum: a row for each atom or structure, with as many
columns as the longest sum has terms. The file makes its tables itself; a place that stands for no term is one beyond
the last.
"""

from __future__ import annotations

from typing import Any, Final

import onnx.parser
from onnx import ModelProto, compose, helper
from torch.fx import GraphModule, Node

from kimgnn.errors import ExportError
from kimgnn.export.onnx_padding import OPSET
from kimgnn.export.tracing import aten

STRUCTURE_OF_ATOM: Final = "structure_of_atom"
"""An input of the traced network that the file fills: (n_atoms,) int64."""

TABLES: Final = ("edges_of_atom", "atoms_of_structure", "edges_of_structure", "triplets_of_edge")
"""Further ones: ``(n_atoms, …)``, twice ``(n_structures, …)``, and ``(n_edges, …)`` int64."""

# Counted along the batch: sizes are tensors of one number. What a user has to keep to is looked at on the way: where it
# is not so, an index is out of range, and ONNX Runtime's message has the name of the node.
_BATCH: Final = """
<ir_version: 10, opset_import: ["" : {opset}]>
batch ({inputs}) => ({outputs})
<int64 zero = {{0}}, int64 one = {{1}}, int64[1] zeros = {{0}}, int64[1] ones = {{1}}, int64[1] last = {{-1}},
 int64[1] end = {{9223372036854775807}}>
{{
  n_atoms = Shape (z)
  atom_ends = CumSum (atom_counts, zero)
  atom_starts = Sub (atom_ends, atom_counts)
  atoms_counted = Gather (atom_ends, last)
  all_counted = Equal (atoms_counted, n_atoms)
  some_missing = Not (all_counted)
  some_missing_number = Cast <to = 7> (some_missing)
  no_missing = Gather (zeros, some_missing_number)
  unmarked = ConstantOfShape <value = int64[1] {{0}}> (n_atoms)
  counts_shape = Shape (atom_counts)
  marks = ConstantOfShape <value = int64[1] {{1}}> (counts_shape)
  marked = ScatterElements <reduction = "add"> (unmarked, atom_starts, marks)
  structure_from_one = CumSum (marked, zero)
  after_first = Sub (one, no_missing)
  structure_of_atom = Sub (structure_from_one, after_first)
  {tables}
}}
"""

_COUNT: Final = """
  {t}_before = Slice ({index}, zeros, last, zeros)
  {t}_after = Slice ({index}, ones, end, zeros)
  {t}_falls = Less ({t}_after, {t}_before)
  {t}_falls_number = Cast <to = 7> ({t}_falls)
  {t}_falls_or_none = Concat <axis = 0> ({t}_falls_number, zeros)
  {t}_unsorted = ReduceMax <keepdims = 1> ({t}_falls_or_none)
  {t}_sorted = Gather (zeros, {t}_unsorted)
  {t}_terms = Shape ({index})
  {t}_none = Add ({t}_terms, {t}_sorted)
  {t}_zeros = ConstantOfShape <value = int64[1] {{0}}> ({rows})
  {t}_units = ConstantOfShape <value = int64[1] {{1}}> ({t}_terms)
  {t}_counts = ScatterElements <reduction = "add"> ({t}_zeros, {index}, {t}_units)
  {t}_ends = CumSum ({t}_counts, zero)
  {t}_starts = Sub ({t}_ends, {t}_counts)
"""

_TABLE: Final = """
  {t}_most = ReduceMax <keepdims = 0> ({counts})
  {t}_width = Max ({t}_most, one)
  {t}_places = Range (zero, {t}_width, one)
  {t}_first = Unsqueeze ({starts}, ones)
  {t}_end = Unsqueeze ({ends}, ones)
  {t}_any = Add ({t}_first, {t}_places)
  {t}_there = Less ({t}_any, {t}_end)
  {t} = Where ({t}_there, {t}_any, {none})
"""

_INDICES: Final = {
    "edges_of_atom": ("receiver = Gather (edge_index, one)", "receiver", "n_atoms"),
    "edges_of_structure": (
        "owner = Gather (edge_index, one)\n  structure_of_edge = Gather (structure_of_atom, owner)",
        "structure_of_edge",
        "counts_shape",
    ),
    "triplets_of_edge": (
        "second = Gather (triplets, one)\n  n_edges = Shape (length_of_edge)",
        "second",
        "n_edges",
    ),
}
"""Table -> what finds the row of each of its terms, what this is called, and how many rows there are."""

_MESSAGES: Final = {
    "no_missing": "atom_counts_must_add_up_to_the_atoms",
    "edges_of_atom_sorted": "edges_must_be_sorted_by_receiver",
    "edges_of_structure_sorted": "edges_must_be_sorted_by_structure",
    "triplets_of_edge_sorted": "triplets_must_be_sorted_by_second_edge",
}
"""Result -> the name of the node that fails where it cannot be."""


def gather_sums(module: GraphModule) -> None:
    """Gather the terms of sums over indices in a traced network, which has `TABLES` as inputs.

    A sum over another index than those of the tables becomes a ``scatter_add``, which ONNX Runtime computes correctly,
    on one thread.

    Args:
        module: What `kimgnn.export.tracing.simplified` returned; it is changed.
    """
    graph = module.graph
    inputs = {node.target: node for node in graph.find_nodes(op="placeholder")}
    for node in graph.find_nodes(op="call_function", target=aten.index_add.default):
        target: Any
        target, dimension, index, source = node.args
        table = _table_of(index, inputs)
        with graph.inserting_before(node):
            if table is None or dimension != 0 or not _is_zero(target) or source.meta["val"].dim() != 2:
                shape = [1] * source.meta["val"].dim()
                shape[dimension] = -1
                spread = graph.call_function(aten.view.default, (index, shape))
                spread = graph.call_function(aten.expand_as.default, (spread, source))
                result = graph.call_function(aten.scatter_add.default, (target, dimension, spread, source))
            else:
                none = graph.call_function(aten.new_zeros.default, (source, [1, target.args[1][1]]))
                terms = graph.call_function(aten.cat.default, ([source, none],))
                found = graph.call_function(aten.embedding.default, (terms, table))  # rows at an array of places
                result = graph.call_function(aten.sum.dim_IntList, (found, [1]))
        node.replace_all_uses_with(result)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def with_tables(network: ModelProto, inputs: str) -> ModelProto:
    """Return a model that takes a batch, around one that takes tables too.

    Args:
        network: Changed.
        inputs: Types and names of the inputs of a batch, in ONNX's language.

    Raises:
        ExportError: The network has further inputs.
    """
    used = {name for node in network.graph.node for name in node.input}
    tables = [name for name in TABLES if name in used]
    filled = [f"int64[_{name}] {name}" for name in (STRUCTURE_OF_ATOM, *tables) if name in used]
    text = _BATCH.format(
        opset=OPSET, inputs=inputs, outputs=", ".join([*filled, "int64[1] no_missing"]),
        tables="".join(_text_of(name) for name in tables),
    )  # fmt: skip
    batch = onnx.parser.parse_model(text)
    for node in batch.graph.node:
        node.name = _MESSAGES.get(node.output[0], node.output[0])
    inside = compose.add_prefix(network, "network.", rename_inputs=False, rename_outputs=False)
    given = {value.name for value in batch.graph.input}
    if foreign := used & {value.name for value in network.graph.input} - given - {STRUCTURE_OF_ATOM, *tables}:
        raise ExportError("the network has inputs that nothing fills", where="export", value=", ".join(foreign))
    graph = helper.make_graph(
        [*batch.graph.node, *inside.graph.node],
        "properties",
        batch.graph.input,
        inside.graph.output,
        [*batch.graph.initializer, *inside.graph.initializer],
    )
    return helper.make_model(graph, opset_imports=network.opset_import, ir_version=network.ir_version)


def _text_of(table: str) -> str:
    if table not in _INDICES:
        return _TABLE.format(t=table, counts="atom_counts", starts="atom_starts", ends="atom_ends", none="n_atoms")
    index, name, rows = _INDICES[table]
    own = {"counts": f"{table}_counts", "starts": f"{table}_starts", "ends": f"{table}_ends", "none": f"{table}_none"}
    return f"{index}{_COUNT.format(t=table, index=name, rows=rows)}{_TABLE.format(t=table, **own)}"


def _table_of(index: Node, inputs: dict[Any, Node]) -> Node | None:
    """Return the table whose rows an index counts, or ``None``."""
    structures = inputs[STRUCTURE_OF_ATOM]
    if index is structures:
        return inputs["atoms_of_structure"]
    if _is_second_row(index, inputs["edge_index"]):
        return inputs["edges_of_atom"]
    if "triplets" in inputs and _is_second_row(index, inputs["triplets"]):
        return inputs["triplets_of_edge"]
    if index.target is aten.index_select.default and index.args[:2] == (structures, 0):
        of_edge: Any = index.args[2]
        return inputs["edges_of_structure"] if _is_second_row(of_edge, inputs["edge_index"]) else None
    return None


def _is_second_row(node: Node, of: Node) -> bool:
    return node.target is aten.select.int and node.args == (of, 0, 1)


def _is_zero(node: Any) -> bool:
    return node.target is aten.new_zeros.default
