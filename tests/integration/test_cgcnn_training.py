"""CGCNN in whole runs: on forces, with the paper's table of elements, and on the nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.errors import ExportError
from kimgnn.evaluation.report import Report
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.training.history import run_history

POTENTIAL = {
    "model.architecture": "cgcnn",
    "model.options": {
        "hidden_channels": 12,
        "num_convolutions": 2,
        "element_features": "properties",
        "activation": "silu",
        "normalization": "none",
        "cutoff_function": "cosine",
    },
    "training.epochs": 25,
}
NEAREST = {
    "transforms.configuration": {"name": "CrystalGraph", "kwargs": {"cutoff": 5.0, "max_neighbors": 12}},
    "model.architecture": "cgcnn",
    "model.options": {"hidden_channels": 12, "num_convolutions": 2},
    "training.loss.weights": {"energy": 1.0},
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


def trained(folder: Path, changes: dict) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(tiny_manifest(folder, changes))
    trainer.train()
    return trainer


def weights(trainer: GNNLightningTrainer) -> dict[str, torch.Tensor]:
    return torch.load(trainer.run.last, weights_only=True)["state_dict"]


class StopInTheThirdEpoch(Callback):
    """What Ctrl-C does."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.current_epoch == 2 and batch_idx == 1:
            raise KeyboardInterrupt


def test_it_trains_on_forces(tmp_path: Path) -> None:
    """Errors of energies and forces fall; the checkpoint predicts what the trainer does, and exports."""
    trainer = trained(tmp_path, POTENTIAL)
    history = run_history(trainer.run.path)
    for name in ("val_loss", "val_forces_mae"):
        assert history[name][1].min() < 0.9 * history[name][1][0]
    network = load_checkpoint(trainer.run.best).network
    assert np.flatnonzero(network.trunk.elements.table[14]).tolist()[:2] == [14, 21]  # group 14, period 3
    (prediction,) = trainer.predict(silicon(1, seed=5))
    assert np.isfinite(prediction.forces).all()
    assert (trainer.save_kim_model(tmp_path / "kim") / "model.pt").is_file()


def test_a_run_is_the_same_twice_and_after_a_resume(tmp_path: Path) -> None:
    """To the last bit, with batch normalisation's statistics and the table of elements."""
    changes = NEAREST | {"training.epochs": 4}
    whole = weights(trained(tmp_path, changes))
    again = weights(trained(tmp_path, changes))
    half = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    half.pl_trainer.callbacks.insert(0, StopInTheThirdEpoch())
    with pytest.raises(KeyboardInterrupt):
        half.train()
    resumed = weights(trained(tmp_path, changes | {"workspace.resume": str(half.run.path)}))
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, resumed[name]), name


def test_nearest_neighbors_are_not_exported_as_a_potential(tmp_path: Path) -> None:
    """The reason is told, and what to train on."""
    trainer = trained(tmp_path, NEAREST | {"training.epochs": 1})
    with pytest.raises(ExportError, match="max_neighbors: null"):
        trainer.save_kim_model(tmp_path / "kim")
