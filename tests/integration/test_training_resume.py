"""Runs that are cut off: killed, interrupted, out of disk, with damaged checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from loguru import logger
from silicon_run import tiny_manifest, write_silicon

from kimgnn import GNNLightningTrainer
from kimgnn.errors import TrainingError
from kimgnn.evaluation.report import Report
from kimgnn.training.history import run_history

SCRIPT = textwrap.dedent(
    """
    import json, signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from lightning.pytorch import Callback
    from kimgnn import GNNLightningTrainer

    class StopWhere(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.current_epoch == 3 and batch_idx == 1:
                print("MIDDLE", flush=True)
                time.sleep(120)

    trainer = GNNLightningTrainer(json.load(open(sys.argv[1])))
    trainer.pl_trainer.callbacks.insert(0, StopWhere())
    trainer.train()
    """
)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Reports are not what these tests are about."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


def start_and_stop(manifest: dict[str, Any], folder: Path, how: int) -> str:
    """Train in another process, send it a signal in the middle of the fourth epoch, and return what it said."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "MIDDLE" in line:
            break
    else:
        pytest.fail(process.communicate()[1])
    time.sleep(0.2)
    process.send_signal(how)
    return process.communicate(timeout=60)[1]


def weights(trainer: GNNLightningTrainer, name: str = "last") -> dict[str, torch.Tensor]:
    content = torch.load(trainer.run.checkpoints / f"{name}.ckpt", weights_only=True)
    return content["state_dict"] | {f"current.{k}": v for k, v in content.get("current_model_state", {}).items()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "training.optimizer.ema": True,
            "training.optimizer.lr_scheduler": {"name": "StepLR", "args": {"step_size": 2, "gamma": 0.5}},
        },
        {
            "training.optimizer.lr_scheduler": {"name": "ReduceLROnPlateau", "args": {"patience": 0, "factor": 0.5}},
            "training.validation_dataset": None,
        },
        {"training.tabulate": True, "transforms.configuration.kwargs.cutoff": 5.0},
    ],
    ids=["plain", "EMA and schedule", "plateau without validation", "tables"],
)
def test_killed_in_an_epoch_and_resumed_is_as_if_never_killed(tmp_path, changes):
    """SIGKILL in the middle of an epoch, then resume: the weights are those of an uninterrupted run to 1e-12."""
    changes = changes | {"training.epochs": 6}
    start_and_stop(tiny_manifest(tmp_path, changes), tmp_path, signal.SIGKILL)
    resumed = GNNLightningTrainer(tiny_manifest(tmp_path, changes | {"workspace.resume": True}))
    assert resumed.current["appending_to_previous_run"]
    resumed.train()
    whole = GNNLightningTrainer(tiny_manifest(tmp_path, changes | {"model.name": "whole"}))
    whole.train()
    assert_same(weights(resumed), weights(whole))
    assert_same(weights(resumed, "best"), weights(whole, "best"))
    assert resumed.current["best_loss"] == pytest.approx(whole.current["best_loss"], abs=1e-12)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    """After Ctrl-C the last whole epoch is there, and the message names the directory to resume."""
    said = start_and_stop(tiny_manifest(tmp_path, {"training.epochs": 6}), tmp_path, signal.SIGINT)
    (run,) = (tmp_path / "runs").glob("tiny_*")
    assert "workspace.resume" in said
    assert run.name in said
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2


def test_train_goes_on_after_ctrl_c_in_a_notebook(tmp_path):
    """Ctrl-C leaves the session alive, and train() of the same trainer ends as if it had not been pressed."""

    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == 1:
                raise KeyboardInterrupt

    changes = {"training.optimizer.ema": True, "training.epochs": 4}
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    trainer.pl_trainer.callbacks.insert(0, CtrlC())
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert signal.getsignal(signal.SIGINT) is handler
    assert not trainer.run.finished
    trainer.train()
    whole = GNNLightningTrainer(tiny_manifest(tmp_path, changes | {"model.name": "whole"}))
    whole.train()
    assert_same(weights(trainer), weights(whole))
    # The batches before the interruption count once in the epoch's metrics.
    history, expected = run_history(trainer.run.path), run_history(whole.run.path)
    for name in expected:
        assert history[name][1].tolist() == pytest.approx(expected[name][1].tolist(), rel=1e-12), name


