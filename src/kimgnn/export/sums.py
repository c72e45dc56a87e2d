"""Sums over edges without a scatter: the terms of each sum are gathered beside one another and reduced.

ONNX Runtime's reducing ``ScatterND`` loses updates when it runs on several threads, and its ``ScatterElements`` runs on
one. In a padded graph (see `kimgnn.export.onnx_padding`) the terms of every sum over edges that a message-passing
network takes, forwards and backwards, stand at known places: the edges of a receiver follow each other, those of a
sender are the reverses of its own, and a pair has two. Tables that say so become inputs of the graph.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from torch.fx import Graph, GraphModule, Node

from kimgnn.export.tracing import aten, shape_of

TABLES: Final = ("edges_of_sender", "edges_of_pair", "pair_of_vector")
"""Inputs that are added: ``(n_receivers, degree)``, ``(n_pairs, 2)`` and ``(n_edges, 1)`` int64.

The edges that leave a node, the edges of a pair, the pair that an edge vector is used for. An index beyond the terms
that a layer has stands for none.
"""


class _Sum(NamedTuple):
    """A sum whose terms stand at known places: over this index into so many rows, of so many terms, by this table."""

    over: Node
    rows: str
    terms: str | None
    table: Node | None


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
                rows, *rest = target.args[1]
                if known.table is not None:
                    source = _gather_terms(graph, source, index, known.table, target.args[1])
                beside = graph.call_function(aten.view.default, (source, [rows, -1, *rest]))
                result = graph.call_function(aten.sum.dim_IntList, (beside, [1]))
        node.replace_all_uses_with(result)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _known_sums(module: GraphModule, tables: list[Node], layers: int) -> Iterator[_Sum]:
    """Yield the sums whose terms stand at known places."""
    _, edge_index, edge_vectors, edge_of_pair, pair_of_edge, *prefixes = module.graph.find_nodes(op="placeholder")
    edges_of_sender, edges_of_pair, pair_of_vector = tables
    nodes, edges, pairs = (
        [shape_of(prefix)[0] for prefix in prefixes[start : start + layers]] for start in range(0, 3 * layers, layers)
    )
    edges[0], pairs[0] = shape_of(edge_index)[1], shape_of(edge_of_pair)[0]
    ends = {end.args[2]: end for end in edge_index.users if end.target is aten.select.int}
    for layer in range(layers):
        if 1 in ends:
            yield _Sum(ends[1], nodes[layer], edges[layer], None)
        if 0 in ends:
            yield _Sum(ends[0], nodes[layer], None, edges_of_sender)
        yield _Sum(pair_of_edge, pairs[layer], None, edges_of_pair)
    yield _Sum(edge_of_pair, shape_of(edge_vectors)[0], None, pair_of_vector)


def _is_prefix(index: Any, whole: Node) -> bool:
    while index.target is aten.slice.Tensor and index.args[1:3] == (0, 0):
        index = index.args[0]
    return index is whole


def _gather_terms(graph: Graph, source: Node, index: Node, table: Node, shape: Any) -> Node:
    """Return the rows of ``source`` that the table names, for a sum of ``shape``; zeros where there is none."""
    rows, *rest = shape
    n_terms = graph.call_function(aten.sym_size.int, (index, 0))
    places = graph.call_function(aten.slice.Tensor, (table, 0, 0, rows))
    places = graph.call_function(aten.view.default, (places, [-1]))
    places = graph.call_function(aten.clamp.default, (places, None, n_terms))
    none = graph.call_function(aten.new_zeros.default, (source, [1, *rest]))
    terms = graph.call_function(aten.cat.default, ([source, none],))
    return graph.call_function(aten.index_select.default, (terms, 0, places))
