"""A function of the distance as a quintic spline: what a network makes of a distance, from a table.

The values at evenly spaced distances give the coefficients of B-splines of degree five, so that the spline has four
continuous derivatives, and its derivative is that of the spline, not another table. The coefficients are a weighted sum
of seven values, the first terms of the inverse of the B-splines' own values (Unser, Aldroubi & Eden, IEEE Trans. Signal
Process. 41, 821, 1993); with spacing h the error falls as h⁶.
"""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kimgnn.nn.rows import PLAIN, ROWS, rows_from

BESIDE = 5
"""Values that are needed beyond each end."""

POWERS = (
    (1, 26, 66, 26, 1, 0),
    (-5, -50, 0, 50, 5, 0),
    (10, 20, -60, 20, 10, 0),
    (-10, 20, 0, -20, 10, 0),
    (5, -20, 30, -20, 5, 0),
    (-1, 5, -10, 10, -5, 1),
)
"""120 times the six B-splines that are not zero in an interval, by powers of the place in it."""


def sites(cutoff: float, intervals: int) -> Tensor:
    """Return the distances, Å, where a function's values are needed, ``(intervals + 1 + 2 * BESIDE,)``.

    They go from a little below 0 to a little beyond the cutoff.
    """
    return torch.arange(-BESIDE, intervals + BESIDE + 1, dtype=torch.float64) * (cutoff / intervals)


def coefficients_of(values: Tensor) -> Tensor:
    """Return the coefficients ``(intervals + 5, channels)`` of the spline through values at `sites`."""
    if torch.is_grad_enabled() and values.requires_grad:
        result: Tensor = _Coefficients.apply(values)  # type: ignore[no-untyped-call]
        return result
    second = _second_difference(values)
    fourth = _second_difference(second)
    sixth = _second_difference(fourth)
    return values[3:-3] - second[2:-2] / 4 + (13 / 240) * fourth[1:-1] - (11 / 960) * sixth


def spline(lengths: Tensor, coefficients: Tensor, spacing: float, order: int = 0) -> Tensor:
    """Return a spline, or a derivative of it by the distance, at distances.

    It can be derived by the distance any number of times, then by the coefficients once. What a derivative needs is
    computed only where it is taken.

    Args:
        lengths: ``(n,)`` Å, from 0; beyond the last interval, the spline is constant.
        coefficients: ``(intervals + 5, channels)``.
        spacing: Å between two values.
        order: Of the derivative.

    Returns:
        ``(n, channels)``, in the coefficients' precision.
    """
    return Places(lengths, coefficients.shape[0] - 5, spacing).spline(coefficients, order)


