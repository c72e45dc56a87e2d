"""From the exported contract to a padded graph and back, as ONNX: what stands around a network traced for ONNX Runtime.

In a padded graph every receiver has equally many edges, so that a receiver's edges are a row of a table and sums over
edges need no scatter (see `kimgnn.export.sums`). Rows are filled up with edges that count for nothing, all of pair 0:
their vectors are twice the cutoff long, where every envelope and its slope are exactly zero. Triplets, of networks that
use them, are those of the edges that are short enough; where there are none, there is one that counts for nothing, for
ONNX Runtime's reductions of no rows have the wrong shape.
"""

from collections.abc import Iterable
from typing import Final

import onnx.parser
from onnx import ModelProto, compose, helper

from kimgnn.export.sums import TABLES

OPSET: Final = 20

_CHANGED: Final = ("edge_index", "edge_vectors", "edge_of_pair", "pair_of_edge")

# A slot is a place in the table of edges: `degree` of them a receiver. Indices one beyond the last stand for none.
_PAD: Final = """
<ir_version: 10, opset_import: ["" : {opset}]>
pad (int64[n_nodes] species_codes, int64[2, n_edges] edge_index, double[n_edges, 3] edge_vectors,
     int64[n_layers] node_counts, int64[n_layers] edge_counts, int64[n_edges] reverse_edge)
 => ({outputs}, int64[n_edges] slot_of_edge)
<int64 zero = {{0}}, int64 one = {{1}}, int64[1] zeros = {{0}}, int64[1] ones = {{1}}, int64[1] flat = {{-1}},
 int64[2] ends = {{2, -1}}, double[1, 3] far = {{{far!r}, 0.0, 0.0}}>
{{
  sender = Gather (edge_index, zero)
  receiver = Gather (edge_index, one)
  n_edges = Shape (reverse_edge)
  all_edges = Squeeze (n_edges)
  edges = Range (zero, all_edges, one)
  n_receivers = Gather (node_counts, zeros)

  nothing = ConstantOfShape <value = int64[1] {{0}}> (n_receivers)
  units = ConstantOfShape <value = int64[1] {{1}}> (n_edges)
  degrees = ScatterElements <reduction = "add"> (nothing, receiver, units)
  largest = ReduceMax <keepdims = 1> (degrees)
  degree = Max (largest, ones)
  first_edge = CumSum <exclusive = 1> (degrees, zero)
  first_edge_of_receiver = Gather (first_edge, receiver)
  place = Sub (edges, first_edge_of_receiver)
  row = Mul (receiver, degree)
  slot_of_edge = Add (row, place)
  n_slots = Mul (n_receivers, degree)
  slot_or_none = Concat <axis = 0> (slot_of_edge, n_slots)

  no_edge = Expand (n_edges, n_slots)
  edge_of_slot = ScatterElements (no_edge, slot_of_edge, edges)
  sender_or_any = Concat <axis = 0> (sender, zeros)
  padded_sender = Gather (sender_or_any, edge_of_slot)
  all_slots = Squeeze (n_slots)
  slots = Range (zero, all_slots, one)
  padded_receiver = Div (slots, degree)
  both_ends = Concat <axis = 0> (padded_sender, padded_receiver)
  padded_edge_index = Reshape (both_ends, ends)
  vectors_and_far = Concat <axis = 0> (edge_vectors, far)
  padded_edge_vectors = Gather (vectors_and_far, edge_of_slot)

  reverse_or_none = Concat <axis = 0> (reverse_edge, n_edges)
  reverse_of_slot = Gather (reverse_or_none, edge_of_slot)
  reverse_slot = Gather (slot_or_none, reverse_of_slot)
  table = Concat <axis = 0> (n_receivers, degree)
  edges_of_sender = Reshape (reverse_slot, table)

  is_first = Less (edges, reverse_edge)
  is_first_number = Cast <to = 7> (is_first)
  pair_of_first = CumSum (is_first_number, zero)
  first_of_two = Min (edges, reverse_edge)
  pair_of_each = Gather (pair_of_first, first_of_two)
  pair_or_far = Concat <axis = 0> (pair_of_each, zeros)
  padded_pair_of_edge = Gather (pair_or_far, edge_of_slot)
  found = NonZero (is_first)
  first_edges = Reshape (found, flat)
  first_slots = Gather (slot_of_edge, first_edges)
  edge_of_slot_number = Cast <to = 11> (edge_of_slot)
  any_padding = ArgMax <axis = 0> (edge_of_slot_number)
  padded_edge_of_pair = Concat <axis = 0> (any_padding, first_slots)
  second_edges = Gather (reverse_edge, first_edges)
  second_slots = Gather (slot_or_none, second_edges)
  first_edge_of_pair = Concat <axis = 0> (n_slots, first_slots)
  second_edge_of_pair = Concat <axis = 0> (n_slots, second_slots)

  n_pairs = Shape (padded_edge_of_pair)
  all_pairs = Squeeze (n_pairs)
  pairs = Range (one, all_pairs, one)
  no_pair = Expand (n_pairs, n_slots)
  pair_of_vector = ScatterElements (no_pair, first_slots, pairs)
  pairs_before = Concat <axis = 0> (zeros, pair_of_first)
  pairs_of_layer = Gather (pairs_before, edge_counts)
  pairs_of_layer_and_far = Add (pairs_of_layer, ones)
  edges_of_layer = Mul (node_counts, degree)
  {layers}
  {triplets}
}}
"""

