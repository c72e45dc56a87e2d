"""Checkpoint files that are whole or not there."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from kimgnn.errors import TrainingError
from kimgnn.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there; reads plain values and tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``, or leave what is there.

        Raises:
            TrainingError: The disk is full or the folder cannot be written.
        """
        path = Path(path)
        content = io.BytesIO()  # torch hides the file's own error; writing the bytes ourselves keeps it
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb") as file:
                file.write(content.getbuffer())
        except OSError as error:
            raise TrainingError(
                f"the checkpoint cannot be written: {error.strerror}; the one before is kept",
                where=str(path),
                remedy="Free some disk space (or mend the folder), and continue with workspace.resume: true.",
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read the checkpoint at ``path``.

        Raises:
            TrainingError: There is none, or it is damaged; the message names others in the folder.
        """
        path = Path(path)
        beside = [other for other in path.parent.glob("*.ckpt") if other != path]
        newest = sorted(beside, key=lambda other: other.stat().st_mtime)[-3:]
        others = ", ".join(sorted(other.name for other in newest))
        remedy = f"Copy another one over it: {others}." if others else "Start a new run with workspace.resume: false."
        if not path.is_file():
            raise TrainingError("no such checkpoint", where=str(path), remedy=remedy)
        try:
            content: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds on a damaged file
            raise TrainingError(
                f"the checkpoint is damaged ({type(error).__name__})", where=str(path), remedy=remedy
            ) from error
        return content
