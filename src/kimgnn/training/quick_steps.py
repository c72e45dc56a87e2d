"""What makes training steps quicker, as the manifest wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kimgnn.errors import TrainingError
from kimgnn.physics.potential import SeveralNetworks
from kimgnn.training.losses import Loss
from kimgnn.training.tables import StepTables

if TYPE_CHECKING:
    from kimgnn.training.compiled_step import CompiledStep


def quick_steps(
    potential: nn.Module, loss: Loss, training: Mapping[str, Any]
) -> tuple[StepTables | None, CompiledStep | None]:
    """Return tables and compiled steps, where the manifest's block `training` asks for them.

    An ensemble has nothing: its networks are trained one by one.

    Raises:
        ManifestError: The network does not allow it.
        TrainingError: There is no C++ compiler, or this version of torch cannot be used so.
    """
    network = getattr(potential, "network", potential)
    if isinstance(network, SeveralNetworks):
        return None, None
    tables = StepTables(network) if training["tabulate"] else None
    if not training["compile"]:
        return tables, None
    try:  # parts of torch that another version may have elsewhere
        from kimgnn.training.compiled_step import CompiledStep
    except ImportError as error:
        raise TrainingError(
            f"does not work with torch {torch.__version__}: {error}",
            where="training.compile",
            allowed="torch 2.13",
            remedy="Set training.compile to false.",
        ) from error
    return tables, CompiledStep(potential, loss, tables, training["batch_size"] > 1)
