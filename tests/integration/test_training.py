"""Whole runs of the trainer: what they leave, what the options do, what a full disk does."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from silicon_run import silicon, tiny_manifest, write_silicon

from kimgnn import GNNLightningTrainer
from kimgnn.errors import DataError, TrainingError
from kimgnn.evaluation.report import Report
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.training.history import run_history


@pytest.fixture(autouse=True)
def _pictures_only_of_reports(monkeypatch, request):
    """Drawing takes longer than most of these runs."""
    if "report" not in request.node.name:
        monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


def trained(folder, changes=None) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(tiny_manifest(folder, changes))
    trainer.train()
    return trainer


def last_weights(trainer: GNNLightningTrainer) -> dict[str, torch.Tensor]:
    return torch.load(trainer.run.last, weights_only=True)["state_dict"]


def test_training_learns_and_leaves_logs_checkpoints_and_a_report(tmp_path):
    """The loss falls; metrics are logged in the field's units as CSV and for TensorBoard; there is a report."""
    trainer = trained(tmp_path, {"training.epochs": 15})
    history = run_history(trainer.run.path)
    assert history["val_loss"][1].min() < history["val_loss"][1][0]
    for split in ("train", "val"):
        for name in ("energy_mae", "energy_rmse", "forces_mae", "forces_rmse"):
            assert history[f"{split}_{name}"][0].tolist() == list(range(15))
    assert "val_stress_rmse" in history
    assert list(trainer.run.path.glob("logs/lightning_logs/version_0/events.out.tfevents.*"))
    metrics = json.loads((trainer.run.path / "report" / "metrics.json").read_text())
    assert metrics["test"] == trainer.evaluate("test")
    assert set(metrics) == {"train", "val", "test"}
    assert {"train_indices.txt", "val_indices.txt", "test_indices.txt", "manifest.yaml"} <= set(
        os.listdir(trainer.run.path)
    )
    checkpoint = load_checkpoint(trainer.run.best)
    assert checkpoint.spec.species == ["Si"]
    assert checkpoint.transform["name"] == "PeriodicGraph"
    assert checkpoint.manifest == trainer.manifest.to_dict()
    assert checkpoint.metrics["val_forces_mae"] == pytest.approx(trainer.evaluate("validation")["forces_mae"])


def test_two_runs_with_one_seed_are_the_same(tmp_path):
    """Same manifest, same weights, to the last bit; another seed, other weights."""
    first, second = (last_weights(trained(tmp_path, {"model.name": name})) for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = last_weights(trained(tmp_path, {"workspace.seed": 8}))
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("changes", [{"dataset.dynamic_loading": True}, {"training.num_workers": 1}])
def test_how_graphs_are_loaded_does_not_matter(tmp_path, changes):
    """Graphs made on demand or by a worker give the weights of graphs made once in the process."""
    plain = last_weights(trained(tmp_path))
    other = last_weights(trained(tmp_path, changes))
    for name, tensor in plain.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-12)


