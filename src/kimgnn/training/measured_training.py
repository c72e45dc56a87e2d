"""One training among those that are compared, measured, in a process of its own."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from kimgnn import __version__
from kimgnn.errors import TrainingError
from kimgnn.evaluation.correlation import scalar_labels, scalar_predictions
from kimgnn.fields import ENERGY
from kimgnn.files import atomic_write
from kimgnn.models.fusion import forests
from kimgnn.models.tasks import LABEL_TASKS, Task, tasks_of
from kimgnn.training.callbacks import EpochClock
from kimgnn.training.checkpoint_io import AtomicCheckpointIO
from kimgnn.training.shared_data import structures_hash
from kimgnn.training.trainer import GNNLightningTrainer

RUNS: Final = "runs"
"""Of the run directories, in the folder of results."""

VALUES: Final = "test_values.npz"
"""In a run's directory: labels and predictions of the test structures, where they are one number each."""


def train_once(manifest: Mapping[str, Any], structures: str) -> dict[str, Any]:
    """Train, and return what is recorded of it. The process should be one that has done nothing else: see `memory`.

    Args:
        manifest: A job's.
        structures: Hash of the structures that the splits are of.

    Returns:
        ``metrics`` on the test set; ``seconds`` of all ``epochs``, validation included, and of the forests of late
        fusion; ``steps`` of the optimizer; ``parameters``;
        ``memory``, the process's largest, until training ended, and ``gpu_memory`` of tensors, MiB; ``device``;
        ``loss``, the lowest of the validation (of training, without one); ``balance``, what a learned balance
        multiplies each term with; ``late_weights``, of the network beside a forest; ``run``, its directory inside the
        folder of results.

    Raises:
        KimgnnError: Something is wrong with the manifest, the data or the training.
    """
    trainer = _ComparedTrainer(manifest)
    if trainer.structures != structures:
        raise TrainingError(
            "the structures are not those that were divided", where="dataset", remedy="Do not change files meanwhile."
        )
    trainer.train()
    memory = _peak_memory()
    (clock,) = (item for item in trainer.callbacks if isinstance(item, EpochClock))
    device = trainer.pl_trainer.strategy.root_device
    metrics = trainer.evaluate("test")
    trainer.write_values()
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "seconds": sum(clock.seconds) + trainer.forest_seconds,
        "epochs": len(clock.seconds),
        "steps": trainer.pl_trainer.global_step,
        "parameters": sum(parameter.numel() for parameter in trainer.potential.parameters()),
        "memory": memory,
        "gpu_memory": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        "device": str(device) if device.type == "cuda" else f"cpu, threads: {torch.get_num_threads()}",
        "loss": float(trainer.current["best_loss"]),
        "balance": trainer.learned_weights(),
        "late_weights": trainer.late_weights(),
        "run": f"{RUNS}/{trainer.run.path.name}",
        "version": __version__,
    }


class _ComparedTrainer(GNNLightningTrainer):
    """Trains without a report: its forests and pictures would count among what is measured.

    Attributes:
        forest_seconds: What late fusion took after the last epoch.
    """

    forest_seconds = 0.0

    def _get_pl_trainer(self) -> Trainer:
        trainer = super()._get_pl_trainer()
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [item for item in callbacks if not isinstance(item, ProgressBar)]  # type: ignore[attr-defined]
        return trainer

    def _fit_late_fusion(self) -> None:
        start = time.perf_counter()
        super()._fit_late_fusion()
        self.forest_seconds = time.perf_counter() - start

    def _write_report(self) -> None:
        """Write none."""

    @property
    def structures(self) -> str:
        """Hash of the structures, as `read_shared` has it."""
        apart = [part for part in ("validation", "test") if self.training_manifest[f"{part}_dataset"].get("path")]
        extra = [item for part in apart for item in self.splits[part]]
        return structures_hash([*self.dataset.configs, *extra])

    def write_values(self) -> None:
        """Write labels and predictions of the test structures, where they are one number each, as `VALUES`."""
        structures, tasks = self.splits["test"], compared_tasks(self.model_manifest["heads"])
        arrays = {f"{name} label": values for name, values in scalar_labels(tasks, structures).items()}
        predicted = scalar_predictions(tasks, self._predict(structures), structures)
        arrays |= {f"{name} prediction": values for name, values in predicted.items()}
        with atomic_write(self.run.path / VALUES, "wb") as file:
            np.savez(file, **arrays)

    def learned_weights(self) -> dict[str, float] | None:
        """Return what a learned balance multiplies the loss of each term with, ``exp(-s_k) / c_k``, at the best epoch.

        ``None`` where the balance is not learned; see `kimgnn.training.task_balance`.
        """
        balance = self.pl_model.balance
        if balance is None:
            return None
        state = AtomicCheckpointIO().load_checkpoint(self.run.best)["state_dict"]
        factors = torch.exp(-state["balance.log_variances"]) / state["balance.divisors"]
        used = state["balance.used"].tolist()
        return {name: float(factor) for name, factor, one in zip(balance.names, factors, used, strict=True) if one}

    def late_weights(self) -> dict[str, float]:
        """Return head -> weight of the network beside the forest of late fusion; empty without one."""
        network: Any = getattr(self.best_potential(), "network", None)
        return {} if network is None else {name: float(late.weight) for name, late in forests(network).items()}


def compared_tasks(heads: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Return what the heads predict, the energy among it."""
    energy = [LABEL_TASKS[ENERGY]] if any(head["type"] == "energy" for head in heads) else []
    return energy + tasks_of(heads)


def _peak_memory() -> float:
    """Return the largest memory of this process so far, MiB.

    Linux counts into ``ru_maxrss`` what the process was forked from, however large that was; ``VmHWM`` begins anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 1024)
