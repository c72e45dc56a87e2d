"""Tables that live for one step of training: what layers make of distances, at the sites of a spline instead.

The weights of the maps are evaluated at the sites, and derived there; the derivatives by the distance, which forces
need, are those of the spline. So no second derivative goes through the maps, whatever the number of distances.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kimgnn.nn.rows import rows_from
from kimgnn.nn.splines import BESIDE, Columns, Places, PlacesFound, basis_at, coefficients_of, columns_of, sites


class FoundPlaces(NamedTuple):
    """Where the distances of a batch are in tables, for a compiled step, which cannot find it itself.

    Attributes:
        sites: ``(n_sites,)`` Å.
        skipped: ``()`` int64: see `kimgnn.nn.splines.Places`.
        first: ``(n,)`` int64, the first of the six rows of coefficients of each distance, counted without skipping.
        columns: See `kimgnn.nn.splines.Columns`; its ends are as many as the sites, more than there are columns, so
            that one size stands for both.
    """

    sites: Tensor
    skipped: Tensor
    first: Tensor
    columns: Columns


class StepBasis(nn.Module):
    """In the place of a trunk's basis, for layers whose maps are a `StepMap`.

    A batch with fewer distances than sites is computed as without tables.

    Args:
        basis: Distances ``(n,)`` Å to ``(n, size)``.
        cutoff: Å.
        intervals: Of the tables.
    """

    def __init__(self, basis: nn.Module, cutoff: float, intervals: int) -> None:
        super().__init__()
        self.exact = basis
        self.intervals = intervals
        self.spacing = cutoff / intervals
        self.sites = sites(cutoff, intervals)
        self.places: Places | None = None
        self.found: FoundPlaces | None = None
        self.at_sites: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Return ``(n,)`` distances as they are, or what the basis makes of them where tables do not pay."""
        self.places = None
        if self.found is not None:
            found = self.found
            columns = found.columns._replace(ends=found.columns.ends[:-BESIDE])
            self.places = PlacesFound(distances, self.intervals, self.spacing, found.skipped, found.first, columns)
            self.at_sites = self.exact(found.sites)
            return distances
        skipped = self.skipped(distances)
        if skipped is None:
            return self.exact(distances)
        self.sites = self.sites.to(distances)
        self.places = Places(distances, self.intervals, self.spacing, skipped)
        self.at_sites = self.exact(self.sites[skipped:])
        return distances

    def skipped(self, distances: Tensor) -> int | None:
        """Return the intervals that lie below all distances, or ``None`` where tables do not pay."""
        skipped = 0
        # Finding the nearest neighbours on a GPU would wait for it, and sites cost little there.
        if len(distances) and not distances.is_cuda:
            skipped = min(int(distances.detach().min() / self.spacing), self.intervals - 1)
        return None if len(distances) < self.intervals - skipped + 2 * BESIDE + 1 else skipped

    def find(self, distances: Tensor) -> FoundPlaces | None:
        """Return where distances are, for a compiled step, or ``None`` where tables do not pay."""
        skipped = self.skipped(distances)
        if skipped is None:
            return None
        first, _ = basis_at(distances, self.intervals, self.spacing)
        self.sites = self.sites.to(distances)
        sites = self.sites[skipped:]
        columns = columns_of(rows_from(first - skipped).reshape(-1), sites.shape[0] - 1)
        return FoundPlaces(sites, torch.tensor(skipped), first, columns)

    def forget(self) -> None:
        """Let go of the batch."""
        self.places = self.found = None


class StepMap(nn.Module):
    """A map of a basis as a spline at the places that a `StepBasis` found.

    Args:
        of_basis: ``(n, size)`` to ``(n, channels)``.
        basis: The trunk's.
    """

    def __init__(self, of_basis: nn.Module, basis: StepBasis) -> None:
        super().__init__()
        self.exact = of_basis
        self.basis = basis

    def forward(self, distances: Tensor) -> Tensor:
        """Return ``(n, channels)`` of what the `StepBasis` returned."""
        places = self.basis.places
        if places is None:
            exact: Tensor = self.exact(distances)
            return exact
        with torch.autocast(distances.device.type, enabled=False):  # there are few sites, and all depends on them
            return places.spline(coefficients_of(self.exact(self.basis.at_sites)))
