"""A network's energies and their gradient as one graph of tensor operations, with every count dynamic.

The backward pass is traced along with the forward one, so that a runtime without automatic differentiation computes
forces. Formats whose files take nothing but tensors are told how many nodes, edges and pairs each layer uses by the
lengths of tensors.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from kimgnn.errors import ExportError
from kimgnn.export.contract import exported_members, refuse_unless_potential
from kimgnn.models.network import Network

aten = torch.ops.aten


def trace(network: Network, decompositions: Mapping[Any, Callable[..., Any]] | None = None) -> GraphModule:
    """Return the graph of a function of the tensors that `example_inputs` names to atomic energies and gradient.

    That of an ensemble returns the members' too. They follow one another, so that the memory of one serves the next.

    Args:
        network: A network that can be a potential.
        decompositions: Operation of torch -> the function of other operations to trace in its place.

    Raises:
        ExportError: The network cannot be a potential, or torch cannot trace it.
    """
    refuse_unless_potential(network)
    potentials = exported_members(network)
    layers = network.num_layers

    def energy_and_gradient(
        species_codes: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        edge_of_pair: Tensor,
        pair_of_edge: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        bonds, prefixes = (rest[:2], rest[2:]) if network.uses_triplets else ((), rest)
        nodes, edges, pairs, *others = (
            [prefix.shape[0] for prefix in prefixes[start : start + layers]]
            for start in range(0, len(prefixes), layers)
        )
        # The first layer uses all edges, pairs and triplets: said so that no operation cuts them there.
        edges[0], pairs[0] = edge_index.shape[1], edge_of_pair.shape[0]
        triplets: Any = None
        if network.uses_triplets:
            triplets = (*bonds, [bonds[0].shape[0], *others[0][1:]])
        vectors = edge_vectors.detach().requires_grad_()
        energies: list[Tensor] = []
        gradients: list[Tensor] = []
        for potential in potentials:
            said = potential.atomic_energies(
                species_codes, edge_index, vectors, nodes, edges, (edge_of_pair, pair_of_edge, pairs), triplets
            )
            gradients += torch.autograd.grad(said.sum(), vectors)
            energies.append(said.detach())
        if len(potentials) == 1:
            return energies[0], gradients[0]
        of_members = torch.stack(energies), torch.stack(gradients)
        return of_members[0].mean(0), of_members[1].mean(0), *of_members

    tracer = make_fx(
        energy_and_gradient, dict(decompositions or {}), tracing_mode="symbolic", _allow_non_fake_inputs=True
    )
    try:
        module = tracer(*example_inputs(network).values())
    except Exception as error:  # torch raises many kinds on what it cannot trace
        raise ExportError(f"torch cannot trace the model and its gradient:\n{error}", where="export") from error
    for node, name in zip(module.graph.find_nodes(op="placeholder"), example_inputs(network), strict=True):
        node.target = name
    return simplified(module)


def simplified(module: GraphModule) -> GraphModule:
    """Return a traced network in which nothing is overwritten, without effect or done twice."""
    for node in list(module.graph.nodes):
        _without_mutation(node)
        without_effect(node)
    _share_constants(module)
    shared: Any = CSEPass()(module)  # the backward pass repeats parts of the forward one, and members of each other
    module = shared.graph_module
    module.graph.eliminate_dead_code()
    module.recompile()
    return module.eval()


def example_inputs(network: Network) -> dict[str, Tensor]:
    """Return the inputs of a traced network by name, of a graph in which no two counts are equal.

    They are those of `kimgnn.export.contract.StagedGraph`, with an edge of each pair and the pair of each edge in the
    place of the reverse edges and, of networks that use them, both edges of each triplet; then a tensor for each layer,
    whose length is how many nodes, edges, pairs or triplets it uses. Tracing tells dimensions by their sizes; the graph
    is a staged chain in which each receiver hears from the three nodes after it, and what the values of pairs and
    triplets mean does not matter.
    """
    degree, hop, layers = 3, 5, network.num_layers
    n_receivers = [hop * (layers - layer) + 1 for layer in range(layers)]
    n_edges = [degree * count for count in n_receivers]
    n_pairs = [count - 1 for count in n_edges]
    receiver = torch.arange(n_receivers[0]).repeat_interleave(degree)
    sender = receiver + 1 + torch.arange(degree).repeat(n_receivers[0])
    edges = torch.arange(n_edges[0])
    inputs = {
        "species_codes": torch.zeros(n_receivers[0] + hop, dtype=torch.int64),
        "edge_index": torch.stack([sender, receiver]),
        "edge_vectors": torch.ones(n_edges[0], 3, dtype=torch.float64),
        "edge_of_pair": edges[1:],
        "pair_of_edge": edges.clamp(max=n_pairs[-1] - 1),
    }
    counts = {"nodes": n_receivers, "edges": n_edges, "pairs": n_pairs}
    if network.uses_triplets:
        counts["triplets"] = [7 * count + 2 for count in n_edges]
        second = torch.arange(counts["triplets"][0]) % n_edges[-1]
        # Two tensors: one that is given twice is traced as one input.
        inputs |= {"triplet_first": second.clone(), "triplet_second": second}
    return inputs | {
        f"{kind}_{layer}": torch.arange(count)
        for kind, of_kind in counts.items()
        for layer, count in enumerate(of_kind)
    }


def shape_of(node: Any) -> tuple[str, ...]:
    """Return a traced tensor's dimensions; two are spelled alike if they are equal whatever the inputs."""
    return tuple(str(dimension) for dimension in node.meta["val"].shape)


def _without_mutation(node: Node) -> None:
    """Make an operation that overwrites its input one that returns a new tensor."""
    operation: Any = node.target
    if not isinstance(operation, torch._ops.OpOverload) or not operation._schema.is_mutable:
        return
    if len(node.all_input_nodes[0].users) > 1:
        raise ExportError(
            f"the model overwrites a tensor that it uses elsewhere, in {operation}",
            where="export",
            remedy="Write the operation without the underscore.",
        )
    packet = getattr(aten, operation._schema.name.removeprefix("aten::").removesuffix("_"))
    node.target = getattr(packet, operation._overloadname)


def _share_constants(module: GraphModule) -> None:
    """Let members of an ensemble use one tensor where theirs are equal, as of what they make of distances."""
    seen: list[tuple[Tensor, Node]] = []
    for node in list(module.graph.find_nodes(op="get_attr")):
        found = getattr(module, str(node.target))
        first = next((other for known, other in seen if found.dtype == known.dtype and torch.equal(found, known)), None)
        if first is None:
            seen.append((found, node))
        else:
            node.replace_all_uses_with(first)
            module.graph.erase_node(node)


def without_effect(node: Node) -> None:
    """Remove a detachment, for nothing is differentiated here, and a slice or an expansion that takes all there is."""
    prefixes = (aten.expand.default, aten.slice.Tensor, aten.slice_backward.default)
    if node.target is aten.detach.default or (
        node.target in prefixes and shape_of(node) == shape_of(node.all_input_nodes[0])
    ):
        node.replace_all_uses_with(node.all_input_nodes[0])
