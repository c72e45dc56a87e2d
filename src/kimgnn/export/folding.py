"""What does not depend on a structure, computed when a network is exported.

An activation that subtracts a constant, as the shifted softplus does, costs a pass over all features of all edges. As
``(x - c) W + b = x W + (b - c Σ W)``, the pass is saved. And what linear layers make of the rows of a table, as of what
an atom begins with, is a table again.
"""

from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from kimgnn.export.tracing import aten


def fold_shifts(module: GraphModule) -> None:
    """Rewrite each linear layer of a difference of features and a constant; ``module`` is changed.

    Args:
        module: What `kimgnn.export.tracing.trace` returned.
    """
    for node in list(module.graph.find_nodes(op="call_function", target=aten.addmm.default)):
        bias, features, weight = node.args
        if features.target is not aten.sub.Tensor or weight.target is not aten.t.default:
            continue
        shifted, shift = features.args
        constants = [_constant(module, constant) for constant in (bias, shift, weight.args[0])]
        if any(constant is None for constant in constants) or constants[1].numel() != 1:
            continue
        new_bias = _new_constant(module, node, constants[0] - constants[1] * constants[2].sum(1))
        node.args = (new_bias, shifted, weight)
    module.graph.eliminate_dead_code()
    module.recompile()


def fold_tables(module: GraphModule) -> None:
    """Rewrite linear layers of rows of a table as rows of another table; ``module`` is changed, as by `fold_shifts`."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default):
            continue
        *bias, rows, weight = node.args
        if (
            rows.target not in (aten.index_select.default, aten.embedding.default)
            or weight.target is not aten.t.default
        ):
            continue
        table, index = rows.args[0], rows.args[-1]
        constants = [_constant(module, constant) for constant in (*bias, table, weight.args[0])]
        if any(constant is None for constant in constants):
            continue
        *shifts, of_rows, map_of_rows = constants
        new_table = _new_constant(module, node, sum(shifts, of_rows @ map_of_rows.T))
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_function(aten.index_select.default, (new_table, 0, index)))
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _constant(module: GraphModule, node: Any) -> Any:
    """The tensor that a node stands for, if it is one that no input changes."""
    return getattr(module, str(node.target)) if isinstance(node, Node) and node.op == "get_attr" else None


def _new_constant(module: GraphModule, user: Node, value: Tensor) -> Node:
    name = f"_folded{len(list(module.named_buffers()))}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(user):
        return module.graph.get_attr(name)
