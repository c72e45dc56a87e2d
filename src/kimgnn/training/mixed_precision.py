"""Mixed precision: training steps whose matrix products have half the bits, by torch's autocast.

The layers of the trunk alone are cast. Weights stay in single precision, and so do the heads: energies of atoms are
products of theirs, and are added up in double precision as ever. Derivatives are those of what was computed. Outside
training (validation, the report, exports) nothing is cast.
"""

from typing import Any, Final

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from kimgnn.errors import ManifestError
from kimgnn.models.network import SplitNetwork

HALVES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of ``training.mixed_precision`` -> what is computed with."""


class _Cast:
    """Casts what a module computes in training, from right before its forward pass until right after."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._contexts: list[torch.autocast] = []

    def begin(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Begin to cast, right before the module's forward pass."""
        if module.training:
            # Of the weights, whose device is not known before training begins.
            context = torch.autocast(next(module.parameters()).device.type, self.dtype)
            context.__enter__()  # type: ignore[no-untyped-call]
            self._contexts.append(context)

    def end(self, module: nn.Module, given: tuple[Any, ...], features: Tensor | None) -> Tensor | None:
        """End, and return what the module returns, in single precision; ``None`` where it failed."""
        if not self._contexts:
            return features
        self._contexts.pop().__exit__(None, None, None)
        return None if features is None else features.to(torch.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Cast":
        return _Cast(self.dtype)


def cast_in_training(network: Any, choice: str) -> None:
    """Have the trunks of a `kimgnn.models.network.Network` compute with so many bits in training mode."""
    trunks = network.trunks.values() if isinstance(network, SplitNetwork) else [network.trunk]
    for trunk in trunks:
        cast = _Cast(HALVES[choice])
        trunk.register_forward_pre_hook(cast.begin)
        trunk.register_forward_hook(cast.end, always_call=True)


def remove_casts(network: nn.Module) -> None:
    """Undo `cast_in_training`, in the network or a copy of it: TorchScript would compile what casts."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), _Cast)]:
                del hooks[key]


class ScaledLoss(MixedPrecision):
    """Lightning's scaling of the loss, which small gradients need in float16, without its cast of the whole step."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cuda")

    def autocast_context_manager(self) -> Any:
        """Return a context that casts nothing: see `cast_in_training`."""
        return torch.autocast("cuda", enabled=False)


def check_device(choice: str | None, device: str) -> None:
    """Refuse float16 where torch trains with it badly or not at all.

    Raises:
        ManifestError: It is asked for on a CPU.
    """
    if choice == "fp16" and device != "cuda":
        raise ManifestError(
            "float16 needs a CUDA device: its range asks for a scaled loss, and CPUs have no fast products of it",
            where="training.mixed_precision",
            value=choice,
            allowed="bf16, null",
        )
