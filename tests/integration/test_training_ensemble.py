"""Ensembles and dropout: trained, stopped, gone on with, calibrated, predicted with and exported."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from lightning.pytorch import Callback
from loguru import logger
from silicon_run import silicon, tiny_manifest

from kimgnn import GNNLightningTrainer
from kimgnn.errors import DataError, ManifestError, TrainingError
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.evaluation.report import Report
from kimgnn.evaluation.sampling import predict_as_asked
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.predictor import load_predictor
from kimgnn.training import ensemble
from kimgnn.training import trainer as trainer_module
from kimgnn.training.ensemble import MemberTrainer
from kimgnn.training.experiments import member_of

VOLUME = {"type": "property", "target": "volume", "unit": "Å³", "extensive": True, "hidden_channels": 8}
LOGARITHM = VOLUME | {"name": "logarithm", "extensive": False, "transform": "log10", "readout": "sum"}
DENSE = {"type": "classification", "target": "dense", "classes": ["loose", "dense"], "hidden_channels": 8}
HEADS = [VOLUME, LOGARITHM, DENSE]
SIZES = {
    "training.training_dataset": {"train_size": 10},
    "training.validation_dataset": {"val_size": 15},
    "training.test_dataset": {"test_size": 15},
}


def labelled(n: int = 40) -> list[Atoms]:
    """Cells with a volume and a class of their density."""
    frames = silicon(n)
    for atoms in frames:
        atoms.info["volume"] = atoms.get_volume()
        atoms.info["dense"] = "dense" if atoms.get_volume() / len(atoms) < 20.0 else "loose"
    return frames


def manifest_in(folder: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the manifest of three potentials, or of what is changed, with data in the folder."""
    folder.mkdir(exist_ok=True)
    ase.io.write(folder / "silicon.xyz", labelled(), format="extxyz")
    return tiny_manifest(folder, {"model.ensemble": 3, **SIZES, **(changes or {})})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not what most tests are about."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What is logged."""
    told: list[str] = []
    sink = logger.add(told.append, level="WARNING", format="{message}")
    yield told
    logger.remove(sink)


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> GNNLightningTrainer:
    """Three potentials, trained."""
    folder = tmp_path_factory.mktemp("potential")
    trainer = GNNLightningTrainer(manifest_in(folder))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def properties(tmp_path_factory: pytest.TempPathFactory) -> GNNLightningTrainer:
    """Three networks with heads of every kind, trained."""
    changes = {"model.heads": HEADS, "training.loss.weights": None}
    trainer = GNNLightningTrainer(manifest_in(tmp_path_factory.mktemp("properties"), changes))
    trainer.train()
    return trainer


def member_runs(trainer: GNNLightningTrainer) -> list[Path]:
    """Return the run directories of an ensemble's members, in their order."""
    return sorted(path for path in (trainer.run.path / "members").glob("member_*") if path.is_dir())


def assert_same(ours: Prediction, theirs: Prediction, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Compare everything that two predictions say."""
    for field in fields(Prediction):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        pairs = zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else [(one, other)]
        for left, right in pairs:
            if left is None or right is None:
                assert left is right
            else:
                np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


# -- Training -----------------------------------------------------------------------------------------------------


def test_each_network_is_the_one_that_its_seed_trains_alone(potential: GNNLightningTrainer, tmp_path: Path) -> None:
    """The same weights, bit by bit, as an ordinary run with this seed and the ensemble's division of the data."""
    (path,) = [path for path in member_runs(potential) if "member_2" in path.name]
    alone = deepcopy(potential.manifest.to_dict())
    alone["workspace"] = {"name": str(tmp_path / "runs"), "seed": 8}
    alone["model"]["ensemble"] = 1
    run = potential.run.path
    for block, name in (("training", "train"), ("validation", "val"), ("test", "test")):
        alone["training"][f"{block}_dataset"] = {f"{name}_indices": str(run / f"{name}_indices.txt")}
    trainer = MemberTrainer(alone)  # an ordinary trainer, without a report
    trainer.train()
    ours, theirs = load_checkpoint(path).network.state_dict(), load_checkpoint(trainer.run.path).network.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)


