"""What the composition of a structure says: fractions of its elements, or statistics of their properties."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kimgnn.nn.pooling import pool

Features: TypeAlias = Literal["magpie", "fractions"]
"""Magpie's 132 statistics of 22 properties, or the fraction of each of the network's elements."""

N_PROPERTIES: Final = 22
"""Properties of an element in Magpie's table."""

N_STATISTICS: Final = 6
"""Statistics of each."""


class ElementStatistics(nn.Module):
    """Minimum, maximum, range, mean, average deviation and mode of properties over a composition.

    Ward et al., npj Comput. Mater. 2, 16028 (2016); the mode is the property of the most frequent element, the smallest
    one where several are equally frequent (to 1e-5, as in matminer).

    Args:
        n_elements: Rows of the table.

    Attributes:
        table: ``(n_elements, 22)``, a row for each element; NaN until it is set. It is part of the weights' file, so
            that a network is read without what the table comes from.
    """

    def __init__(self, n_elements: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.full((n_elements, N_PROPERTIES), torch.nan, dtype=torch.float64))
        # A buffer, not a Python number: ONNX export rounds Python numbers to float32.
        self.register_buffer("nearly", torch.tensor(1.0 - 1e-5, dtype=torch.float64), persistent=False)
        self.table: Tensor
        self.nearly: Tensor

    def forward(self, fractions: Tensor) -> Tensor:
        """Return ``(n_graphs, 132)``, the statistics of each property in turn, of ``(n_graphs, n_elements)``."""
        shares, table = fractions.unsqueeze(-1), self.table.unsqueeze(0)
        present = shares > 0
        most = shares >= self.nearly * shares.amax(1, keepdim=True)
        beyond = torch.full_like(table, float("inf"))
        lowest = torch.where(present, table, beyond).amin(1)
        highest = torch.where(present, table, -beyond).amax(1)
        mean = (shares * table).sum(1)
        deviation = (shares * (table - mean.unsqueeze(1)).abs()).sum(1)
        mode = torch.where(most, table, beyond).amin(1)
        return torch.stack([lowest, highest, highest - lowest, mean, deviation, mode], dim=-1).flatten(1)


class CompositionFeatures(nn.Module):
    """Features of the composition of structures, in units of their spread over the training set.

    Args:
        features: Which.
        atomic_numbers: Of the elements; the features of a structure with another one are NaN.

    Attributes:
        n_features: Columns.
        statistics: Of properties; ``None`` where the features are the fractions themselves.
        mean: ``(n_features,)``, subtracted.
        spread: ``(n_features,)``, what is left is divided by it.
    """

    def __init__(self, features: Features, atomic_numbers: Sequence[int]) -> None:
        super().__init__()
        n_elements = len(atomic_numbers)
        self.statistics = ElementStatistics(n_elements) if features == "magpie" else None
        self.n_features = N_STATISTICS * N_PROPERTIES if features == "magpie" else n_elements
        rows = torch.full((119, n_elements), torch.nan, dtype=torch.float64)
        rows[list(atomic_numbers)] = torch.eye(n_elements, dtype=torch.float64)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("mean", torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(self.n_features, dtype=torch.float64))
        self.rows: Tensor
        self.mean: Tensor
        self.spread: Tensor

    def set_table(self, table: Tensor) -> None:
        """Take Magpie's table, ``(n_elements, 22)``; nothing where the features are the fractions."""
        if self.statistics is not None:
            self.statistics.table.copy_(table)

    def set_scale(self, features: Tensor) -> None:
        """Take mean and spread of ``(n_structures, n_features)`` as `forward` returned them with the scale before."""
        found = features * self.spread + self.mean
        spread = found.std(0, correction=0)
        self.mean = found.mean(0)
        # A feature that is the same in all of them, rounding aside, says nothing; it is not blown up.
        self.spread = torch.where(spread > 1e-8 * found.abs().amax(0), spread, torch.ones_like(spread))

    def forward(self, z: Tensor, node_graph: Tensor | None, n_graphs: int) -> Tensor:
        """Return ``(n_graphs, n_features)`` float64; arguments as those of `kimgnn.heads.property.PropertyHead`."""
        features = pool(self.rows.index_select(0, z), node_graph, n_graphs, "mean")
        if self.statistics is not None:
            features = self.statistics(features)
        return (features - self.mean) / self.spread
