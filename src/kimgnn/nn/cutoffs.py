"""Envelopes that take a message smoothly to zero at the cutoff."""

import math

import torch
from torch import Tensor, nn


class CosineCutoff(nn.Module):
    """``(cos(π d / r_c) + 1) / 2`` below the cutoff, 0 beyond; value and slope vanish there (Behler 2011)."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("cutoff", torch.tensor(cutoff, dtype=torch.float64), persistent=False)
        self.register_buffer("frequency", torch.tensor(math.pi / cutoff, dtype=torch.float64), persistent=False)
        self.cutoff: Tensor
        self.frequency: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Return the envelope, shape ``(n_edges,)``, of distances in Å."""
        return 0.5 * (torch.cos(self.frequency * distances) + 1.0) * (distances < self.cutoff).to(distances.dtype)


class PolynomialCutoff(nn.Module):
    """Polynomial in ``x = d / r_c`` whose value and first two derivatives vanish at the cutoff.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)``, Gasteiger et al. 2020 (DimeNet), equation 8.

    Args:
        cutoff: Å.
        exponent: p, at least 2; larger keeps the envelope near one for longer.
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__()
        self.exponent = exponent
        self.register_buffer("cutoff", torch.tensor(cutoff, dtype=torch.float64), persistent=False)
        self.cutoff: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Return the envelope, shape ``(n_edges,)``, of distances in Å."""
        p = self.exponent
        x = distances / self.cutoff
        tail = 0.5 * (p + 1) * (p + 2) - p * (p + 2) * x + 0.5 * p * (p + 1) * x**2
        return (1.0 - x**p * tail) * (distances < self.cutoff).to(distances.dtype)


def make_cutoff(name: str, cutoff: float, exponent: int) -> nn.Module:
    """Return the envelope called ``name``: ``cosine`` or ``polynomial``."""
    if name == "polynomial":
        return PolynomialCutoff(cutoff, exponent)
    return CosineCutoff(cutoff)
