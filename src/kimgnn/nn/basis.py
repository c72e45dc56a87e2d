"""Expansions of a distance in a basis."""

import torch
from torch import Tensor, nn


class GaussianBasis(nn.Module):
    """``exp(-(d - μ_k)² / 2σ²)`` with centres μ_k evenly spaced from 0 to the cutoff.

    Schütt et al. 2018, equation 8, with γ = 1/2σ².

    Args:
        cutoff: Centre of the last Gaussian, Å.
        num_gaussians: Number of Gaussians, at least two.
        width: σ in Å; the spacing of the centres when ``None``.
    """

    def __init__(self, cutoff: float, num_gaussians: int, width: float | None = None) -> None:
        super().__init__()
        centres = torch.linspace(0.0, cutoff, num_gaussians, dtype=torch.float64)
        sigma = (centres[1] - centres[0]) if width is None else torch.tensor(width, dtype=torch.float64)
        self.register_buffer("centres", centres, persistent=False)
        # Buffers, not Python numbers: ONNX export rounds Python numbers to float32.
        self.register_buffer("steepness", torch.sqrt(0.5 / sigma**2), persistent=False)
        self.centres: Tensor
        self.steepness: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Expand ``(n_edges,)`` distances, Å, to ``(n_edges, num_gaussians)``."""
        root = (self.steepness * distances).unsqueeze(-1) - self.steepness * self.centres
        exponent = -torch.square(root)
        if not distances.requires_grad:
            # Where nothing is derived: numbers so small that float32 cannot hold them cost a multiple of others.
            exponent = exponent.clamp(min=-80.0)
        return torch.exp(exponent)