def test_epoch_losses_do_not_depend_on_how_validation_is_batched(tmp_path):
    """The validation loss is a mean over the set, not over batches of different sizes."""
    changes = {"training.validation_dataset.val_size": 3, "training.epochs": 1}
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    losses = []
    for size in (1, 2, 3):
        trainer.data_module.batch_size = size
        with pytest.warns(FutureWarning, match="LeafSpec"):
            (metrics,) = trainer._get_pl_trainer().validate(trainer.pl_model, trainer.data_module, verbose=False)
        losses.append(metrics["val_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)


def test_early_stopping_with_and_without_validation(tmp_path):
    """A loss that does not get better by a lot ends the run after the patience, as a finished one."""
    changes = {"training.early_stopping": {"patience": 2, "delta": 1e9}, "training.epochs": 30}
    for more in ({}, {"training.validation_dataset": None}):
        trainer = trained(tmp_path, changes | more)
        assert trainer.current["epoch"] == 2
        assert trainer.run.finished


def test_gradient_is_clipped(tmp_path):
    """With plain gradient descent, one step moves the weights by at most rate × largest norm."""
    changes = {
        "training.optimizer": {"name": "SGD", "learning_rate": 0.1},
        "training.gradient_clip": 1e-3,
        "training.batch_size": 6,
        "training.epochs": 1,
    }
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    before = torch.nn.utils.parameters_to_vector(trainer.potential.parameters()).detach().clone()
    trainer.train()
    after = torch.nn.utils.parameters_to_vector(trainer.potential.parameters()).detach()
    assert float((after - before).norm()) == pytest.approx(1e-4, rel=1e-4)


def test_missing_labels_are_masked_in_training(tmp_path):
    """Structures without forces or stress take part with what they have."""
    frames = silicon()
    for atoms in frames[::2]:
        del atoms.calc.results["forces"]
    for atoms in frames[1::2]:
        del atoms.calc.results["stress"]
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    changes = {"training.loss.weights": {"energy": 1.0, "forces": 1.0, "stress": 1.0}}
    with pytest.warns(UserWarning, match="structures have no"):
        trainer = trained(tmp_path, changes)
    assert np.isfinite(trainer.current["best_loss"])
    assert all(torch.isfinite(tensor).all() for tensor in last_weights(trainer).values())


def test_structures_can_be_saved_as_they_were_read(tmp_path):
    """``dataset.save`` writes them into the workspace."""
    GNNLightningTrainer(tiny_manifest(tmp_path, {"dataset.save": True}))
    saved = ase.io.read(tmp_path / "runs" / "datasets" / "dataset.extxyz", ":")
    assert [len(atoms) for atoms in saved] == [len(atoms) for atoms in silicon()]


def test_resuming_with_another_network_is_refused(tmp_path):
    """The message says what differs."""
    first = trained(tmp_path)
    (first.run.path / ".finished").unlink()
    changes = {"workspace.resume": True, "model.options.hidden_channels": 16}
    with pytest.raises(TrainingError, match=r"model\.options: .*another options"):
        trained(tmp_path, changes)


def test_resuming_with_other_data_is_refused(tmp_path):
    """Other data would be split otherwise, and test structures trained on."""
    first = trained(tmp_path)
    (first.run.path / ".finished").unlink()
    write_silicon(tmp_path / "silicon.xyz", seed=1)
    with pytest.raises(TrainingError, match="dataset: the structures are not those"):
        trained(tmp_path, {"workspace.resume": True})


@pytest.mark.parametrize("changes", [{"workspace.seed": 8}, {"training.validation_dataset": None}])
def test_resuming_with_another_split_is_refused(tmp_path, changes):
    """What was validated on so far would be trained on."""
    first = trained(tmp_path)
    (first.run.path / ".finished").unlink()
    with pytest.raises(TrainingError, match="divided otherwise"):
        trained(tmp_path, changes | {"workspace.resume": True})
    assert trained(tmp_path, {"workspace.resume": True}).run.path == first.run.path


def test_an_element_that_was_not_trained_on_is_refused(tmp_path):
    """Without a list of species in the manifest, those of the data are the network's; others have random weights."""
    trainer = trained(tmp_path, {"transforms.configuration.kwargs.species": None, "training.epochs": 1})
    with pytest.raises(DataError, match="Ge"):
        trainer.predict([bulk("Ge")])
    assert load_checkpoint(trainer.run.best).transform["kwargs"]["species"] == ["Si"]


@pytest.mark.filterwarnings("ignore:.*it is not fitted")
def test_weights_that_switch_every_label_off_are_refused(tmp_path):
    """What ``dataset.weights`` does not name has weight 0: the loss would be 0, and every network the best."""
    changes = {"dataset.weights": {"config": 2.0}, "training.validation_dataset": None}
    with pytest.raises(DataError, match=r"dataset\.weights: .*nothing is fitted"):
        GNNLightningTrainer(tiny_manifest(tmp_path, changes))


def test_predictions_for_every_atom_are_stored_as_kliff_stores_them(tmp_path, monkeypatch):
    """Forces of every structure, trained on and validated, every ``ckpt_interval`` epochs, under KLIFF's keys."""
    stored: dict[str, dict] = {}

    class Transaction:
        @staticmethod
        def put(key, value):
            stored[key.decode()] = pickle.loads(value)

    class Database:
        @contextmanager
        def begin(self, write):
            yield Transaction

    monkeypatch.setattr(GNNLightningTrainer, "_open_per_atom_database", lambda self: Database())
    trainer = trained(tmp_path, {"training.log_per_atom_pred": True, "training.ckpt_interval": 2})
    indices = trainer.indices["train"] + trainer.indices["validation"]
    assert set(stored) == {f"epoch_{epoch}|index_{index}" for epoch in (0, 2) for index in indices}
    for key, entry in stored.items():
        n_atoms = len(trainer.dataset[int(key.split("_")[-1])].species)
        assert entry["pred_0"].shape == (entry["n_atoms"], 3) == (n_atoms, 3)


@pytest.fixture
def small_disk():
    """Mount a disk of 300 KiB where asked, and take it away afterwards."""
    mounted = []

    def mount(path):
        path.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)], capture_output=True)
        if done.returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