class Places:
    """Where distances are in tables of one size: what is found once for all of these.

    Args:
        lengths: ``(n,)`` Å, from 0.
        intervals: Of the tables.
        spacing: Å between two values.
        skipped: Intervals, from the first, in which there is no distance, and whose coefficients the tables leave out.
    """

    def __init__(self, lengths: Tensor, intervals: int, spacing: float, skipped: int = 0) -> None:
        self.lengths = lengths
        self._intervals = intervals
        self._spacing = spacing
        self._skipped = skipped
        self._found: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._columns: Columns | None = None

    def spline(self, coefficients: Tensor, order: int = 0) -> Tensor:
        """Return a spline, or a derivative of it, as `spline` does, of ``(intervals - skipped + 5, channels)``."""
        result: Tensor = _SparseProduct.apply(coefficients, *self._matrix(order, coefficients.dtype))  # type: ignore[no-untyped-call]
        if torch.is_grad_enabled() and self.lengths.requires_grad:
            result = result + _ByLength.apply(self.lengths, [coefficients], self, order)  # type: ignore[no-untyped-call]
        return result

    def _matrix(self, order: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the matrix from coefficients to values, ``(n, rows)``, and its transpose."""
        if (order, dtype) not in self._found:
            first, weights = basis_at(self.lengths.detach(), self._intervals, self._spacing, order)
            rows, weights = self._intervals - self._skipped + 5, weights.to(dtype).reshape(-1)
            n = first.shape[0]
            columns = rows_from(first - self._skipped).reshape(-1)
            if self._columns is None:
                self._columns = columns_of(columns, rows)
            ends, by_column = self._columns
            row_of = torch.div(by_column, 6, rounding_mode="floor")
            self._found[order, dtype] = (
                _sparse(torch.arange(0, 6 * n + 1, 6, device=first.device), columns, weights, (n, rows)),
                _sparse(ends, row_of, weights[by_column], (rows, n)),
            )
        return self._found[order, dtype]


class Columns(NamedTuple):
    """The matrix of a `Places` by columns, each of which is a row of the table.

    Attributes:
        ends: ``(rows + 1,)`` int64, where each column's entries begin and the last one's end.
        by_column: ``(6 n,)`` int64, which entries these are, six for each distance.
    """

    ends: Tensor
    by_column: Tensor


def columns_of(columns: Tensor, rows: int) -> Columns:
    """Return the order of entries, given the column of each, ``(6 n,)`` int64, and how many columns there are."""
    by_column = torch.argsort(columns, stable=True)
    return Columns(torch.searchsorted(columns[by_column], torch.arange(rows + 1, device=columns.device)), by_column)


class PlacesFound(Places):
    """The same where all that depends on numbers was found before, and sums of rows stand for sparse matrices.

    Compiled steps (`kimgnn.training.compiled_step`) can hold neither.

    Args:
        lengths: See `Places`.
        intervals: Likewise.
        spacing: Likewise.
        skipped: Likewise, ``()`` int64.
        first: ``(n,)`` int64, of `basis_at`: a length that is rounded otherwise here is not to be elsewhere.
        columns: Of the matrix.
    """

    def __init__(
        self, lengths: Tensor, intervals: int, spacing: float, skipped: Tensor, first: Tensor, columns: Columns
    ) -> None:
        super().__init__(lengths, intervals, spacing)
        self._from, self._first, self._by_columns = skipped, first, columns
        self._kept: dict[tuple[int, torch.dtype], tuple[_SixRows, _Transpose]] = {}

    def _matrix(self, order: int, dtype: torch.dtype) -> tuple[Any, Any]:
        if (order, dtype) not in self._kept:
            _, weights = basis_at(self.lengths.detach(), self._intervals, self._spacing, order, self._first)
            weights = weights.to(dtype)
            rows, transpose = self._first - self._from, self._by_columns
            self._kept[order, dtype] = _SixRows(rows, weights), _Transpose(transpose, weights.reshape(-1))
        return self._kept[order, dtype]


class _SixRows(NamedTuple):
    """A matrix with six entries in a row, one after the other."""

    first: Tensor
    weights: Tensor

    def __matmul__(self, table: Tensor) -> Tensor:
        result: Tensor = PLAIN[ROWS](table, self.first, self.weights)
        return result


class _Transpose(NamedTuple):
    """Its transpose."""

    columns: Columns
    weights: Tensor

    def __matmul__(self, table: Tensor) -> Tensor:
        ends, by_column = self.columns
        return functional.embedding_bag(
            torch.div(by_column, 6, rounding_mode="floor"),
            table,
            ends,
            mode="sum",
            per_sample_weights=self.weights[by_column],
            include_last_offset=True,
        )


def basis_at(
    lengths: Tensor, intervals: int, spacing: float, order: int = 0, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the B-splines that are not zero at distances, or their derivatives by the distance.

    Args:
        lengths: ``(n,)`` Å.
        intervals: Of the table.
        spacing: Å between two values.
        order: Of the derivative.
        first: What is returned first, where it is known already.

    Returns:
        The first of the six rows of coefficients that a distance needs ``(n,)`` int64, and their weights ``(n, 6)``.
    """
    place = lengths / spacing
    if first is None:
        first = place.detach().floor().clamp(0, intervals - 1).to(torch.int64)
    inside = (place - first).clamp(max=1.0)
    powers = [torch.ones_like(inside)]
    for _ in range(5):
        powers.append(powers[-1] * inside)
    for _ in range(order):
        powers = [torch.zeros_like(inside), *[(k + 1) / spacing * power for k, power in enumerate(powers[:-1])]]
    of_powers = torch.tensor(POWERS, dtype=lengths.dtype, device=lengths.device) / 120.0
    weights = torch.stack(powers, dim=1) @ of_powers
    if order > 0:
        weights = weights * (place <= intervals).unsqueeze(1)
    return first, weights


def _second_difference(values: Tensor) -> Tensor:
    return values[2:] - 2.0 * values[1:-1] + values[:-2]


class _Coefficients(torch.autograd.Function):
    """`coefficients_of`, whose sums of seven values are the same forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return coefficients_of(values.detach())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        beyond = grad.new_zeros(6, grad.shape[1])
        return coefficients_of(torch.cat([beyond, grad, beyond]))  # torch.pad leaves no size open


class _SparseProduct(torch.autograd.Function):
    """Weighted sums of six rows of a table, derived by the table alone, and once: the weights are not followed."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose @ grad, None, None


class _ByLength(torch.autograd.Function):
    """Nothing, with the derivative of the spline by the distance: found only when it is asked for.

    The coefficients come in a list, out of autograd's sight: else this would be run for their sake too.
    """

    @staticmethod
    def forward(ctx: Any, lengths: Tensor, held: list[Tensor], places: Places, order: int) -> Tensor:
        ctx.held, ctx.places, ctx.order = held, places, order
        return held[0].new_zeros(()).expand(lengths.shape[0], held[0].shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        slope = ctx.places.spline(ctx.held[0], ctx.order + 1)
        return (grad * slope).sum(dim=1).to(ctx.places.lengths.dtype), None, None, None


def _sparse(ends: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a matrix in compressed rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that their interface may change
        return torch.sparse_csr_tensor(ends, columns, values, size, check_invariants=False)
