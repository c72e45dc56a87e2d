"""The LightningModule: one for every network, and for every subset of energy, forces, stress and other heads."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.models.checkpoint import ENTRY
from kimgnn.training.losses import Loss, LossTerms
from kimgnn.training.metrics import EpochMetrics
from kimgnn.training.tables import StepTables
from kimgnn.training.task_balance import LearnedBalance

if TYPE_CHECKING:
    from kimgnn.training.compiled_step import CompiledStep

LEARNING_RATE = "learning_rate"
"""Name of the learning rate in the logs."""

TABLE = "table_error_"
"""What the names of the tables' errors begin with in the logs."""


def make_optimizer(options: Mapping[str, Any], parameters: Iterator[nn.Parameter]) -> Optimizer:
    """Return the optimizer that ``training.optimizer`` names, a class of `torch.optim`."""
    make = getattr(torch.optim, options["name"])
    learned, kwargs = list(parameters), dict(options["kwargs"])
    on_cpu = all(parameter.device.type == "cpu" for parameter in learned)
    if on_cpu and "fused" in signature(make).parameters and not kwargs.keys() & {"foreach", "differentiable"}:
        kwargs.setdefault("fused", True)  # a third of the time of the loop over weights that is torch's choice
    optimizer: Optimizer = make(learned, lr=options["learning_rate"], **kwargs)
    return optimizer


def make_scheduler(options: Mapping[str, Any] | None, optimizer: Optimizer) -> lr_scheduler.LRScheduler | None:
    """Return the scheduler that ``training.optimizer.lr_scheduler`` names, or ``None``."""
    if not options:
        return None
    scheduler: lr_scheduler.LRScheduler = getattr(lr_scheduler, options["name"])(optimizer, **options["args"])
    return scheduler


