"""Tables in the place of what a layer makes of a distance: a basis, then a map of it."""

from torch import Tensor, nn

from kimgnn.nn.splines import coefficients_of, sites, spline


class Distances(nn.Module):
    """In the place of a basis, for layers whose maps are tables."""

    def forward(self, distances: Tensor) -> Tensor:
        """Return ``(n,)`` distances, Å, as they are."""
        return distances


class TabulatedMap(nn.Module):
    """A map of a basis of distances as a spline, which follows the weights of the map.

    Args:
        basis: Distances ``(n,)`` Å to ``(n, size)``.
        of_basis: ``(n, size)`` to ``(n, channels)``.
        cutoff: Å.
        intervals: Of the table.
    """

    def __init__(self, basis: nn.Module, of_basis: nn.Module, cutoff: float, intervals: int) -> None:
        super().__init__()
        self.basis = basis
        self.of_basis = of_basis
        self.spacing = cutoff / intervals
        self.register_buffer("sites", sites(cutoff, intervals), persistent=False)
        self.sites: Tensor

    def coefficients(self) -> Tensor:
        """Return the spline's coefficients for the weights of now, ``(intervals + 5, channels)``."""
        weights = next(self.of_basis.parameters())
        return coefficients_of(self.of_basis(self.basis(self.sites.to(weights.dtype))))

    def forward(self, distances: Tensor) -> Tensor:
        """Return ``(n, channels)`` of ``(n,)`` distances, Å."""
        return spline(distances, self.coefficients(), self.spacing)
