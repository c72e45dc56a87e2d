"""Tables that live for one step of training: what layers make of distances, at the sites of a spline instead.

The weights of the maps are evaluated at the sites, and derived there; the derivatives by the distance, which forces
need, are those of the spline. So no second derivative goes through the maps, whatever the number of distances.
"""

import torch
from torch import Tensor, nn

from kimgnn.nn.splines import BESIDE, Places, coefficients_of, sites


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
        self.at_sites: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Return ``(n,)`` distances as they are, or what the basis makes of them where tables do not pay."""
        self.places = None
        # Finding the nearest neighbours on a GPU would wait for it, and sites cost little there.
        skipped = 0
        if len(distances) and not distances.is_cuda:
            skipped = min(int(distances.detach().min() / self.spacing), self.intervals - 1)
        if len(distances) < self.intervals - skipped + 2 * BESIDE + 1:
            return self.exact(distances)
        self.sites = self.sites.to(distances)
        self.places = Places(distances, self.intervals, self.spacing, skipped)
        self.at_sites = self.exact(self.sites[skipped:])
        return distances

    def forget(self) -> None:
        """Let go of the batch."""
        self.places = None


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