def test_full_disk_keeps_the_checkpoint_before_it(tmp_path, small_disk):
    """A disk that is full ends the run with the file and the remedy, and the last checkpoint can be continued."""
    changes = {"training.ckpt_interval": 1, "training.epochs": 50}
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    small_disk(trainer.run.checkpoints)
    with pytest.raises(TrainingError, match=r"ckpt: .*No space left.*disk space"):
        trainer.train()
    assert not list(trainer.run.checkpoints.glob(".*"))
    reached = torch.load(trainer.run.last, weights_only=True)["epoch"]
    for path in trainer.run.checkpoints.glob("epoch_*"):
        path.unlink()
    changes |= {"workspace.resume": True, "training.ckpt_interval": 50, "training.epochs": reached + 2}
    assert trained(tmp_path, changes).current["epoch"] == reached + 1


@pytest.mark.parametrize("strategy", ["ddp", "ddp_notebook"])
def test_strategies_for_many_devices_run_on_one(tmp_path, strategy):
    """A manifest made for a cluster or a notebook runs on a laptop."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, sys
            from kimgnn import GNNLightningTrainer
            trainer = GNNLightningTrainer(json.load(open(sys.argv[1])))
            trainer.train()
            print("EVALUATED", trainer.evaluate("test")["forces_count"])
            """
        )
    )
    changes = {"training.strategy": strategy, "training.devices": 1, "training.epochs": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(tiny_manifest(tmp_path, changes)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "train.py", "manifest.json"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "EVALUATED" in done.stdout, done.stderr


def test_csv_log_can_be_read_by_anything(tmp_path):
    """One header, one row for each thing logged, plain numbers."""
    trainer = trained(tmp_path)
    with open(trainer.run.path / "logs" / "csv_logs" / "version_0" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"epoch", "step", "train_loss", "val_loss", "learning_rate"} <= rows[0].keys()
    assert {float(row["epoch"]) for row in rows} == {0.0, 1.0, 2.0}


def test_a_network_trained_with_half_the_bits_is_exported(tmp_path):
    """What casts in training is no part of what TorchScript compiles, nor of the potential that is asked for."""
    trainer = trained(tmp_path, {"training.epochs": 1, "training.mixed_precision": "bf16", "model.precision": "single"})
    assert (trainer.save_kim_model(tmp_path / "kim") / "model.pt").is_file()
    assert not any(module._forward_hooks for module in trainer.best_potential().modules())
    assert any(module._forward_hooks for module in trainer.potential.modules())