def test_finished_run_says_so_and_returns(tmp_path):
    """Resuming a finished run neither trains nor exits; a second train() does the same."""
    GNNLightningTrainer(tiny_manifest(tmp_path)).train()
    again = GNNLightningTrainer(tiny_manifest(tmp_path, {"workspace.resume": True}))
    before = weights(again)
    said: list[str] = []
    sink = logger.add(said.append)
    again.train()
    again.train()
    logger.remove(sink)
    assert_same(before, weights(again))
    assert sum("is finished" in message for message in said) == 2


def test_files_of_their_own_are_those_that_the_run_began_with(tmp_path):
    """Another validation file would choose other weights; a run of before these were recorded goes on."""
    for name, seed in (("val", 1), ("test", 2), ("other", 3)):
        write_silicon(tmp_path / f"{name}.xyz", 2, seed)

    def changes(val, test, **more):
        return {
            "training.validation_dataset": val and {"path": str(tmp_path / val)},
            "training.test_dataset": {"path": str(tmp_path / test)},
            **more,
        }

    first = GNNLightningTrainer(tiny_manifest(tmp_path, changes("val.xyz", "test.xyz", **{"training.epochs": 1})))
    first.train()
    (first.run.path / ".finished").unlink()
    resume = {"training.epochs": 2, "workspace.resume": str(first.run.path)}
    for val, test, told in (("other.xyz", "test.xyz", "validation"), ("val.xyz", "other.xyz", "test")):
        other = GNNLightningTrainer(tiny_manifest(tmp_path, changes(val, test, **resume)))
        with pytest.raises(TrainingError, match=rf"training\.{told}_dataset: the structures of these files are not"):
            other.train()
    other = GNNLightningTrainer(tiny_manifest(tmp_path, changes(None, "test.xyz", **resume)))
    with pytest.raises(TrainingError, match=r"training\.validation_dataset: the structures of these files are not"):
        other.train()

    content = torch.load(first.run.last, weights_only=True)
    del content["kimgnn"]["data"]["file_hashes"]
    whole = first.run.last.read_bytes()
    torch.save(content, first.run.last)
    GNNLightningTrainer(tiny_manifest(tmp_path, changes("other.xyz", "test.xyz", **resume)))._start_again()
    first.run.last.write_bytes(whole)
    again = GNNLightningTrainer(tiny_manifest(tmp_path, changes("val.xyz", "test.xyz", **resume)))
    again.train()
    assert again.run.finished


def test_damaged_checkpoint_names_those_that_can_be_used(tmp_path):
    """A damaged last.ckpt is an error that names the file and the newest of the others."""
    changes = {"training.ckpt_interval": 1}
    first = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    first.train()
    (first.run.path / ".finished").unlink()
    first.run.last.write_bytes(first.run.last.read_bytes()[:1000])
    resumed = GNNLightningTrainer(tiny_manifest(tmp_path, changes | {"workspace.resume": str(first.run.path)}))
    with pytest.raises(TrainingError, match=r"last\.ckpt: .*damaged.*epoch_1\.ckpt, epoch_2\.ckpt"):
        resumed.train()


def test_second_run_in_the_same_directory_is_refused(tmp_path):
    """While a run is locked, neither resuming nor training in its directory is possible."""
    first = GNNLightningTrainer(tiny_manifest(tmp_path))
    first.run.checkpoints.mkdir()
    first.run.last.touch()
    with first.run.lock(), pytest.raises(TrainingError, match="another process"):
        GNNLightningTrainer(tiny_manifest(tmp_path, {"workspace.resume": True}))
    with first.run.lock(), pytest.raises(TrainingError, match="another process"):
        first.train()
