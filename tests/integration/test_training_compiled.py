"""Training by compiled steps is training without, to rounding: loops of a C++ compiler, Lightning, checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from silicon_run import tiny_manifest

from kimgnn import GNNLightningTrainer

CHANGES = {
    "training.optimizer.ema": True,
    "training.gradient_clip": 10.0,
    "training.training_dataset.train_size": 5,
    "training.tabulate": True,
    "transforms.configuration.kwargs.cutoff": 5.0,
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GNNLightningTrainer, "_write_report", lambda self: None)


def trained(folder: Any, **changes: object) -> tuple[GNNLightningTrainer, dict[str, Any]]:
    folder.mkdir()
    trainer = GNNLightningTrainer(tiny_manifest(folder, CHANGES | changes))
    trainer.train()
    return trainer, torch.load(trainer.run.last, weights_only=True)


@pytest.mark.slow
def test_same_weights_with_and_without(tmp_path: Any) -> None:
    """Averaged weights, clipped gradients, tables, a last batch of one; a run that goes on; checkpoints are alike."""
    plain, without = trained(tmp_path / "plain")
    compiled, found = trained(tmp_path / "compiled", **{"training.compile": True})
    assert compiled.pl_model.compiled._compiled is not None
    assert found["state_dict"].keys() == without["state_dict"].keys()
    for name, weights in without["state_dict"].items():
        # Adam divides gradients by their own size: where one is nothing but rounding, so is the step.
        torch.testing.assert_close(found["state_dict"][name], weights, rtol=1e-8, atol=1e-9)
    expected = plain.evaluate("validation")
    assert compiled.evaluate("validation") == pytest.approx(expected, rel=1e-8)
    assert found["kimgnn"]["metrics"] == pytest.approx(without["kimgnn"]["metrics"], rel=1e-6)