class TrainingModule(LightningModule):
    """Trains a potential, in or out of the edge-vector contract.

    Args:
        potential: A `kimgnn.physics.potential.Potential` or ``CoordinatePotential``.
        loss: What is made small.
        optimizer: The manifest's ``training.optimizer``.
        seed: Of the random numbers that the network draws, epoch by epoch.
        monitor: ``val_loss`` or ``train_loss``: what a plateau scheduler looks at.
        description: The ``kimgnn`` entry of the checkpoints, which is all that rebuilds the network.
        balance: Weighs the terms of the training loss by what it learns; they are added up when absent. What is
            validated is always the sum, which can be compared between epochs.
        tables: Stand for parts of the network in training steps.
        compiled: Computes training steps, with these tables if there are any.
    """

    def __init__(
        self,
        potential: nn.Module,
        loss: Loss,
        optimizer: Mapping[str, Any],
        seed: int,
        monitor: str,
        description: Mapping[str, Any],
        balance: LearnedBalance | None = None,
        tables: StepTables | None = None,
        compiled: "CompiledStep | None" = None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.loss = loss
        self.balance = balance
        self.tables = tables
        self.compiled = compiled
        self.train_metrics, self.val_metrics, self.test_metrics = (EpochMetrics(loss.heads) for _ in range(3))
        self._optimizer_options = optimizer
        self._seed = seed
        self._monitor = monitor
        self._description = dict(description)

    def forward(self, graph: Any, forces: bool = True, stress: bool = True) -> dict[str, Tensor]:
        """Return what the potential says about a batch."""
        predicted: dict[str, Tensor] = self.potential(graph, forces=forces, stress=stress)
        return predicted

    def on_train_start(self) -> None:
        """Refuse tables that are not close to the network, and devices that steps are not compiled for.

        Raises:
            TrainingError: They are not.
            ManifestError: There are such devices.
        """
        if self.compiled:
            self.compiled.check(self.device, self.trainer.world_size)
        if self.tables:
            self.tables.check(self.tables.errors())

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a resumed run draws the numbers of one that was not interrupted."""
        torch.manual_seed(self._seed + 1_000_003 * self.current_epoch + self.global_rank)
        for metrics in (self.train_metrics, self.val_metrics):  # may hold part of an epoch that was interrupted
            metrics.reset()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log(LEARNING_RATE, torch.tensor(rate, dtype=torch.float64))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of a batch, exact over all processes whatever their shares hold."""
        if self.compiled and (step := self.compiled(batch)):
            self.train_metrics.update(step.terms, step.predicted, batch)
            return {"loss": step.loss} | _detached_forces(step.predicted)
        with self.tables.in_place() if self.tables else nullcontext():
            predicted = self(batch, forces=self.loss.uses(FORCES), stress=self.loss.uses(STRESS))
        terms = self.loss.terms(predicted, batch)
        self.train_metrics.update(terms, predicted, batch)
        world_size = self.trainer.world_size
        counts = terms.counts if world_size == 1 else self.trainer.strategy.reduce(terms.counts, reduce_op="sum")
        terms = LossTerms(terms.sums, counts)
        loss = terms.mean() if self.balance is None else self.balance(terms, world_size)
        # DDP averages the gradients, so each process weighs its sums by their number. The last term is zero: it gives
        # every parameter a gradient, which DDP waits for, where only forces or some of the heads are trained on.
        loss = world_size * loss + 0.0 * sum(output.sum() for output in self._outputs(predicted))
        return {"loss": loss} | _detached_forces(predicted)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Derive by what is learned alone: edge vectors are leaves too, and nobody asks for that derivative."""
        groups = self.trainer.optimizers[0].param_groups
        learned = [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]
        torch.autograd.backward(loss, *args, **kwargs | {"inputs": learned})

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate every label that the batch carries."""
        return self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate every label that the batch carries."""
        return self._evaluate(batch, self.test_metrics)

    def _outputs(self, predicted: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what each head says."""
        return [predicted[name] for name in (ENERGY, *(head.name for head in self.loss.heads)) if name in predicted]

    def _evaluate(self, batch: Any, metrics: EpochMetrics) -> dict[str, Tensor]:
        there = {label: not bool(torch.isnan(batch[label]).all()) for label in LABELS}
        needed = {label: there[label] or self.loss.uses(label) for label in (FORCES, STRESS)}
        predicted = self(batch, forces=needed[FORCES], stress=needed[STRESS])
        metrics.update(self.loss.terms(predicted, batch), predicted, batch)
        return _detached_forces(predicted)

    def on_train_epoch_end(self) -> None:
        """Log the epoch, and step a scheduler that waits for a plateau.

        Lightning itself steps such a scheduler only after the checkpoint is written, and a resumed run misses a step.
        """
        self._log_epoch("train", self.train_metrics)
        if self.tables:
            self._log_tables(self.tables)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics[self._monitor])

    def on_validation_epoch_end(self) -> None:
        """Log the validation."""
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test."""
        self._log_epoch("test", self.test_metrics)

    def _log_tables(self, tables: StepTables) -> None:
        errors = tables.errors()
        self.log_dict({f"{TABLE}{name}": error for name, error in errors.items()})
        tables.check(errors)

    def _log_epoch(self, split: str, metrics: EpochMetrics) -> None:
        values = metrics.compute()
        metrics.reset()
        self.log(f"{split}_loss", values.pop("loss"), prog_bar=True)
        self.log_dict({f"{split}_{name}": value for name, value in values.items()})

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the scheduler if there is one."""
        learned = [*self.potential.parameters(), *(self.balance.parameters() if self.balance else ())]
        optimizer = make_optimizer(self._optimizer_options, iter(learned))
        scheduler = make_scheduler(self._optimizer_options.get("lr_scheduler"), optimizer)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self._monitor}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler, unless it waits for a plateau: see `on_train_epoch_end`."""
        if not isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network without a trainer."""
        logged = self.trainer.callback_metrics.items()
        metrics = {name: float(value) for name, value in logged if name != LEARNING_RATE and not name.startswith(TABLE)}
        checkpoint[ENTRY] = self._description | {"metrics": metrics}


def _detached_forces(predicted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What KLIFF calls the per-atom prediction."""
    return {"per_atom_pred": predicted[FORCES].detach()} if FORCES in predicted else {}
