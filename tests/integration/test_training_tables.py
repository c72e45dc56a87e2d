"""Training with tables in its steps is training without, to their error; what is saved is the network."""

from __future__ import annotations

import pytest
import torch
from silicon_run import tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.errors import TrainingError
from kimgnn.training import tables

CHANGES = {
    "transforms.configuration.kwargs.cutoff": 5.0,
    "training.optimizer.ema": True,
    "training.gradient_clip": 10.0,
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GNNLightningTrainer, "_write_report", lambda self: None)


def trained(folder, **changes: object) -> tuple[GNNLightningTrainer, dict]:
    folder.mkdir()
    trainer = GNNLightningTrainer(tiny_manifest(folder, CHANGES | changes))
    trainer.train()
    return trainer, torch.load(trainer.run.last, weights_only=True)


def test_same_weights_and_errors_with_and_without(tmp_path) -> None:
    """Nine steps with averaged weights and clipped gradients differ by the splines' error; checkpoints are alike."""
    plain, without = trained(tmp_path / "plain")
    tabulated, with_tables = trained(tmp_path / "tables", **{"training.tabulate": True})
    assert with_tables["state_dict"].keys() == without["state_dict"].keys()
    assert with_tables["kimgnn"]["metrics"].keys() == without["kimgnn"]["metrics"].keys()
    different = 0
    for name, weights in without["state_dict"].items():
        # Adam divides small gradients by their own size: an error of 1e-6 of the largest can be 1e-4 of a step.
        torch.testing.assert_close(with_tables["state_dict"][name], weights, rtol=1e-4, atol=1e-6)
        different += int((with_tables["state_dict"][name] != weights).sum())
    assert different > 0  # the tables were used
    found, expected = tabulated.evaluate("validation"), plain.evaluate("validation")
    assert found == pytest.approx(expected, rel=1e-5)
    assert 0 < float(tabulated.pl_trainer.callback_metrics["table_error_value"]) < 1e-5


def test_large_errors_end_training(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step, with the remedy."""
    monkeypatch.setitem(tables.LIMITS, torch.float64, 1e-12)
    with pytest.raises(TrainingError, match="Set training.tabulate to false"):
        trained(tmp_path / "run", **{"training.tabulate": True})