def test_the_ensemble_is_the_mean_of_its_networks(potential: GNNLightningTrainer) -> None:
    """Energies, forces and stress are means, deviations those of the three predictions, to rounding."""
    structures = potential.splits["test"]
    alone = []
    for path in member_runs(potential):
        alone.append(predict(Potential(load_checkpoint(path).network), structures, potential.graph_of))
    raw = predict(Potential(load_checkpoint(potential.run.path).network), structures, potential.graph_of)
    for index, together in enumerate(raw):
        energies = [found[index].energy for found in alone]
        forces = np.stack([found[index].forces for found in alone])
        assert together.energy == pytest.approx(np.mean(energies), abs=1e-10)
        assert together.energy_deviation == pytest.approx(np.std(energies, ddof=1), rel=1e-6)
        np.testing.assert_allclose(together.forces, forces.mean(0), atol=1e-10)
        np.testing.assert_allclose(together.forces_deviation, forces.std(0, ddof=1), rtol=1e-5, atol=1e-10)
        np.testing.assert_allclose(together.stress, np.mean([found[index].stress for found in alone], 0), atol=1e-12)


def test_the_trainer_tells_and_reports_what_it_knows(potential: GNNLightningTrainer) -> None:
    structures = potential.splits["test"]
    found = potential.predict(structures)[0]
    lower, upper = found.intervals["energy"]
    assert lower < found.energy < upper  # type: ignore[operator]
    assert found.intervals["forces"].shape == (2, *found.forces.shape)  # type: ignore[union-attr]
    metrics = potential.evaluate("test")
    assert 0.0 <= metrics["energy_coverage"] <= 1.0
    reported = json.loads((potential.run.path / "report" / "metrics.json").read_text())["test"]
    assert reported["forces_coverage"] == pytest.approx(metrics["forces_coverage"])
    assert reported["energy_miscalibration_area"] >= 0.0
    assert reported["stress_coverage"] == pytest.approx(metrics["stress_coverage"])
    html = (potential.run.path / "report" / "report.html").read_text(encoding="utf-8")
    assert 'id="uncertainty"' in html
    epochs = 3 * potential.manifest.training.epochs
    assert f"{epochs} epochs of 3 networks, added up, in" in html
    assert "Learning curves, mean of 3 networks" in html
    assert "Uncertainty: forces" in html
    card = (potential.run.path / "report" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "How well it knows its errors" in card
    with (potential.run.path / "report" / "test_results.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["energy lower (eV)"]) < float(row["energy prediction (eV)"]) < float(row["energy upper (eV)"])


def test_all_heads_are_calibrated(properties: GNNLightningTrainer) -> None:
    """A logarithm's is positive, a class has its set."""
    calibration = load_checkpoint(properties.run.path).calibration
    assert calibration["values"].keys() == {"volume", "logarithm"}
    assert calibration["values"]["volume"]["structures"] == 15
    assert calibration["classes"].keys() == {"dense"}
    for found in properties.predict(properties.splits["test"]):
        assert (found.intervals["logarithm"] > 0).all()
        assert found.deviations["dense"].shape == (2,)
        assert found.sets["dense"].any()
    held = properties.evaluate("validation")["volume_coverage"]
    # The largest of fifteen scores is the interval's end, but for rounding: ⌈0.9 · 16⌉ is 15.
    assert held >= 14 / 15 - 1e-9


def test_two_processes_train_what_one_does(tmp_path: Path, quick: None) -> None:
    """The same weights, bit by bit; the log of each process is in the run."""
    told = []
    for name, devices in (("one", None), ("two", 2)):
        changes = {"training.devices": devices, "model.ensemble": 2, "training.epochs": 2}
        trainer = GNNLightningTrainer(manifest_in(tmp_path / name, changes))
        trainer.train()
        assert trainer.run.finished
        told.append(load_checkpoint(trainer.run.path).network.state_dict())
    for name, value in told[0].items():
        torch.testing.assert_close(value, told[1][name], rtol=0, atol=0)
    assert "epoch" in (trainer.run.path / "members" / "member_2.log").read_text()


def test_a_process_that_fails_is_named_and_the_others_are_kept(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second network's loss is not a number; afterwards, only that is trained."""
    whole = ensemble._manifest_of

    def second_fails(trainer: GNNLightningTrainer, index: int) -> dict[str, Any]:
        plain = whole(trainer, index)
        if index == 1:
            plain["training"]["optimizer"] |= {"learning_rate": 1e200}
        return plain

    changes = {"training.devices": 2, "model.ensemble": 2, "training.epochs": 3}
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "_manifest_of", second_fails)
        with pytest.raises(TrainingError, match="network 2 could not be trained") as told:
            trainer.train()
    assert "member_2.log" in str(told.value)
    assert not trainer.run.finished
    with pytest.raises(TrainingError, match="nothing was trained yet"):
        trainer.evaluate("test")


class StopAt(Callback):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Press it."""
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def test_ctrl_c_and_on_again_is_the_same_ensemble(
    potential: GNNLightningTrainer, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second network: the first is not touched again, the weights are those of no interruption."""
    manifest = manifest_in(tmp_path / "run")
    plain = MemberTrainer._get_callbacks
    with monkeypatch.context() as patch:
        stop = StopAt(2)
        patch.setattr(
            MemberTrainer, "_get_callbacks", lambda self: [*plain(self), *([stop] if self.member == 1 else [])]
        )
        trainer = GNNLightningTrainer(manifest)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    first = member_runs(trainer)[0] / "checkpoints" / "best.ckpt"
    before = first.stat().st_mtime_ns
    assert len(member_runs(trainer)) == 2

    again = GNNLightningTrainer(manifest | {"workspace": manifest["workspace"] | {"resume": True}})
    assert again.run.path == trainer.run.path
    again.train()
    assert first.stat().st_mtime_ns == before
    assert len(member_runs(again)) == 3
    ours, theirs = (load_checkpoint(item.run.path).network.state_dict() for item in (again, potential))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)

    again.train()  # says that it is finished, and returns
    assert len(member_runs(again)) == 3


def test_an_ensemble_does_not_go_on_with_other_data(tmp_path: Path, quick: None) -> None:
    manifest = manifest_in(tmp_path / "run", {"model.ensemble": 2, "training.epochs": 1})
    trainer = GNNLightningTrainer(manifest)
    trainer.train()
    (trainer.run.path / ".finished").unlink()
    frames = labelled()
    frames[3].rattle(0.05)
    ase.io.write(tmp_path / "run" / "silicon.xyz", frames, format="extxyz")
    again = GNNLightningTrainer(manifest | {"workspace": manifest["workspace"] | {"resume": True}})
    with pytest.raises(TrainingError, match="not those that the run began with"):
        again.train()


def test_members_begin_with_the_weights_of_members(potential: GNNLightningTrainer, tmp_path: Path, quick: None) -> None:
    """Training goes on from an ensemble: with a learning rate of nothing, each network stays its own."""
    changes = {
        "training.initial_weights": str(potential.run.path),
        "training.optimizer.learning_rate": 1e-30,
        "training.epochs": 1,
    }
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    trainer.train()
    ours, theirs = (load_checkpoint(item.run.path).network.state_dict() for item in (trainer, potential))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-20)


