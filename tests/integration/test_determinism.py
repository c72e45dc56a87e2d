"""One manifest and one seed give one set of weights, to the last bit, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from lightning.pytorch import Callback
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.evaluation.report import Report

OPTIONS: dict[str, dict[str, Any]] = {
    "potential": {"training.epochs": 4, "training.optimizer.ema": True},
    # Its dropout draws random numbers in every step.
    "property": {
        "training.epochs": 4,
        "training.optimizer.ema": True,
        "training.loss.weights": None,
        "transforms.configuration": {
            "name": "CrystalGraph",
            "kwargs": {"cutoff": 6.0, "max_neighbors": 6, "species": ["Si"]},
        },
        "model.architecture": "cgcnn",
        "model.options": {"hidden_channels": 8, "num_convolutions": 2},
        "model.heads": [{"type": "property", "target": "volume", "unit": "Å³", "hidden_channels": 8, "dropout": 0.3}],
    },
}
"""Kind of network -> what is changed in the manifest."""


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """Reports are not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))
        yield


def manifest(folder: Path, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest for cells that know their volume."""
    if not (folder / "silicon.xyz").exists():
        frames = silicon()
        for atoms in frames:
            atoms.info["volume"] = atoms.get_volume()
        ase.io.write(folder / "silicon.xyz", frames, format="extxyz")
    return tiny_manifest(folder, OPTIONS[kind] | changes)


def trained(folder: Path, kind: str, changes: dict[str, Any]) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(manifest(folder, kind, changes))
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
    assert len(found) > 30
    return found


def assert_identical(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    assert different == []


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def kind(request):
    """The kind of network."""
    return request.param


@pytest.fixture(scope="module")
def reference(tmp_path_factory, kind):
    """The weights of a run with nothing special."""
    return weights(trained(tmp_path_factory.mktemp("reference"), kind, {}))


@pytest.mark.parametrize(
    "changes",
    [{}, {"training.num_workers": 2}, {"dataset.dynamic_loading": True, "training.num_workers": 2}],
    ids=["again", "workers", "dynamic, workers"],
)
def test_how_batches_are_loaded_changes_no_bit(tmp_path, kind, reference, changes):
    """Twice in a row, in one process or three, graphs made at once or when they are needed."""
    assert_identical(weights(trained(tmp_path, kind, changes)), reference)


@pytest.mark.parametrize(("dynamic", "num_workers"), [(False, 0), (True, 2)])
def test_cache_changes_no_bit(tmp_path, kind, reference, dynamic, num_workers):
    """Graphs from a cache, as it is filled and when it is full."""
    changes = {
        "dataset.cache": str(tmp_path / "cache"),
        "dataset.dynamic_loading": dynamic,
        "training.num_workers": num_workers,
    }
    cold = trained(tmp_path, kind, changes)
    warm = trained(tmp_path, kind, changes | {"model.name": "warm"})
    assert_identical(weights(cold), reference)
    assert_identical(weights(warm), reference)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_interruption_changes_no_bit(tmp_path, kind, reference, num_workers):
    """Interrupted in the middle of the third epoch and resumed, with or without workers."""

    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 1:
                raise KeyboardInterrupt

    changes = {"training.num_workers": num_workers}
    first = GNNLightningTrainer(manifest(tmp_path, kind, changes))
    first.pl_trainer.callbacks.insert(0, CtrlC())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert torch.load(first.run.last, weights_only=True)["epoch"] == 1
    resumed = trained(tmp_path, kind, changes | {"workspace.resume": True})
    assert resumed.run.path == first.run.path
    assert_identical(weights(resumed), reference)


def test_seed_and_manifest_do_matter(tmp_path, kind, reference):
    """The comparison is not blind: another seed gives other weights."""
    other = weights(trained(tmp_path, kind, {"workspace.seed": 8}))
    with pytest.raises(AssertionError):
        assert_identical(other, reference)
