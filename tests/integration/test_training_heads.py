"""Runs with property and classification heads, alone and beside an energy head, with labels missing."""

from __future__ import annotations

import csv
import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lightning.pytorch import Callback
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer, cli
from kimgnn.errors import DataError, ManifestError, TrainingError
from kimgnn.evaluation.predict import predict
from kimgnn.export.property_contract import describe_properties
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.physics.potential import Potential

# Labels are missing on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*they are left out of that term of the loss")

VOLUME = {"type": "property", "target": "volume", "unit": "Å³", "extensive": True, "hidden_channels": 8}
DENSE = {"type": "classification", "target": "dense", "classes": ["loose", "dense"], "hidden_channels": 8}
SHIELDING = {"type": "property", "target": "shielding", "unit": "ppm", "per_atom": True, "hidden_channels": 8}


def labelled_silicon(n: int = 12) -> list[Atoms]:
    """Cells with a volume, missing on every third, a class, missing on every fourth, and a number for each atom."""
    frames = silicon(n)
    for index, atoms in enumerate(frames):
        if index % 3:
            atoms.info["volume"] = atoms.get_volume()
        if index % 4:
            atoms.info["dense"] = "dense" if atoms.get_volume() / len(atoms) < 20.0 else "loose"
        atoms.arrays["shielding"] = np.linspace(-1, 1, len(atoms))
    return frames


@pytest.fixture
def manifest(tmp_path):
    def make(heads, **changes):
        data = tmp_path / "silicon.xyz"
        if not data.exists():
            ase.io.write(data, labelled_silicon(), format="extxyz")
        return tiny_manifest(tmp_path, {"model.heads": heads, **changes})

    return make


ALONE = {"training.loss.weights": None}


@pytest.mark.parametrize("balance", ["fixed", "inverse_spread", "uncertainty"])
def test_multitask_run_learns_predicts_and_reports_every_head(manifest, balance):
    """Energy, forces, an extensive property, a class and a per-atom property, with missing labels."""
    trainer = GNNLightningTrainer(
        manifest([{"type": "energy"}, VOLUME, DENSE, SHIELDING], **{"training.loss.balance": balance})
    )
    trainer.train()
    metrics = json.loads((trainer.run.path / "report" / "metrics.json").read_text())
    for name in ("energy_mae", "forces_mae", "volume_mae", "dense_accuracy", "shielding_mae"):
        assert np.isfinite(metrics["train"][name]), name
    assert metrics["train"]["volume_count"] < 6  # of six structures, some have none
    assert (trainer.run.path / "report" / "report.html").is_file()
    with (trainer.run.path / "report" / "test_results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2

    checkpoint = load_checkpoint(trainer.run.path)
    structures = trainer.splits["test"]
    again = predict(Potential(checkpoint.network), structures, trainer.graph_of)
    for ours, theirs in zip(trainer.predict(structures), again, strict=True):
        np.testing.assert_array_equal(ours.properties["volume"], theirs.properties["volume"])
        assert ours.forces.shape == theirs.properties["shielding"].shape[:1] + (3,)
        assert theirs.properties["dense"].sum() == pytest.approx(1.0)


def test_property_alone_needs_no_weights_of_energies(manifest):
    """Nothing but the property is fitted, and a supercell has twice of it."""
    trainer = GNNLightningTrainer(manifest([VOLUME], **ALONE))
    trainer.train()
    atoms = bulk("Si", cubic=True)
    one, two = trainer.predict([atoms, atoms.repeat((2, 1, 1))])
    assert one.energy is None
    # The sum over twice the atoms, in single additions of another order.
    np.testing.assert_allclose(two.properties["volume"], 2 * one.properties["volume"], rtol=1e-12)


def test_structures_without_any_target_are_not_trained_on(manifest):
    """Every third has no volume; beside an energy head it would stay."""
    alone = GNNLightningTrainer(manifest([VOLUME], **ALONE))
    assert len(alone.splits["train"]) < 6
    assert all(np.isfinite(item.metadata["targets"]["volume"]).all() for item in alone.splits["train"])
    beside = GNNLightningTrainer(manifest([VOLUME, {"type": "energy"}]))
    assert len(beside.splits["train"]) == 6


def test_learning_takes_place(manifest):
    """Volumes of an atom and classes follow from the nearest distances: the errors fall well below the spread."""
    options = {"hidden_channels": 16, "num_filters": 16, "num_interactions": 1, "num_gaussians": 16}
    changes = {"model.options": options, "training.epochs": 200, "training.optimizer.learning_rate": 5e-3}
    trainer = GNNLightningTrainer(
        manifest([VOLUME, DENSE], **ALONE, **changes, **{"training.validation_dataset": None})
    )
    trainer.train()
    found = trainer.evaluate("train")
    assert found["volume_mad_ratio"] < 0.3
    assert found["dense_accuracy"] == 1.0


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_are_the_same_bits_again_and_after_an_interruption(manifest, workers):
    """Dropout and the learned balance included: random numbers are drawn by epoch."""

    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == 1:
                raise KeyboardInterrupt

    heads = [VOLUME | {"dropout": 0.3}, DENSE | {"dropout": 0.3}]
    changes = ALONE | {"training.epochs": 3, "training.loss.balance": "uncertainty"}
    once = GNNLightningTrainer(manifest(heads, **changes, **{"model.name": "once"}))
    once.train()
    changes |= {"training.num_workers": workers}
    first = GNNLightningTrainer(manifest(heads, **changes))
    first.pl_trainer.callbacks.insert(0, CtrlC())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = GNNLightningTrainer(manifest(heads, **changes, **{"workspace.resume": True}))
    second.train()
    assert second.run.path == first.run.path
    expected, found = (torch.load(run.run.last, weights_only=True)["state_dict"] for run in (once, second))
    assert expected.keys() == found.keys()
    assert "balance.log_variances" in expected
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        ([VOLUME | {"target": "volum"}], "Did you mean 'volume'?"),
        ([VOLUME | {"target": "dense"}], "the target is not a number"),
        ([DENSE | {"classes": ["soft", "hard"]}], "there is no such class"),
    ],
)
def test_bad_targets_are_told_before_training(manifest, heads, told):
    """By structure, and with what there is."""
    with pytest.raises(DataError) as caught:
        GNNLightningTrainer(manifest(heads, **ALONE))
    assert told in str(caught.value)


