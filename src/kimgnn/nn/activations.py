"""Activation functions."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional


class ShiftedSoftplus(nn.Module):
    """``ln(e^x / 2 + 1/2)``, zero at zero and smooth (Schütt et al. 2018, section II.B)."""

    def __init__(self) -> None:
        super().__init__()
        # A buffer, not a Python number: ONNX export rounds Python numbers to float32.
        self.register_buffer("shift", torch.log(torch.tensor(2.0, dtype=torch.float64)), persistent=False)
        self.shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Apply element by element; any shape."""
        # Above the threshold torch returns x itself; at 40 the step is below float64's rounding.
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            if self.training:
                softplus: Tensor = _Softplus.apply(x, torch.sigmoid(x))  # type: ignore[no-untyped-call]
                return softplus - self.shift.to(x.dtype)
        return functional.softplus(x, 1.0, 40.0).sub_(self.shift.to(x.dtype))


class _Softplus(torch.autograd.Function):
    """``ln(1 + e^x)``, given its slope: torch's second derivative is nine operations, that of the slope is one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return functional.softplus(x, 1.0, 40.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None


class LeakyReLU(nn.Module):
    """``max(x, 0.2 x)``, of the slope that attention networks have (Veličković et al. 2018, section 2.1)."""

    def __init__(self) -> None:
        super().__init__()
        # A buffer, not a Python number: ONNX export rounds Python numbers to float32.
        self.register_buffer("slope", torch.tensor(0.2, dtype=torch.float64), persistent=False)
        self.slope: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Apply element by element; any shape."""
        return torch.maximum(x, self.slope.to(x.dtype) * x)


Activation: TypeAlias = Literal["shifted_softplus", "softplus", "silu", "relu"]
"""A name of `ACTIVATIONS`; ReLU bends, so that forces of a network with it jump."""

ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "shifted_softplus": ShiftedSoftplus,
    # Not torch's threshold of 20, where the energy of a potential would jump by 2e-9.
    "softplus": partial(nn.Softplus, threshold=40.0),
    "silu": nn.SiLU,
    "relu": nn.ReLU,
}
"""Name -> activation function."""


def make_activation(name: str) -> nn.Module:
    """Return the activation function of that name."""
    return ACTIVATIONS[name]()
