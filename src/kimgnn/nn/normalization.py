"""Normalisations of rows of features."""

from torch import Tensor, nn
from torch.nn import functional


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that, in training too, takes the running statistics where a batch has none of its own.

    A batch of isolated atoms has no edges and one of a single atom has no spread; torch refuses both.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows, ``(n, num_features)``."""
        if self.training and x.shape[0] < 2:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def make_normalization(name: str, channels: int) -> nn.Module:
    """Return the normalisation called ``name``, ``none``, ``batch`` or ``layer``, of rows of ``channels`` features."""
    if name == "batch":
        return RowBatchNorm(channels)
    return nn.LayerNorm(channels) if name == "layer" else nn.Identity()