def test_target_that_does_not_vary_is_told(manifest, tmp_path):
    """Nothing can be learned from it; likewise of a single class."""
    frames = labelled_silicon()
    for atoms in frames:
        atoms.info |= {"volume": 3.0, "dense": "loose"}
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    with pytest.raises(DataError) as caught:
        GNNLightningTrainer(manifest([VOLUME, DENSE], **ALONE))
    assert "all structures to train on have the same value" in str(caught.value)
    assert "all structures to train on are of one class" in str(caught.value)


def test_energy_weight_without_an_energy_head_is_told(manifest, tmp_path):
    """What was asked for would silently not be fitted."""
    with pytest.raises(ManifestError, match=r"training\.loss\.weights\.forces: needs an energy head"):
        GNNLightningTrainer(manifest([VOLUME]))
    (tmp_path / "weights.dat").write_text("config energy\n2 1\n")
    with pytest.raises(ManifestError, match=r"training\.loss\.weights: energy: needs an energy head"):
        GNNLightningTrainer(manifest([VOLUME], **{"training.loss.weights": str(tmp_path / "weights.dat")}))


def test_value_without_logarithm_is_told_wherever_it_is(manifest, tmp_path):
    """Of a validation set it would make every loss infinite, and all weights equally good."""
    frames = labelled_silicon()
    frames[-1].info["volume"] = 0.0
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    (tmp_path / "val.txt").write_text("10\n11\n")
    changes = ALONE | {"training.validation_dataset": {"val_indices": str(tmp_path / "val.txt")}}
    with pytest.raises(DataError, match=r"silicon\.xyz:11 \(volume\): has no logarithm"):
        GNNLightningTrainer(manifest([VOLUME | {"extensive": False, "transform": "log10"}], **changes))


