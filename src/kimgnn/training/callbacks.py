"""What happens at the end of an epoch: checkpoints, the trainer's state, predictions for every atom."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from kimgnn.errors import TrainingError
from kimgnn.fields import IDX
from kimgnn.training.losses import atom_counts


class RunCheckpoints(Checkpoint):
    """Writes ``last.ckpt`` every epoch, ``best.ckpt`` at the lowest loss so far, and ``epoch_{n}.ckpt`` now and then.

    A new run writes ``last.ckpt`` before its first step too, so that there is always one to go on from.

    Args:
        folder: Where to.
        interval: Epochs between the checkpoints that are kept.
        monitor: The loss that is compared; ``None`` takes the last epoch for the best one, where nothing has measured
            the weights that are saved (averaged ones, without a validation set).
        current: KLIFF's state of the trainer, kept up to date.
    """

    def __init__(self, folder: Path, interval: int, monitor: str | None, current: dict[str, Any]) -> None:
        self.folder = folder
        self.interval = interval
        self.monitor = monitor
        self.current = current
        self.best_loss = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint that an interrupted first epoch starts again from."""
        if trainer.ckpt_path is None:
            trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints of this epoch.

        Raises:
            TrainingError: The loss is not a number; the checkpoints stay as they are.
        """
        name = self.monitor or "train_loss"
        loss = float(trainer.callback_metrics[name])
        epoch = trainer.current_epoch
        if not math.isfinite(loss):
            raise TrainingError(
                f"{name} is not a number after epoch {epoch}; the checkpoints before it are kept",
                where=str(self.folder), value=loss,
                remedy="Lower training.optimizer.learning_rate, or set training.gradient_clip.",
            )  # fmt: skip
        best = self.monitor is None or loss < self.best_loss
        self.best_loss = min(loss, self.best_loss)
        self.current |= {"loss": loss, "best_loss": self.best_loss, "epoch": epoch, "step": trainer.global_step}
        if best:
            self.current["best_model"] = str(self.folder / "best.ckpt")
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
        if (epoch + 1) % self.interval == 0:
            trainer.save_checkpoint(self.folder / f"epoch_{epoch}.ckpt", weights_only=False)
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss, for the checkpoint."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the lowest loss from a checkpoint."""
        self.best_loss = state_dict["best_loss"]
        self.current |= {"best_loss": self.best_loss, "best_model": str(self.folder / "best.ckpt")}


class EpochClock(Callback):
    """Takes the time of each epoch, validation included.

    Attributes:
        seconds: Of the epochs that this process trained.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop; Lightning validates before this."""
        self.seconds.append(time.perf_counter() - self._start)


class EpochLines(Checkpoint):
    """Prints a line for an epoch, where there is no terminal to draw a progress bar on: about fifty in a run.

    It is a `Checkpoint` for its turn only: Lightning calls those after the module has logged the epoch.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the losses, and the errors on the validation set."""
        epoch, last = trainer.current_epoch, (trainer.max_epochs or 1) - 1
        if not trainer.is_global_zero or (epoch % max(1, (last + 1) // 50) and epoch != last):
            return
        metrics = trainer.callback_metrics
        ends = ("_loss", "_mae", "_accuracy")
        shown = [name for name in metrics if name == "train_loss" or (name.startswith("val_") and name.endswith(ends))]
        print(
            f"epoch {epoch:5d}/{last}  " + "  ".join(f"{name} {float(metrics[name]):.4g}" for name in shown), flush=True
        )


class PerAtomPredictions(Callback):
    """Hands the forces on every atom to KLIFF's ``log_per_atom_outputs``.

    Args:
        store: Called with epoch, indices of structures, and one array of forces for each.
        interval: Epochs between those that are stored.
    """

    def __init__(self, store: Callable[[int, list[int], list[np.ndarray[Any, Any]]], None], interval: int) -> None:
        self._store = store
        self._interval = interval

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store a training batch."""
        self._keep(trainer, outputs, batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Store a validation batch."""
        self._keep(trainer, outputs, batch)

    def _keep(self, trainer: Trainer, outputs: Any, batch: Any) -> None:
        if trainer.current_epoch % self._interval or "per_atom_pred" not in outputs:
            return
        forces = torch.split(outputs["per_atom_pred"].cpu(), atom_counts(batch).tolist())
        self._store(trainer.current_epoch, batch[IDX].tolist(), [force.numpy() for force in forces])
