"""The best weights of a run: predicted with, put beside forests, calibrated, described and saved again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from kliff.dataset import Configuration
from loguru import logger
from torch import nn

from kimgnn.errors import TrainingError
from kimgnn.evaluation.calibrated import Calibration, calibrated
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.sampling import predict_as_asked
from kimgnn.evaluation.uncertainty import Uncertainty, judge
from kimgnn.manifest.uncertainty import Uncertainty as Asked
from kimgnn.models.checkpoint import CALIBRATION, ENTRY
from kimgnn.models.fusion import forests
from kimgnn.models.network import NetworkSpec
from kimgnn.models.tasks import tasks_of
from kimgnn.physics.potential import Potential
from kimgnn.training.checkpoint_io import AtomicCheckpointIO
from kimgnn.training.continuation import check_same_network
from kimgnn.training.data_module import Transform
from kimgnn.training.late_fusion import fit_forests, remove_forests
from kimgnn.training.mixed_precision import remove_casts
from kimgnn.training.run_directory import RunDirectory
from kimgnn.training.uncertainty import asked_of, calibrate

PREFIX = "potential."
"""Of the potential, among the weights of a Lightning checkpoint."""


@dataclass(frozen=True)
class BestWeights:
    """The weights with the lowest validation loss (the averaged ones, with EMA), as a run's checkpoint holds them.

    Attributes:
        run: The run's directory.
        live: The potential as it is trained, of which copies get the weights.
        spec: What its network was built from; ``None`` for a module.
        manifest: Plain, of the run.
        graph_of: Structure -> the graph that the network takes.
        device: Where to compute.
    """

    run: RunDirectory
    live: nn.Module
    spec: NetworkSpec | None
    manifest: Mapping[str, Any]
    graph_of: Transform
    device: torch.device

    def checkpoint(self) -> dict[str, Any]:
        """Return the checkpoint.

        Raises:
            TrainingError: Nothing was trained yet.
        """
        if not self.run.best.is_file():
            raise TrainingError("nothing was trained yet", where=str(self.run.path), remedy="Call train() first.")
        return AtomicCheckpointIO().load_checkpoint(self.run.best)

    def potential(self, checkpoint: Mapping[str, Any] | None = None) -> nn.Module:
        """Return a copy of the potential with the weights, in evaluation mode.

        Args:
            checkpoint: It is read when absent.

        Raises:
            TrainingError: Nothing was trained yet.
        """
        checkpoint = self.checkpoint() if checkpoint is None else checkpoint
        check_same_network(checkpoint[ENTRY]["spec"], self.spec)
        found = checkpoint["state_dict"].items()
        state = {key.removeprefix(PREFIX): value for key, value in found if key.startswith(PREFIX)}
        with torch.no_grad():  # the copied weights of a TorchScript module would not be leaves
            potential = deepcopy(self.live).cpu()
        remove_casts(potential)
        potential.load_state_dict(state)
        return potential.eval()

    def predict(self, configurations: Sequence[Configuration]) -> list[Prediction]:
        """Return what the weights say of structures, calibrated if they are."""
        checkpoint = self.checkpoint()
        predictions = self.predict_by(self.potential(checkpoint), configurations)
        return self._calibrated(predictions, configurations, checkpoint)

    def predict_by(self, potential: nn.Module, configurations: Sequence[Configuration]) -> list[Prediction]:
        """Return what a potential says, by samples of its dropout if they are asked for; not calibrated."""
        training = self.manifest["training"]
        bounds = [training[name] for name in ("max_atoms", "max_edges")]
        return predict_as_asked(
            potential, configurations, self.graph_of, self.manifest, training["batch_size"], self.device, *bounds
        )

    def judge(
        self, splits: Mapping[str, Sequence[Configuration]]
    ) -> tuple[dict[str, list[Prediction]], Uncertainty | None]:
        """Return predictions of each split, as `predict` makes them, and what their uncertainties are worth.

        Args:
            splits: ``train``, ``val``, ``test`` -> structures; without the empty ones.
        """
        checkpoint = self.checkpoint()
        potential = self.potential(checkpoint)
        raw = {split: self.predict_by(potential, found) for split, found in splits.items()}
        told = {split: self._calibrated(raw[split], found, checkpoint) for split, found in splits.items()}
        model = self.manifest["model"]
        calibration = Calibration.from_dict(checkpoint[ENTRY].get(CALIBRATION, {}))
        level = (asked_of(model) or Asked()).level
        return told, judge(raw, splits, tasks_of(model["heads"]), calibration, level)

    def fit_late_fusion(self, train: Sequence[Configuration], validation: Sequence[Configuration], seed: int) -> None:
        """Put forests beside the heads of a single network, where the manifest asks for late fusion, and save them."""
        if not isinstance(self.live, Potential) or not forests(self.live.network):
            return
        checkpoint = self.checkpoint()
        potential: Any = self.potential(checkpoint)
        network = potential.network
        remove_forests(network)  # of training that was stopped, and went on
        alone = self.predict_by(potential, validation)
        fitted = fit_forests(network.cpu(), train, validation, [item.properties for item in alone], seed)
        for name, result in fitted.items():
            logger.info(f"{name}: {result}")
        checkpoint["state_dict"] |= {f"{PREFIX}{name}": value for name, value in potential.state_dict().items()}
        AtomicCheckpointIO().save_checkpoint(checkpoint, self.run.best)

    def calibrate(self, validation: Sequence[Configuration]) -> None:
        """Calibrate the weights, where the manifest asks for it, and save that with them."""
        if asked_of(self.manifest["model"]) is None:
            return
        checkpoint = self.checkpoint()
        predictions = self.predict_by(self.potential(checkpoint), validation)
        calibration = calibrate(self.manifest["model"], predictions, validation)
        checkpoint[ENTRY][CALIBRATION] = {} if calibration is None else calibration.to_dict()
        AtomicCheckpointIO().save_checkpoint(checkpoint, self.run.best)

    def describe(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Put the errors of the weights into their checkpoint, for what is exported from it to show."""
        checkpoint = self.checkpoint()
        checkpoint[ENTRY]["metrics"] = {
            f"{split}_{name}": float(value)
            for split, values in metrics.items()
            for name, value in values.items()
            if not name.endswith("_count")
        }
        AtomicCheckpointIO().save_checkpoint(checkpoint, self.run.best)

    def _calibrated(
        self,
        predictions: Sequence[Prediction],
        configurations: Sequence[Configuration],
        checkpoint: Mapping[str, Any],
    ) -> list[Prediction]:
        tasks, sizes = tasks_of(self.manifest["model"]["heads"]), [len(item.species) for item in configurations]
        return calibrated(predictions, tasks, sizes, checkpoint[ENTRY].get(CALIBRATION, {}))
