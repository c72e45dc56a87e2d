"""One manifest and one seed give one set of weights, to the last bit, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from silicon_run import tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.evaluation.report import Report

OPTIONS = {"training.epochs": 4, "training.optimizer.ema": True}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Reports are not what these tests are about."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


def trained(folder: Path, changes: dict[str, Any]) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(tiny_manifest(folder, OPTIONS | changes))
    # Numbers that something else draws meanwhile are not the network's.
    torch.manual_seed(len(list((folder / "runs").iterdir())))
    trainer.train()
    return trainer


def weights(trainer: GNNLightningTrainer) -> dict[str, torch.Tensor]:
    """Return everything of the last checkpoint that is a tensor: weights, their averages, the optimizer's state."""
    checkpoint = torch.load(trainer.run.last, weights_only=True)
    found: dict[str, torch.Tensor] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(f"{name}.{key}", item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                collect(f"{name}.{index}", item)

    collect("state", checkpoint["state_dict"])
    collect("average", checkpoint["current_model_state"])
    collect("optimizer", checkpoint["optimizer_states"])
    assert len(found) > 50
    return found


def assert_identical(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    assert different == []


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of a run with nothing special."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))
        return weights(trained(tmp_path_factory.mktemp("reference"), {}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.num_workers": 2},
        {"dataset.dynamic_loading": True},
        {"dataset.dynamic_loading": True, "training.num_workers": 2},
    ],
    ids=["again", "workers", "dynamic", "dynamic, workers"],
)
def test_how_batches_are_loaded_changes_no_bit(tmp_path, reference, changes):
    """Twice in a row, in one process or three, graphs made at once or when they are needed."""
    assert_identical(weights(trained(tmp_path, changes)), reference)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_cache_changes_no_bit(tmp_path, reference, num_workers, dynamic):
    """Graphs from a cache, as it is filled and when it is full."""
    changes = {
        "dataset.cache": str(tmp_path / "cache"),
        "dataset.dynamic_loading": dynamic,
        "training.num_workers": num_workers,
    }
    cold = trained(tmp_path, changes)
    warm = trained(tmp_path, changes | {"model.name": "warm"})
    assert_identical(weights(cold), reference)
    assert_identical(weights(warm), reference)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_interruption_changes_no_bit(tmp_path, reference, num_workers):
    """Interrupted in the middle of the third epoch and resumed, with or without workers."""

    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 1:
                raise KeyboardInterrupt

    changes = OPTIONS | {"training.num_workers": num_workers}
    first = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    first.pl_trainer.callbacks.insert(0, CtrlC())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert torch.load(first.run.last, weights_only=True)["epoch"] == 1
    resumed = trained(tmp_path, changes | {"workspace.resume": True})
    assert resumed.run.path == first.run.path
    assert_identical(weights(resumed), reference)


def test_seed_and_manifest_do_matter(tmp_path, reference):
    """The comparison is not blind: another seed gives other weights."""
    other = weights(trained(tmp_path, {"workspace.seed": 8}))
    with pytest.raises(AssertionError):
        assert_identical(other, reference)
