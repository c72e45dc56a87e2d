"""A continuous-filter convolution over pairs of atoms, with derivatives that are convolutions themselves.

The filter of a pair serves both of its edges. Then ``y = W * x``, ``y_i = Σ_j W_ij x_j``, is symmetric: its derivative
by ``x``, along ``g``, is ``W * g``; that by the filter of a pair is ``x_i g_j + x_j g_i``, whose own derivatives are
convolutions again. So derivatives of any order never hold more than pairs, where autograd's would hold edges.

The sums add edges to atoms one after the other, which a compiler makes slow and threads out of order. For compiled
steps (`kimgnn.training.compiled_step`) the edges of each atom lie in a rectangle of slots, and are added up along it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from kimgnn.nn.inputs import GraphInputs


class PairEnds(NamedTuple):
    """The two atoms of each pair, ``(n_pairs,)`` int64."""

    first: Tensor
    second: Tensor


class Slots(NamedTuple):
    """The edges of each receiver in a column, as many rows as the most that one has: ``(n_slots, n_nodes)`` each.

    Attributes:
        pair: int64, of an edge; 0 in a slot without one.
        sender: int64, likewise.
        filled: float64, 1 where there is an edge, 0 where there is none.
    """

    pair: Tensor
    sender: Tensor
    filled: Tensor


_SLOTS: Final[ContextVar[Slots | None]] = ContextVar("_SLOTS", default=None)


def slots_of(edge_index: Tensor, pair_of_edge: Tensor, n_nodes: int) -> Slots:
    """Return the slots of a graph.

    Args:
        edge_index: ``(2, n_edges)`` int64, sorted by receiver.
        pair_of_edge: ``(n_edges,)`` int64.
        n_nodes: Atoms.
    """
    sender, receiver = edge_index[0], edge_index[1]
    counts = torch.bincount(receiver, minlength=n_nodes)
    n_slots = int(counts.max()) if n_nodes else 0
    row = torch.arange(receiver.shape[0], device=receiver.device) - (counts.cumsum(0) - counts)[receiver]
    place = row * n_nodes + receiver
    columns = [pair_of_edge, sender, torch.ones_like(sender, dtype=torch.float64)]
    return Slots(*(x.new_zeros(n_slots * n_nodes).index_copy_(0, place, x).view(n_slots, n_nodes) for x in columns))


@contextmanager
def in_slots(slots: Slots) -> Iterator[None]:
    """Have convolutions, and their derivatives, add up the edges of the graph in its slots."""
    token = _SLOTS.set(slots)
    try:
        yield
    finally:
        _SLOTS.reset(token)


def pair_ends(inputs: GraphInputs) -> PairEnds | None:
    """Return the pairs of a graph that every layer takes whole, each edge of which has one back; ``None`` otherwise."""
    if inputs.pairs is None or inputs.copies is not None:
        return None
    n_edges = inputs.edge_index.shape[1]
    if any(count != n_edges for count in inputs.edge_counts) or any(n != inputs.z.shape[0] for n in inputs.node_counts):
        return None
    edge_of_pair = inputs.pairs[0]
    return PairEnds(
        inputs.edge_index[0].index_select(0, edge_of_pair), inputs.edge_index[1].index_select(0, edge_of_pair)
    )


def pair_convolution(filters: Tensor, x: Tensor, ends: PairEnds) -> Tensor:
    """Return the sum over each atom's neighbours of their features times the filter of the pair.

    Args:
        filters: ``(n_pairs, channels)``.
        x: ``(n_nodes, channels)``.
        ends: Of the pairs.

    Returns:
        ``(n_nodes, channels)``. It can be derived any number of times.
    """
    # Two nodes of autograd's graph: what is derived by one of the two does not compute the other's derivative.
    by_x: Tensor = _ByFeatures.apply(x, [filters], ends)  # type: ignore[no-untyped-call]
    by_filters: Tensor = _ByFilters.apply(filters, [x], ends)  # type: ignore[no-untyped-call]
    return by_x + by_filters


def _sums(filters: Tensor, x: Tensor, ends: PairEnds) -> Tensor:
    if (slots := _SLOTS.get()) is not None:
        pair, sender, filled = slots
        return (filters[pair] * x[sender] * filled.to(x.dtype).unsqueeze(-1)).sum(dim=0)
    first, second = ends
    sums = torch.zeros_like(x).index_add_(0, second, x.index_select(0, first).mul_(filters))
    return sums.index_add_(0, first, x.index_select(0, second).mul_(filters))


class _ByFeatures(torch.autograd.Function):
    """The convolution, derived by the features.

    The filters come in a list, out of autograd's sight: else this would be run for their sake too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: list[Tensor], ends: PairEnds) -> Tensor:
        ctx.save_for_backward(held[0])
        ctx.ends = ends
        return _sums(held[0], x, ends)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (filters,) = ctx.saved_tensors
        return pair_convolution(filters, grad, ctx.ends), None, None


class _ByFilters(torch.autograd.Function):
    """Nothing, with the convolution's derivative by the filters; the features come in a list likewise."""

    @staticmethod
    def forward(ctx: Any, filters: Tensor, held: list[Tensor], ends: PairEnds) -> Tensor:
        ctx.save_for_backward(held[0])
        ctx.ends = ends
        return held[0].new_zeros(()).expand_as(held[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _PairProduct.apply(x, grad, ctx.ends), None, None  # type: ignore[no-untyped-call]


class _PairProduct(torch.autograd.Function):
    """``x_i g_j + x_j g_i`` of each pair, ``(n_pairs, channels)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, ends: PairEnds) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.ends = ends
        first, second = ends
        product = x.index_select(0, first).mul_(g.index_select(0, second))
        return product.addcmul_(x.index_select(0, second), g.index_select(0, first))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, g = ctx.saved_tensors
        return pair_convolution(grad, g, ctx.ends), pair_convolution(grad, x, ctx.ends), None
