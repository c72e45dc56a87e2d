"""Batches bounded by atoms and edges in whole trainings: resumed, in two processes, and in what is predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from silicon_run import tiny_manifest
from test_training_ddp import train

from kimgnn import GNNLightningTrainer
from kimgnn.evaluation.report import Report

BOUNDS = {"training.batch_size": 8, "training.max_atoms": 10, "training.training_dataset": {"train_size": 8}}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not what these tests are about."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


class Watch(Callback):
    """Keeps the atoms of each batch, and stops where it is told to."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.stop_before = stop_before
        self.atoms: dict[str, list[int]] = {"train": [], "val": []}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == self.stop_before:
            raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.atoms["train"].append(batch.num_nodes)

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        self.atoms["val"].append(batch.num_nodes)


def trained(manifest: dict[str, Any], watch: Watch) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(manifest)
    trainer.pl_trainer.callbacks.insert(0, watch)
    trainer.callbacks = trainer.pl_trainer.callbacks
    trainer._get_callbacks = lambda: trainer.callbacks  # type: ignore[method-assign]
    trainer.train()
    return trainer


def weights(trainer: GNNLightningTrainer) -> dict[str, torch.Tensor]:
    return torch.load(trainer.run.last, weights_only=True)["state_dict"]


def test_a_resumed_run_goes_on_with_the_batches_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    """Cells of 2 and 8 atoms, ten at most; every structure is in every epoch, in training and validation."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    changes = BOUNDS | {"training.epochs": 4}
    whole = Watch()
    expected = trained(tiny_manifest(tmp_path / "a", changes), whole)
    sizes = [len(item.species) for item in expected.splits["train"]]
    assert max(whole.atoms["train"] + whole.atoms["val"]) <= 10
    assert sum(whole.atoms["train"]) == 4 * sum(sizes)
    assert sum(whole.atoms["val"]) == 4 * sum(len(item.species) for item in expected.splits["validation"])
    assert len(whole.atoms["train"]) < 4 * len(sizes)

    first = Watch(stop_before=2)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_manifest(tmp_path / "b", changes), first)
    second = Watch()
    found = trained(tiny_manifest(tmp_path / "b", changes | {"workspace.resume": True}), second)
    assert first.atoms["train"] + second.atoms["train"] == whole.atoms["train"]
    for name, value in weights(expected).items():
        assert torch.equal(weights(found)[name], value), name


def test_a_set_may_be_smaller_than_the_most_structures(tmp_path: Path) -> None:
    """Atoms are the bound: 256 structures is what small ones may fill a step with."""
    watch = Watch()
    trained(tiny_manifest(tmp_path, BOUNDS | {"training.batch_size": 256, "training.epochs": 1}), watch)
    assert sum(watch.atoms["train"]) > max(watch.atoms["train"])


def test_predictions_do_not_depend_on_the_bounds(tmp_path: Path) -> None:
    """A structure larger than the bound is predicted alone."""
    changes = BOUNDS | {"training.epochs": 1, "training.max_edges": 20}
    with pytest.warns(UserWarning, match="structures have more than 10 atoms or 20 edges each"):
        trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    trainer.train()
    bounded = trainer.predict(trainer.splits["train"])
    for name in ("max_atoms", "max_edges"):
        trainer.training_manifest[name] = None
    for one, other in zip(bounded, trainer.predict(trainer.splits["train"]), strict=True):
        np.testing.assert_allclose(one.energy, other.energy, rtol=1e-12)
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-12)


def test_two_processes_take_turns(tmp_path: Path) -> None:
    """Neither waits for the other, and what is validated is what one process sees."""
    changes = BOUNDS | {"training.epochs": 2, "training.optimizer.learning_rate": 1e-9}
    both = changes | {"training.strategy": "ddp", "training.devices": 2}
    found = {}
    for name, values in (("one", changes), ("two", both)):
        (tmp_path / name).mkdir()
        found[name] = train(tmp_path / name, tiny_manifest(tmp_path / name, values))[1]
    # The weights hardly move, and batches are no statistics: the errors are those of the structures, each counted once.
    assert found["two"]["val_forces_mae"] == pytest.approx(found["one"]["val_forces_mae"], rel=1e-5)
    assert found["two"]["train_forces_mae"] == pytest.approx(found["one"]["train_forces_mae"], rel=0.3)
