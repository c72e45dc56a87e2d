"""Normalisations of rows of features, of which some may stand for several equal ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that, in training too, takes the running statistics where a batch has none of its own.

    A batch of isolated atoms has no edges and one of a single atom has no spread; torch refuses both.
    """

    def forward(self, x: Tensor, copies: Tensor | None = None) -> Tensor:
        """Normalise rows, ``(n, num_features)``, each of which counts ``copies`` ``(n,)`` times; once when absent."""
        if self.training and copies is not None:
            return self.of_copies(x, copies)
        if self.training and x.shape[0] < 2:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)

    @torch.jit.unused
    def of_copies(self, x: Tensor, copies: Tensor) -> Tensor:
        """Normalise rows by the statistics of all that they stand for, as if each were there so often."""
        if x.shape[0] < 2:
            return self(x.repeat_interleave(copies.to(torch.int64), dim=0))[: x.shape[0]]
        with torch.autocast(x.device.type, enabled=False):  # which would give statistics of three digits
            return self._by_shares(x.to(self.weight.dtype), copies.to(self.weight.dtype))

    def _by_shares(self, x: Tensor, copies: Tensor) -> Tensor:
        shares = copies / copies.sum()
        mean = shares @ x
        centred = x - mean
        variance = shares @ centred.square()
        with torch.no_grad():
            unbiased = variance / (1.0 - 1.0 / copies.sum())
            for name, now in (("running_mean", mean), ("running_var", unbiased)):
                getattr(self, name).lerp_(now, self.momentum)
            getattr(self, "num_batches_tracked").add_(1)  # noqa: B009 (torch types it as optional)
        return centred * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias


class RowLayerNorm(nn.LayerNorm):
    """Normalisation of each row by itself."""

    def forward(self, x: Tensor, copies: Tensor | None = None) -> Tensor:
        """Normalise rows, ``(n, num_features)``, however often they count."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class NoNorm(nn.Module):
    """The place of a normalisation where there is none."""

    def forward(self, x: Tensor, copies: Tensor | None = None) -> Tensor:
        """Return ``x``."""
        return x


def make_normalization(name: str, channels: int) -> nn.Module:
    """Return the normalisation called ``name``, ``none``, ``batch`` or ``layer``, of rows of ``channels`` features."""
    if name == "batch":
        return RowBatchNorm(channels)
    return RowLayerNorm(channels) if name == "layer" else NoNorm()
