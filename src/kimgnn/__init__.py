"""Graph neural networks for KLIFF: from one manifest to molecular dynamics through the KIM API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kimgnn.training.trainer import GNNLightningTrainer

__version__ = "0.1.0"
__all__ = ["GNNLightningTrainer", "__version__"]


def __getattr__(name: str) -> Any:
    # By name, so that `import kimgnn` and the command line's help do not wait for torch.
    if name == "GNNLightningTrainer":
        # KLIFF warns at import that its descriptors are missing; graphs do without them.
        import_module("loguru").logger.disable("kliff.transforms.configuration_transforms.descriptors")
        return import_module("kimgnn.training.trainer").GNNLightningTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
