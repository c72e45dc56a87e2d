"""A manifest's training, an epoch or a step at a time, as Lightning would without its bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kimgnn import GNNLightningTrainer
from kimgnn.training.lightning_run import keep_freed_memory


class Training:
    """A network, its data with the graphs in memory, and its optimizer.

    Args:
        manifest: Plain, as `kimgnn.manifest.Manifest.to_dict` gives it or as a user writes it.
        folder: For what a run writes.
    """

    def __init__(self, manifest: Mapping[str, Any], folder: str) -> None:
        plain = dict(manifest)
        plain["workspace"] = plain.get("workspace", {}) | {"name": folder}
        plain["dataset"] = plain["dataset"] | {"dynamic_loading": False}
        keep_freed_memory()
        trainer = GNNLightningTrainer(plain)
        self.optimizer = trainer.optimizer
        self.module = trainer.pl_model.train()
        self.module.trainer = trainer.pl_trainer
        trainer.pl_trainer.optimizers = [self.optimizer]
        self.loader = trainer.data_module.train_dataloader()
        self._batches = self._endless()

    def step(self) -> None:
        """Take the optimizer's step on the loader's next batch."""
        self._learn(next(self._batches))

    def epoch(self, number: int) -> None:
        """Train on every batch once, in the order of an epoch."""
        self.loader.sampler.set_epoch(number)
        for batch in self.loader:
            self._learn(batch)

    def _learn(self, batch: Any) -> None:
        loss = self.module.training_step(batch, 0)["loss"]
        self.optimizer.zero_grad()
        self.module.backward(loss)
        self.optimizer.step()

    def _endless(self) -> Iterator[Any]:
        number = 0
        while True:
            self.loader.sampler.set_epoch(number)
            yield from self.loader
            number += 1