_TRIPLETS: Final = """
  second_axis = Constant <value_ints = [1]> ()
  reach = Constant <value = double[1] {{{reach!r}}}> ()
  squares = Mul (padded_edge_vectors, padded_edge_vectors)
  squared_lengths = ReduceSum <keepdims = 0> (squares, second_axis)
  squared_reach = Mul (reach, reach)
  is_inner = Less (squared_lengths, squared_reach)

  n_seconds = Gather (edges_of_layer, ones)
  n_candidates = Mul (n_seconds, degree)
  all_candidates = Squeeze (n_candidates)
  candidates = Range (zero, all_candidates, one)
  candidate_second = Div (candidates, degree)
  place_among_firsts = Mod (candidates, degree)
  candidate_sender = Gather (padded_sender, candidate_second)
  first_of_firsts = Mul (candidate_sender, degree)
  candidate_first = Add (first_of_firsts, place_among_firsts)
  first_is_inner = Gather (is_inner, candidate_first)
  second_is_inner = Gather (is_inner, candidate_second)
  is_triplet = And (first_is_inner, second_is_inner)
  found_triplets = NonZero (is_triplet)
  found_numbers = Reshape (found_triplets, flat)
  n_found = Shape (found_numbers)
  are_none = Equal (n_found, zeros)
  n_missing = Cast <to = 7> (are_none)
  any_candidate = ConstantOfShape <value = int64[1] {{0}}> (n_missing)
  which = Concat <axis = 0> (found_numbers, any_candidate)
  triplet_first = Gather (candidate_first, which)
  triplet_second = Gather (candidate_second, which)
"""

_TRIPLETS_OF_LAYER: Final = """
  layer_after_{k} = Constant <value_ints = [{after}]> ()
  edges_after_{k} = Gather (edges_of_layer, layer_after_{k})
  is_needed_{k} = Less (triplet_second, edges_after_{k})
  is_needed_number_{k} = Cast <to = 7> (is_needed_{k})
  count_triplets_{k} = ReduceSum <keepdims = 1> (is_needed_number_{k})
  triplets_{k} = ConstantOfShape <value = int64[1] {{0}}> (count_triplets_{k})
"""

_LAYER: Final = """
  layer_{k} = Constant <value_ints = [{k}]> ()
  count_nodes_{k} = Gather (node_counts, layer_{k})
  nodes_{k} = ConstantOfShape <value = int64[1] {{0}}> (count_nodes_{k})
  count_edges_{k} = Gather (edges_of_layer, layer_{k})
  edges_{k} = ConstantOfShape <value = int64[1] {{0}}> (count_edges_{k})
  count_pairs_{k} = Gather (pairs_of_layer_and_far, layer_{k})
  pairs_{k} = ConstantOfShape <value = int64[1] {{0}}> (count_pairs_{k})
"""

_UNPAD: Final = """
<ir_version: 10, opset_import: ["" : {opset}]>
unpad (double[n_contributing] padded_atomic_energies, double[n_slots, 3] padded_gradient, int64[n_edges] slot_of_edge)
 => (double[n_contributing] atomic_energies, double[n_edges, 3] gradient)
{{
  atomic_energies = Identity (padded_atomic_energies)
  gradient = Gather (padded_gradient, slot_of_edge)
}}
"""

_UNPAD_MEMBERS: Final = """
<ir_version: 10, opset_import: ["" : {opset}]>
unpad_members (double[{members}, n_contributing] padded_member_energies,
               double[{members}, n_slots, 3] padded_member_gradients, int64[n_edges] slot_of_edge)
 => (double[{members}, n_contributing] member_energies, double[{members}, n_edges, 3] member_gradients)
{{
  member_energies = Identity (padded_member_energies)
  member_gradients = Gather <axis = 1> (padded_member_gradients, slot_of_edge)
}}
"""


def padded_names(names: Iterable[str]) -> list[str]:
    """Return what the inputs of a network on padded graphs must be called, given those of `trace`."""
    return [*(f"padded_{name}" if name in _CHANGED else name for name in names), *TABLES]


def pad_and_unpad(
    network: ModelProto, layers: int, cutoff: float, angle_cutoff: float | None, members: int = 1
) -> ModelProto:
    """Return a model in the exported contract around one that works on padded graphs.

    Args:
        network: Inputs called as `padded_names` says; outputs as in the contract, after ``padded_``. Changed.
        layers: Message-passing layers.
        cutoff: Å.
        angle_cutoff: Å; edges up to this length form triplets; ``None`` where none are used.
        members: Of an ensemble.
    """
    used = {name for node in network.graph.node for name in node.input}
    outputs = [value.name for value in network.graph.input if value.name in used and value.name != "species_codes"]
    text = _PAD.format(
        opset=OPSET,
        far=2.0 * cutoff,
        layers="".join(_LAYER.format(k=layer) for layer in range(layers)),
        triplets="" if angle_cutoff is None else _triplets(layers, angle_cutoff),
        outputs=", ".join(f"int64[_{name}] {name}" for name in outputs),
    )
    pad = onnx.parser.parse_model(text)
    unpads = [_UNPAD] if members == 1 else [_UNPAD, _UNPAD_MEMBERS]
    unpad = [onnx.parser.parse_model(part.format(opset=OPSET, members=members)).graph for part in unpads]
    inside = compose.add_prefix(network, "network.", rename_inputs=False, rename_outputs=False)
    graph = helper.make_graph(
        [*pad.graph.node, *inside.graph.node, *(node for part in unpad for node in part.node)],
        "potential",
        pad.graph.input,
        [output for part in unpad for output in part.output],
        [*pad.graph.initializer, *inside.graph.initializer],
    )
    return helper.make_model(graph, opset_imports=network.opset_import, ir_version=network.ir_version)


def _triplets(layers: int, angle_cutoff: float) -> str:
    of_layers = [_TRIPLETS_OF_LAYER.format(k=layer, after=layer + 1) for layer in range(layers - 1)]
    return _TRIPLETS.format(reach=angle_cutoff) + "".join(of_layers)