@pytest.mark.parametrize("species", [None, ["Ge", "Si"]])
def test_element_that_only_the_test_set_has(manifest, tmp_path, monkeypatch, capsys, species):
    """Its features are the random ones that the network began with: told, evaluated, but in no model that is used."""
    frames = labelled_silicon()
    frames[-1].symbols[0] = "Ge"
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    (tmp_path / "test.txt").write_text("10\n11\n")
    changes = {
        "training.test_dataset": {"test_indices": str(tmp_path / "test.txt")},
        "transforms.configuration.kwargs.species": species,
        "training.epochs": 1,
    }
    with pytest.warns(UserWarning, match=r"test_dataset: 1 structures .*\(Ge\).*silicon\.xyz:11$"):
        trainer = GNNLightningTrainer(manifest([VOLUME, {"type": "energy"}], **changes))
    trainer.train()
    assert np.isfinite(trainer.evaluate("test")["energy_mae"])
    with pytest.raises(DataError, match=r"1 structures have elements .*\(Ge\).*evaluate\(\)"):
        trainer.predict(frames)
    assert load_checkpoint(trainer.run.path).spec.species == ["Si"]

    folder = trainer.save_kim_model(tmp_path / "kim")
    assert "\nspecies Si\n" in (folder / "kimgnn.param").read_text()
    assert describe_properties(load_checkpoint(trainer.run.path)).species == ["Si"]
    monkeypatch.chdir(tmp_path)
    ase.io.write("good.xyz", frames[0], format="extxyz")
    ase.io.write("strange.xyz", frames[-1], format="extxyz")
    for number, model in enumerate((trainer.run.path, folder / "model.pt", folder / "properties.pt")):
        arguments = ["predict", str(model), "good.xyz", "strange.xyz", "--output", f"{number}.csv"]
        monkeypatch.setattr("sys.argv", ["kimgnn", *arguments])
        with pytest.raises(SystemExit, match="1"):
            cli.main()
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith(
            "strange.xyz:0: the structure has a species that the model was not trained on (got 'Ge')"
        )
        with open(f"{number}.csv", newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == ["good.xyz:0"]
    monkeypatch.setattr("sys.argv", ["kimgnn", "evaluate", str(trainer.run.path), "good.xyz", "strange.xyz"])
    with (
        pytest.raises(SystemExit, match="0"),
        pytest.warns(UserWarning, match=r"1 structures .*\(Ge\).*strange\.xyz:0"),
    ):
        cli.main()
    assert "volume" in capsys.readouterr().out


def test_labels_that_no_head_reads_may_be_anything(manifest, tmp_path):
    """Without an energy head, what is called energy is no energy."""
    frames = labelled_silicon()
    for atoms in frames:
        atoms.calc = None
        atoms.info["energy"] = "high"
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    assert len(GNNLightningTrainer(manifest([VOLUME], **ALONE)).dataset) == 12
    with pytest.raises(DataError, match="the energy is not numeric"):
        GNNLightningTrainer(manifest([VOLUME, {"type": "energy"}]))


def test_elements_outside_the_networks_table_are_left_out_or_stop_the_run(manifest, tmp_path):
    """As the manifest says of whatever is wrong with a structure, also of those in files of their own."""
    frames = labelled_silicon()
    frames[3].symbols[0] = "Ge"
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    ase.io.write(tmp_path / "test.xyz", frames[2:4], format="extxyz")
    (tmp_path / "atoms.json").write_text('{"14": [1.0, 0.5]}')
    changes = ALONE | {
        "model.architecture": "cgcnn",
        "model.options": {"element_features": str(tmp_path / "atoms.json"), "hidden_channels": 8},
        "transforms.configuration.kwargs.species": None,
        "training.test_dataset": {"path": str(tmp_path / "test.xyz")},
    }
    with pytest.raises(
        DataError, match=r"silicon\.xyz:3: has elements that .*atoms\.json has no features of \(got 'Ge'"
    ):
        GNNLightningTrainer(manifest([VOLUME], **changes))
    with pytest.warns(UserWarning, match=r"1 entries are left out, \d+ stay:\n.*:[13]: has elements") as told:
        trainer = GNNLightningTrainer(manifest([VOLUME], **changes, **{"dataset.on_error": "skip"}))
    assert [str(item.message).partition(":")[0] for item in told] == ["dataset", "training.test_dataset"]
    assert (len(trainer.dataset), len(trainer.splits["test"])) == (11, 1)


def test_resuming_with_heads_that_predict_something_else_is_told(manifest):
    """The weights would fit, and mean logarithms."""
    changes = ALONE | {"training.epochs": 1}
    intensive = VOLUME | {"extensive": False}
    run = GNNLightningTrainer(manifest([intensive], **changes))
    run.train()
    changes |= {"training.epochs": 2, "workspace.resume": str(run.run.path)}
    other = GNNLightningTrainer(manifest([intensive | {"transform": "log10"}], **changes))
    with pytest.raises(TrainingError, match=r"model\.heads: the run has heads that predict something else"):
        other.evaluate()
    (run.run.path / ".finished").unlink()
    with pytest.raises(TrainingError, match=r"model\.heads: the run has heads that predict something else"):
        other.train()
