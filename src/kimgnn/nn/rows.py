"""Sums of six rows of a table that follow each other, and of messages with such sums as filters, as operators of torch.

Export formats recognise them; where a format has nothing better, the functions of the same meaning without a name stand
for them (`PLAIN`). TorchScript, which knows torch's own operators alone, never sees them.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

N_ROWS: Final = 6
"""Rows that are summed: B-splines of degree five that are not zero at a distance."""


def rows_from(first: Tensor) -> Tensor:
    """Return the numbers of the rows ``(n, 6)`` int64, given those of the first ``(n,)``; scripts in TorchScript."""
    return first.unsqueeze(1) + torch.arange(6, device=first.device)


@torch.library.custom_op("kimgnn::weighted_rows", mutates_args=())
def weighted_rows(table: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of rows, ``(n, channels)``, which can be derived by the weights.

    Args:
        table: ``(rows, channels)``.
        first: ``(n,)`` int64, the first of the six rows.
        weights: ``(n, 6)``.
    """
    return functional.embedding_bag(rows_from(first), table, mode="sum", per_sample_weights=weights)


@torch.library.custom_op("kimgnn::dot_rows", mutates_args=())
def dot_rows(gradient: Tensor, table: Tensor, first: Tensor) -> Tensor:
    """Return the scalar products of ``gradient`` ``(n, channels)`` with the six rows, ``(n, 6)``."""
    return (table[rows_from(first)] @ gradient.unsqueeze(2)).squeeze(2)


@torch.library.custom_op("kimgnn::filtered_sum", mutates_args=())
def filtered_sum(
    values: Tensor,
    table: Tensor,
    first: Tensor,
    weights: Tensor,
    source: Tensor,
    target: Tensor,
    pair: Tensor,
    n_rows: int,
) -> Tensor:
    """Return sums over edges of values times filters, ``(n_rows, channels)``, derived by values and weights.

    Args:
        values: ``(n_nodes, channels)``.
        table: See `weighted_rows`, whose results for the pairs are the filters.
        first: ``(n_pairs,)`` int64.
        weights: ``(n_pairs, 6)``.
        source: ``(n_edges,)`` int64, whose value an edge carries.
        target: ``(n_edges,)`` int64, where to.
        pair: ``(n_edges,)`` int64, of each edge.
        n_rows: Nodes that are summed for.
    """
    return _filtered_sum(values, weighted_rows(table, first, weights), source, target, pair, n_rows)


@torch.library.custom_op("kimgnn::filter_products", mutates_args=())
def filter_products(
    gradient: Tensor, values: Tensor, table: Tensor, first: Tensor, source: Tensor, target: Tensor, pair: Tensor
) -> Tensor:
    """Return the derivative of `filtered_sum` by its weights, ``(n_pairs, 6)``, given that by its results."""
    return dot_rows(_products(gradient, values, source, target, pair, first.shape[0]), table, first)


def _filtered_sum(values: Tensor, filters: Tensor, source: Tensor, target: Tensor, pair: Tensor, n_rows: int) -> Tensor:
    messages = values.index_select(0, source) * filters.index_select(0, pair)
    return messages.new_zeros(n_rows, messages.shape[1]).index_add(0, target, messages)


def _products(gradient: Tensor, values: Tensor, source: Tensor, target: Tensor, pair: Tensor, n_pairs: int) -> Tensor:
    products = gradient.index_select(0, target) * values.index_select(0, source)
    return products.new_zeros(n_pairs, products.shape[1]).index_add(0, pair, products)


def _plain_rows(table: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    total = weights[:, :1] * table.index_select(0, first)
    for k in range(1, N_ROWS):
        total = total + weights[:, k : k + 1] * table.index_select(0, first + k)
    return total


def _plain_dots(gradient: Tensor, table: Tensor, first: Tensor) -> Tensor:
    return torch.stack([(gradient * table.index_select(0, first + k)).sum(dim=1) for k in range(N_ROWS)], dim=1)


def _plain_sum(values: Tensor, table: Tensor, first: Tensor, weights: Tensor, *edges: Any) -> Tensor:
    return _filtered_sum(values, _plain_rows(table, first, weights), *edges)


def _plain_products(
    gradient: Tensor, values: Tensor, table: Tensor, first: Tensor, source: Tensor, target: Tensor, pair: Tensor
) -> Tensor:
    return _plain_dots(_products(gradient, values, source, target, pair, first.shape[0]), table, first)


ROWS: Final = torch.ops.kimgnn.weighted_rows.default
DOTS: Final = torch.ops.kimgnn.dot_rows.default
SUM: Final = torch.ops.kimgnn.filtered_sum.default
PRODUCTS: Final = torch.ops.kimgnn.filter_products.default
"""The operators, as tracers know them."""

PLAIN: Final[dict[Any, Any]] = {ROWS: _plain_rows, DOTS: _plain_dots, SUM: _plain_sum, PRODUCTS: _plain_products}
"""Operator -> a function of torch's own operators, for tracers."""


@weighted_rows.register_fake
def _(table: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    return weights.new_empty(first.shape[0], table.shape[1])


@dot_rows.register_fake
def _(gradient: Tensor, table: Tensor, first: Tensor) -> Tensor:
    return gradient.new_empty(first.shape[0], N_ROWS)


@filtered_sum.register_fake
def _(values: Tensor, table: Tensor, *others: Any) -> Tensor:
    return values.new_empty(others[-1], table.shape[1])


@filter_products.register_fake
def _(gradient: Tensor, values: Tensor, table: Tensor, first: Tensor, *edges: Tensor) -> Tensor:
    return gradient.new_empty(first.shape[0], N_ROWS)


def _keep_rows(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _rows_backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
    table, first = ctx.saved_tensors
    return None, None, dot_rows(gradient, table, first)


def _keep_sum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:7])


def _sum_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    values, table, first, weights, source, target, pair = ctx.saved_tensors
    by_values = by_weights = None
    if ctx.needs_input_grad[0]:
        by_values = filtered_sum(gradient, table, first, weights, target, source, pair, values.shape[0])
    if ctx.needs_input_grad[3]:
        by_weights = filter_products(gradient, values, table, first, source, target, pair)
    return by_values, None, None, by_weights, None, None, None, None


weighted_rows.register_autograd(_rows_backward, setup_context=_keep_rows)
filtered_sum.register_autograd(_sum_backward, setup_context=_keep_sum)
