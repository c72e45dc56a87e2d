"""Tables in the place of what a layer makes of a distance: B-splines at it, and weighted sums of rows of a table."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kimgnn.nn.layer_edges import LayerEdges
from kimgnn.nn.rows import filtered_sum, rows_from, weighted_rows
from kimgnn.nn.splines import POWERS


class SplineBasis(nn.Module):
    """In the place of a basis, for layers whose maps are a `Table`: the B-splines that are not zero at a distance.

    Scripts and traces, in the precision that the module is cast to.

    Args:
        cutoff: Å; beyond it, the splines are constant.
        intervals: Of the tables.
    """

    def __init__(self, cutoff: float, intervals: int) -> None:
        super().__init__()
        # Buffers, not Python numbers: ONNX export rounds Python numbers to float32.
        self.register_buffer("per_length", torch.tensor(intervals / cutoff, dtype=torch.float64))
        self.register_buffer("last", torch.tensor(intervals - 1.0, dtype=torch.float64))
        self.register_buffer("of_powers", torch.tensor(POWERS, dtype=torch.float64) / 120.0)
        self.per_length: Tensor
        self.last: Tensor
        self.of_powers: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Return the weights of six rows of coefficients, and the number of the first of them, ``(n, 7)``."""
        places = distances * self.per_length
        first = torch.minimum(places.detach().floor(), self.last)
        inside = (places - first).clamp(max=1.0)
        square = inside * inside
        powers = [torch.ones_like(inside), inside, square, square * inside, square * square, square * square * inside]
        weights = torch.stack(powers, dim=1) @ self.of_powers
        return torch.cat([weights, first.unsqueeze(1)], dim=1)


class Table(nn.Module):
    """A spline that stays as it is, of what `SplineBasis` says of distances.

    Args:
        coefficients: ``(intervals + 5, channels)``.
    """

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients)
        self.coefficients: Tensor

    def forward(self, basis: Tensor) -> Tensor:
        """Return ``(n, channels)``; it can be derived by the weights in ``basis``."""
        weights, first = _rows_and_weights(basis)
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return functional.embedding_bag(rows_from(first), self.coefficients, mode="sum", per_sample_weights=weights)
        return weighted_rows(self.coefficients, first, weights)

    @torch.jit.unused
    def sum_of_messages(self, values: Tensor, edges: LayerEdges) -> Tensor:
        """Return sums of what senders say, filtered, ``(n_receivers, channels)``, with no array of edges on the way.

        Args:
            values: ``(n_nodes, channels)``.
            edges: Whose edges form pairs. A filter is what the table says of a pair, times its envelope.
        """
        weights, first = _rows_and_weights(edges.basis)
        if edges.envelope is not None:
            weights = weights * edges.envelope.unsqueeze(-1)
        ends = (edges.sender, edges.receiver, edges.pair_of_edge)
        return filtered_sum(values, self.coefficients, first, weights, *ends, edges.n_receivers)


def _rows_and_weights(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights ``(n, 6)``, and the first of their rows ``(n,)`` int64."""
    return basis[:, :6], basis.detach()[:, 6].to(torch.int64)