def test_fits_of_another_number_of_threads_are_the_same_heads(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least squares on more threads end in other last bits, as where one network of several is left to go on with."""
    plain, calls = trainer_module.fit_spec, []

    def fit_spec(*given: Any) -> NetworkSpec:
        spec = plain(*given)
        calls.append(spec)
        scale = spec.heads[0]["scale"] * (1.0 + 1e-15 * len(calls))
        return replace(spec, heads=[spec.heads[0] | {"scale": scale}, *spec.heads[1:]])

    monkeypatch.setattr(trainer_module, "fit_spec", fit_spec)
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", {"model.ensemble": 2, "training.epochs": 1}))
    trainer.train()
    assert len(calls) == 3
    assert trainer.run.finished
    alone = [load_checkpoint(path).network.state_dict() for path in member_runs(trainer)]
    together = load_checkpoint(trainer.run.path).network.state_dict()
    for index, state in enumerate(alone):
        for name, value in state.items():
            torch.testing.assert_close(together[f"members.{index}.{name}"], value, rtol=0, atol=0)


def test_weights_of_too_few_networks_are_told_before_training(
    potential: GNNLightningTrainer, tmp_path: Path, quick: None
) -> None:
    changes = {"training.initial_weights": str(potential.run.path), "model.ensemble": 4}
    with pytest.raises(TrainingError, match=r"training\.initial_weights.*too few members"):
        GNNLightningTrainer(manifest_in(tmp_path / "run", changes))


def test_another_number_of_networks_than_was_trained_is_told(tmp_path: Path, quick: None) -> None:
    manifest = manifest_in(tmp_path / "run", {"model.ensemble": 2, "training.epochs": 1})
    GNNLightningTrainer(manifest).train()
    changed = {"workspace": manifest["workspace"] | {"resume": True}, "model": manifest["model"] | {"ensemble": 3}}
    again = GNNLightningTrainer(manifest | changed)
    again.train()  # says that the run is finished
    with pytest.raises(TrainingError, match=r"model\.ensemble.*another number of networks"):
        again.evaluate("test")


def test_late_fusion_has_forests_in_every_network(tmp_path: Path, quick: None) -> None:
    """A forest of its own beside each head of each network; the spread is that of both together."""
    fusion = {"features": "fractions", "fusion": "late", "n_trees": 5}
    changes = {
        "model.heads": [VOLUME],
        "model.composition": fusion,
        "training.loss.weights": None,
        "model.ensemble": 2,
        "training.epochs": 1,
    }
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    trainer.train()
    alone = [load_predictor(path) for path in member_runs(trainer)]
    atoms = labelled(1)
    for found in trainer.predict(trainer.splits["test"])[:1]:
        assert np.isfinite(found.deviations["volume"]).all()
    values = [one.predict([("a", atoms[0])])[0].properties["volume"] for one in alone]
    together = load_predictor(trainer.run.path).predict([("a", atoms[0])])[0]
    np.testing.assert_allclose(together.properties["volume"], np.mean(values, axis=0), rtol=1e-9)


# -- What is refused ----------------------------------------------------------------------------------------------


def test_calibration_by_name_needs_labels_enough(tmp_path: Path) -> None:
    """It is told before anything is trained; without the name, heads with too few go without."""
    changes = {
        "model.uncertainty": {"calibration": "conformal", "level": 0.95},
        "model.heads": [{"type": "energy"}, VOLUME, DENSE],
    }
    with pytest.raises(DataError) as told:
        GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    problems = [str(problem) for problem in told.value.problems]
    assert all(name in problem for name, problem in zip(("volume", "dense", "energy"), problems, strict=True))
    assert all("19 or more" in problem for problem in problems)


def test_without_labels_enough_nothing_is_calibrated(tmp_path: Path, quick: None) -> None:
    changes = {
        "model.uncertainty": {"level": 0.95},
        "model.ensemble": 2,
        "training.epochs": 1,
        "training.validation_dataset": {"val_size": 5},
    }
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    trainer.train()
    found = trainer.predict(trainer.splits["test"])[0]
    assert found.intervals == {}
    assert found.energy_deviation is not None


def test_a_prediction_that_is_no_number_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    """The head goes without calibration, which is told; others are calibrated, checkpoint and report are written."""
    changes = {"model.heads": HEADS, "training.loss.weights": None, "model.ensemble": 2, "training.epochs": 1}
    changes["model.uncertainty"] = {"calibration": "conformal"}
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", changes))
    broken = trainer.splits["validation"][3]

    def with_nan(potential: Any, configurations: Any, *arguments: Any, **named: Any) -> list[Prediction]:
        found = predict_as_asked(potential, configurations, *arguments, **named)
        for index, configuration in enumerate(configurations):
            if configuration is broken:
                found[index].properties["volume"][:] = np.nan
        return found

    monkeypatch.setattr("kimgnn.training.best.predict_as_asked", with_nan)
    trainer.train()
    assert trainer.run.finished
    assert load_checkpoint(trainer.run.path).calibration["values"].keys() == {"logarithm"}
    assert [text for text in warned if "volume: not calibrated" in text and "for 1 of the structures" in text]
    assert (trainer.run.path / "report" / "report.html").is_file()
    found = trainer.predict(trainer.splits["test"])[0]
    assert found.intervals.keys() == {"logarithm"}
    assert found.deviations["volume"] > 0


def test_a_launcher_of_several_processes_is_told(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run", {"training.epochs": 1}))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="starts its processes itself"):
        trainer.train()


def test_comparisons_take_single_networks(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.yaml"
    path.write_text(json.dumps(manifest_in(tmp_path / "run")))
    with pytest.raises(ManifestError, match=r"model\.ensemble"):
        member_of(path)


# -- Predictions and exports --------------------------------------------------------------------------------------


Run = Callable[..., tuple[int, str, str]]


def test_the_command_line_predicts_what_the_trainer_does(
    properties: GNNLightningTrainer, tmp_path: Path, kimgnn: Run
) -> None:
    """Values, deviations, ends of intervals and sets of classes, in a table."""
    frames = labelled(4)
    ase.io.write(tmp_path / "new.xyz", frames, format="extxyz")
    status, _, messages = kimgnn("predict", properties.run.path, tmp_path / "new.xyz", "--output", tmp_path / "out.csv")
    assert status == 0, messages
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, found in zip(rows, properties.predict(frames), strict=True):
        assert float(row["volume (Å³)"]) == pytest.approx(found.properties["volume"].item(), rel=1e-9)
        assert float(row["volume deviation (Å³)"]) == pytest.approx(found.deviations["volume"].item(), rel=1e-6)
        for side, end in enumerate(("lower", "upper")):
            told = float(row[f"logarithm {end} (Å³)"])
            assert told == pytest.approx(found.intervals["logarithm"][side].item(), rel=1e-6)
        names = [name for name, there in zip(("loose", "dense"), found.sets["dense"], strict=True) if there]
        assert json.loads(row["dense set"]) == names


@pytest.mark.parametrize("format_name", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_same_intervals(
    format_name: str, properties: GNNLightningTrainer, tmp_path: Path, kimgnn: Run
) -> None:
    """Through `kimgnn export` and a file alone: to rounding, magnified where members nearly agree."""
    status, _, messages = kimgnn(
        "export", properties.run.path, "--directory", tmp_path, "--name", "ensemble", "--format", format_name
    )
    assert status == 0, messages
    (file,) = [path for path in (tmp_path / "ensemble").iterdir() if path.name.startswith("properties.")]
    assert "## Intervals of 90 %" in (tmp_path / "ensemble" / "README.md").read_text(encoding="utf-8")
    structures = [(str(index), atoms) for index, atoms in enumerate(labelled(4))]
    ours, theirs = load_predictor(properties.run.path), load_predictor(file)
    for one, other in zip(ours.predict(structures), theirs.predict(structures), strict=True):
        assert one.intervals.keys() == {"volume", "logarithm"}
        assert_same(one, other, rtol=1e-6)


def test_evaluate_tells_coverage_of_labels_in_files(
    properties: GNNLightningTrainer, tmp_path: Path, kimgnn: Run
) -> None:
    ase.io.write(tmp_path / "new.xyz", labelled(6), format="extxyz")
    status, output, messages = kimgnn("evaluate", properties.run.path, tmp_path / "new.xyz")
    assert status == 0, messages
    assert "volume: " in output
    assert "within" in output


# -- Dropout ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> GNNLightningTrainer:
    """A potential with dropout in its energy head and in that of a property."""
    changes = {
        "model.ensemble": 1,
        "model.uncertainty": {"dropout_samples": 12},
        "model.heads": [{"type": "energy", "dropout": 0.2}, VOLUME | {"dropout": 0.2}],
    }
    trainer = GNNLightningTrainer(manifest_in(tmp_path_factory.mktemp("sampled"), changes))
    trainer.train()
    return trainer


def test_dropout_says_deviations_of_energies_forces_and_properties(sampled: GNNLightningTrainer) -> None:
    for found in sampled.predict(sampled.splits["test"]):
        assert found.energy_deviation > 0  # type: ignore[operator]
        assert (found.forces_deviation >= 0).all()  # type: ignore[union-attr, operator]
        assert found.deviations["volume"] > 0
        assert (found.stress_deviation >= 0).all()  # type: ignore[union-attr, operator]
        assert found.intervals.keys() == {"energy", "forces", "stress", "volume"}


def test_dropout_gives_a_structure_the_same_answer_whatever_it_is_with(sampled: GNNLightningTrainer) -> None:
    """In any order and number, from a checkpoint, and without drawing a number that others wait for."""
    structures = labelled(5)
    state = torch.get_rng_state()
    together = sampled.predict(structures)
    assert torch.equal(torch.get_rng_state(), state)
    (alone,) = sampled.predict(structures[3:4])
    assert_same(alone, together[3])
    torch.manual_seed(99)
    loaded = load_predictor(sampled.run.path)
    backwards = loaded.predict([(str(index), atoms) for index, atoms in enumerate(structures)][::-1])
    for ours, theirs in zip(together, backwards[::-1], strict=True):
        assert_same(ours, theirs, rtol=1e-9, atol=1e-12)


def test_dropout_is_off_where_nobody_samples(sampled: GNNLightningTrainer) -> None:
    """After sampling, the network itself is as it was."""
    structures = sampled.splits["test"]
    network = sampled.best_potential()
    before = predict(network, structures, sampled.graph_of)
    sampled._best.predict_by(network, structures)
    for ours, theirs in zip(predict(network, structures, sampled.graph_of), before, strict=True):
        assert_same(ours, theirs)


def test_the_gpu_list_is_divided_among_networks(
    potential: GNNLightningTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process sees one device, of those that this process sees."""
    monkeypatch.setattr(ensemble, "choose_accelerator", lambda choice: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(potential.training_manifest, "devices", "auto")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in ensemble._places(potential, 3)] == ["0", "1", "2"]
    monkeypatch.setitem(potential.training_manifest, "devices", [1, 3])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,6,5,4")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in ensemble._places(potential, 3)] == ["6", "4"]


def test_one_gpu_of_a_list_is_the_one_that_trains(
    potential: GNNLightningTrainer, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there is but one in the list, or one network left: this process would take the first that it sees."""
    trainer = GNNLightningTrainer(manifest_in(tmp_path / "run"))
    given: list[Any] = []
    monkeypatch.setattr(ensemble, "choose_accelerator", lambda choice: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(trainer.training_manifest, "devices", [2])
    monkeypatch.setattr(ensemble, "_train_in_processes", lambda members, places, size: given.append(places))
    monkeypatch.setattr(MemberTrainer, "train", lambda self: given.append("here"))
    monkeypatch.setattr(ensemble, "_assemble", lambda *_: None)
    ensemble.train_members(trainer)
    assert given == [[{"CUDA_VISIBLE_DEVICES": "2"}]]
