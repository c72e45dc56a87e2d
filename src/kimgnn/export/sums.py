"""Sums over edges without a scatter: the terms of each sum are gathered beside one another and reduced.

ONNX Runtime's reducing ``ScatterND`` loses updates when it runs on several threads, and its ``ScatterElements`` runs on
one. In a padded graph (see `kimgnn.export.onnx_padding`) the terms of every sum over edges that a message-passing
network takes, forwards and backwards, stand at known places: the edges of a receiver follow each other, those of a
sender are the reverses of its own, and a pair has two. Tables that say so become inputs of the graph.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Final, NamedTuple

from torch.fx import Graph, GraphModule, Node

from kimgnn.errors import ExportError
from kimgnn.export.table_operators import operator_node
from kimgnn.export.tracing import aten, shape_of
from kimgnn.nn.rows import PRODUCTS, SUM

TABLES: Final = ("edges_of_sender", "first_edge_of_pair", "second_edge_of_pair", "pair_of_vector")
"""Inputs that are added: ``(n_receivers, degree)``, twice ``(n_pairs,)``, and ``(n_edges,)`` int64.

The edges that leave a node, the two edges of a pair, the pair that an edge vector is used for. An index beyond the
terms that a layer has stands for none.
"""


class _Sum(NamedTuple):
    """A sum whose terms stand at known places: over this index into so many rows, of so many terms, by these tables.

    Each table names terms of a row: one, or as many as it has columns. Without any, the terms follow each other.
    """

    over: Node
    rows: str
    terms: str | None
    tables: tuple[Node, ...]


def replace_scatters(module: GraphModule, layers: int) -> None:
    """Gather the terms of sums over edges in a traced network, which gets `TABLES` as further inputs.

    A sum over another index than an edge's sender, its receiver or its pair becomes a ``scatter_add``, which ONNX
    Runtime computes correctly, on one thread.

    Args:
        module: What `kimgnn.export.tracing.trace` returned; it is changed.
        layers: Message-passing layers.
    """
    graph = module.graph
    last_input = graph.find_nodes(op="placeholder")[-1]
    with graph.inserting_after(last_input):
        tables = [graph.placeholder(name) for name in reversed(TABLES)][::-1]
    sums = list(_known_sums(module, tables, layers))

    for node in graph.find_nodes(op="call_function", target=SUM):
        with graph.inserting_before(node):
            node.replace_all_uses_with(_filtered_sum(graph, node, sums))
        graph.erase_node(node)
    for node in graph.find_nodes(op="call_function", target=PRODUCTS):
        with graph.inserting_before(node):
            node.replace_all_uses_with(_filter_products(graph, node, tables))
        graph.erase_node(node)
    for node in graph.find_nodes(op="call_function", target=aten.index_add.default):
        target: Any
        target, dimension, index, source = node.args
        with graph.inserting_before(node):
            known = next((s for s in sums if _is_prefix(index, s.over) and shape_of(target)[0] == s.rows
                          and s.terms in (None, shape_of(index)[0])), None)  # fmt: skip
            if known is None or dimension != 0 or target.target is not aten.new_zeros.default:
                shape = [1] * source.meta["val"].dim()
                shape[dimension] = -1
                spread = graph.call_function(aten.view.default, (index, shape))
                spread = graph.call_function(aten.expand_as.default, (spread, source))
                result = graph.call_function(aten.scatter_add.default, (target, dimension, spread, source))
            else:
                result = _sum_of_terms(graph, source, index, known.tables, target.args[1])
        node.replace_all_uses_with(result)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _filtered_sum(graph: Graph, node: Node, sums: Sequence[_Sum]) -> Node:
    """Return our operator of a sum of filtered values, whose edges stand at known places."""
    values, table, first, weights, source, target, pair, n_rows = node.args
    known = next((s for s in sums if _is_prefix(target, s.over) and shape_of(node)[0] == s.rows
                  and s.terms in (None, shape_of(target)[0])), None)  # fmt: skip
    if known is None:
        raise ExportError("a layer with a table sums over other than the ends of its edges", where="export.tabulate")
    if known.tables:
        edges = graph.call_function(aten.slice.Tensor, (known.tables[0], 0, 0, n_rows))
    else:
        n_edges = graph.call_function(aten.sym_size.int, (target, 0))
        every_edge = graph.call_function(aten.arange.default, (n_edges,))
        edges = graph.call_function(aten.view.default, (every_edge, [n_rows, -1]))
    inputs = (values, table, first, weights, source, pair, edges)
    return operator_node(graph, "FilteredSum", inputs, node, (n_rows, node.meta["val"].shape[1]))


def _filter_products(graph: Graph, node: Node, tables: Sequence[Node]) -> Node:
    """Return our operator of the derivative of such a sum by the weights of its pairs."""
    gradient, values, table, first, source, target, _ = node.args
    n_pairs = graph.call_function(aten.sym_size.int, (first, 0))
    edges = [graph.call_function(aten.slice.Tensor, (edge_of_pair, 0, 0, n_pairs)) for edge_of_pair in tables[1:3]]
    inputs = (gradient, values, table, first, target, source, *edges)
    return operator_node(graph, "FilterProducts", inputs, node, (n_pairs, node.meta["val"].shape[1]))


def _known_sums(module: GraphModule, tables: list[Node], layers: int) -> Iterator[_Sum]:
    """Yield the sums whose terms stand at known places."""
    inputs = {node.target: node for node in module.graph.find_nodes(op="placeholder")}
    edge_index, edge_vectors = inputs["edge_index"], inputs["edge_vectors"]
    edge_of_pair, pair_of_edge = inputs["edge_of_pair"], inputs["pair_of_edge"]
    edges_of_sender, first_of_pair, second_of_pair, pair_of_vector = tables
    nodes, edges, pairs = (
        [shape_of(inputs[f"{kind}_{layer}"])[0] for layer in range(layers)] for kind in ("nodes", "edges", "pairs")
    )
    edges[0], pairs[0] = shape_of(edge_index)[1], shape_of(edge_of_pair)[0]
    ends = {end.args[2]: end for end in edge_index.users if end.target is aten.select.int}
    for layer in range(layers):
        if 1 in ends:
            yield _Sum(ends[1], nodes[layer], edges[layer], ())
        if 0 in ends:
            yield _Sum(ends[0], nodes[layer], None, (edges_of_sender,))
        yield _Sum(pair_of_edge, pairs[layer], None, (first_of_pair, second_of_pair))
    yield _Sum(edge_of_pair, shape_of(edge_vectors)[0], None, (pair_of_vector,))


def _is_prefix(index: Any, whole: Node) -> bool:
    while index.target is aten.slice.Tensor and index.args[1:3] == (0, 0):
        index = index.args[0]
    return index is whole


def _sum_of_terms(graph: Graph, source: Node, index: Node, tables: tuple[Node, ...], shape: Any) -> Node:
    """Return a sum of ``shape`` over the rows of ``source`` that the tables name."""
    rows, *rest = shape
    if not tables:
        beside = graph.call_function(aten.view.default, (source, [rows, -1, *rest]))
        return graph.call_function(aten.sum.dim_IntList, (beside, [1]))
    n_terms = graph.call_function(aten.sym_size.int, (index, 0))
    none = graph.call_function(aten.new_zeros.default, (source, [1, *rest]))
    terms = graph.call_function(aten.cat.default, ([source, none],))
    found = [_terms_of(graph, terms, n_terms, table, shape) for table in tables]
    return reduce(lambda total, term: graph.call_function(aten.add.Tensor, (total, term)), found)


def _terms_of(graph: Graph, terms: Node, none: Node, table: Node, shape: Any) -> Node:
    """Return the rows of ``terms`` that a table names, summed over its columns if it has any."""
    rows, *rest = shape
    places = graph.call_function(aten.slice.Tensor, (table, 0, 0, rows))
    has_columns = table.target == TABLES[0]
    if has_columns:
        places = graph.call_function(aten.view.default, (places, [-1]))
    places = graph.call_function(aten.clamp.default, (places, None, none))
    found = graph.call_function(aten.index_select.default, (terms, 0, places))
    if has_columns:
        found = graph.call_function(aten.view.default, (found, [rows, -1, *rest]))
        found = graph.call_function(aten.sum.dim_IntList, (found, [1]))
    return found
