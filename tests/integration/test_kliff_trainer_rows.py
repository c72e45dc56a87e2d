"""Each thing that KLIFF's trainer does wrong, by the place in KLIFF: what happens here instead.

Names begin with KLIFF's file (BT ``base_trainer.py``, LT ``lightning_trainer.py``, LU ``lightning_utils.py``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from kliff.trainer.base_trainer import Trainer as KLIFFTrainer
from lightning.pytorch import Callback
from silicon_run import silicon, tiny_manifest, write_silicon
from torch_geometric.data import Batch

from kimgnn import GNNLightningTrainer
from kimgnn.errors import DataError, ManifestError, ModelError, TrainingError
from kimgnn.evaluation.report import Report
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.training.history import run_history
from kimgnn.training.host import scatter_add
from kimgnn.training.lightning_run import choose_accelerator


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Reports are not what these tests are about."""
    monkeypatch.setattr("kimgnn.training.trainer.write_run_report", lambda *_, **__: Report(Path("none"), {}, {}))


@pytest.fixture
def trainer_with(tmp_path):
    """Make a trainer whose manifest has some values changed."""
    return lambda changes=None: GNNLightningTrainer(tiny_manifest(tmp_path, changes))


def first_loss(trainer: GNNLightningTrainer) -> float:
    """The loss of the training set as one batch, before any step."""
    batch = Batch.from_data_list(list(trainer.data_module.train))
    return float(trainer.pl_model.loss.terms(trainer.pl_model(batch), batch).mean().detach())


def test_it_is_kliffs_trainer(trainer_with):
    """The trainer is a subclass of KLIFF's, and KLIFF's state is filled."""
    trainer = trainer_with()
    assert isinstance(trainer, KLIFFTrainer)
    assert "kliff.trainer.lightning_trainer" in {base.__module__ for base in type(trainer).__mro__}
    assert trainer.current["run_hash"]
    assert trainer.current["dataset_hash"]
    trainer.train()
    assert np.isfinite(trainer.current["best_loss"])
    assert trainer.current["epoch"] == 2
    assert trainer.current["step"] == 9
    assert Path(trainer.current["best_model"]).is_file()


@pytest.mark.filterwarnings("ignore:.*it is not fitted")
def test_lt_141_loss_function_weights_and_normalization_count(trainer_with):
    """Stock: squared error of total energy and forces, whatever the manifest says."""
    plain = first_loss(trainer_with())
    for changes in (
        {"training.loss.function": "MAE"},
        {"training.loss.function": "huber"},
        {"training.loss.normalize_per_atom": True},
        {"training.loss.weights.stress": 100.0},
        {"training.loss.weights.config": 2.0},
        {"dataset.weights": {"energy": 3.0}},
    ):
        assert first_loss(trainer_with(changes)) != pytest.approx(plain, rel=1e-3), changes
    assert first_loss(trainer_with({"training.loss.weights.config": 2.0})) == pytest.approx(2 * plain)


@pytest.mark.parametrize(
    "weights", [{"energy": 1.0}, {"energy": 1.0, "forces": None}, {"forces": 1.0}, {"stress": 1.0}]
)
def test_lt_309_any_subset_of_labels_can_be_fitted(trainer_with, weights):
    """Stock: KeyError without forces, TypeError with null."""
    trainer = trainer_with({"training.loss.weights": weights, "training.epochs": 1})
    trainer.train()
    assert trainer.pl_model.loss.uses("forces") == bool(weights.get("forces"))


def test_lt_309_weights_may_be_a_file(trainer_with, tmp_path):
    """Stock: TypeError. The forces of structures with a weight of 0 do not count."""
    rows = "\n".join(f"1.0 1.0 {float(index % 2)}" for index in range(12))
    (tmp_path / "weights.dat").write_text(f"Config Energy Forces\n{rows}\n")
    trainer = trainer_with({"training.loss.weights": str(tmp_path / "weights.dat")})
    assert {float(graph.forces_weight.max()) for graph in trainer.data_module.train} == {0.0, 1.0}
    assert not trainer.pl_model.loss.uses("stress")


@pytest.mark.parametrize("block", ["training", "training.loss", "training.optimizer", "transforms"])
def test_bt_264_absent_blocks_take_their_defaults(trainer_with, block):
    """Stock: TypeError despite 'using default values'."""
    changes = {block: None, "model.options.cutoff": 3.5}
    trainer = trainer_with(changes | ({"training.test_dataset": None} if block == "training.loss" else {}))
    if block == "transforms":
        assert trainer.configuration_transform.cutoff == 3.5
        return
    loss, optimizer = trainer.pl_model.loss, trainer.pl_model.configure_optimizers()
    if block != "training.optimizer":
        assert loss.weights == {"energy": 1.0, "forces": 1.0, "stress": 0.0}
    if block != "training.loss":
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.param_groups[0]["lr"] == 1e-3


def test_lt_165_optimizer_kwargs_reach_the_optimizer(trainer_with):
    """Stock: ignored."""
    trainer = trainer_with({"training.optimizer": {"name": "AdamW", "kwargs": {"weight_decay": 0.25}}})
    optimizer = trainer.pl_model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


@pytest.mark.parametrize(
    ("scheduler", "final"),
    [
        ({"name": "ConstantLR"}, 1e-2 / 3),
        ({"name": "StepLR", "args": {"step_size": 1, "gamma": 0.1}}, 1e-5),
        ({"name": "ReduceLROnPlateau", "args": {"patience": 0, "threshold": 1e9}}, 1e-5),
    ],
)
def test_lt_169_schedulers_with_and_without_args(trainer_with, scheduler, final):
    """Stock: TypeError without args, and the second configuration fails because the name was overwritten.

    After three epochs from 1e-2: torch's constant factor, three steps, and three plateaus, as nothing beats that
    threshold.
    """
    trainer = trainer_with({"training.optimizer.lr_scheduler": scheduler})
    trainer.pl_model.configure_optimizers()
    trainer.train()
    (group,) = trainer.pl_trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(final)


def test_lt_88_ema_is_updated_saved_validated_and_exported(trainer_with):
    """Stock: never updated. Here the best checkpoint holds the averages, and they differ from the last weights."""
    trainer = trainer_with({"training.optimizer.ema": True, "training.optimizer.ema_decay": 0.5})
    trainer.train()
    content = torch.load(trainer.run.best, weights_only=True)
    key = "potential.network.trunk.embedding.weight"
    assert not torch.equal(content["state_dict"][key], content["current_model_state"][key])
    assert content["averaging_state"]["n_averaged"] == content["global_step"]
    network = load_checkpoint(trainer.run.best).network
    assert torch.equal(network.state_dict()[key.removeprefix("potential.network.")], content["state_dict"][key])
    # What was validated is what was saved: the logged error is that of the averaged weights.
    epochs, errors = run_history(trainer.run.path)["val_forces_mae"]
    logged = errors[list(epochs).index(content["epoch"])]
    assert trainer.evaluate("validation")["forces_mae"] == pytest.approx(logged, rel=1e-12)


def test_lt_406_single_precision_trains(trainer_with):
    """Stock: refused. Weights are float32, energies float64, which is why MPS is never chosen."""
    with pytest.raises(ManifestError, match=r"training\.accelerator: .*double precision"):
        choose_accelerator("mps")
    trainer = trainer_with({"model.precision": "single"})
    trainer.train()
    assert {p.dtype for p in trainer.potential.parameters()} == {torch.float32}
    (graph,) = list(trainer.data_module.test)[:1]
    assert trainer.best_potential()(Batch.from_data_list([graph]))["energy"].dtype == torch.float64


def test_lt_10_both_lightnings_may_be_installed(trainer_with):
    """Stock: 'invalid dataloader' when pytorch_lightning and lightning are both there. Our trainer is lightning's."""
    import lightning.pytorch
    import pytorch_lightning

    trainer = trainer_with()
    assert isinstance(trainer.pl_trainer, lightning.pytorch.Trainer)
    assert not isinstance(trainer.pl_trainer, pytorch_lightning.Trainer)
    assert type(trainer.data_module.train_dataloader()) is torch.utils.data.DataLoader


def test_lt_14_torch_scatter_is_not_needed():
    """Stock: a hard import, and another of pytorch_lightning. What stands in for them is gone after the import."""
    code = textwrap.dedent(
        """
        import importlib.util, sys

        def find_spec(name, package=None, find=importlib.util.find_spec):
            return None if name in ("torch_scatter", "pytorch_lightning") else find(name, package)

        importlib.util.find_spec = find_spec
        import kimgnn
        assert "torch" not in sys.modules
        from kimgnn import GNNLightningTrainer
        import kliff.trainer.lightning_trainer, lightning.pytorch, torch_geometric.typing
        assert kliff.trainer.lightning_trainer.pl is lightning.pytorch
        assert not {"torch_scatter", "pytorch_lightning"} & sys.modules.keys()
        assert not torch_geometric.typing.WITH_TORCH_SCATTER
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_lt_14_stand_in_sums_like_torch_scatter():
    """Rows with the same index are added, along any dimension."""
    source = torch.arange(6.0).view(2, 3)
    assert scatter_add(source, torch.tensor([1, 1]), dim=0).tolist() == [[0, 0, 0], [3, 5, 7]]
    assert scatter_add(source, torch.tensor([0, 1, 0]), dim=1).tolist() == [[2, 1], [8, 4]]


@pytest.mark.parametrize("workers", [0, 1])
def test_lt_366_number_of_workers_is_as_said(trainer_with, monkeypatch, workers):
    """Stock: 0 becomes 1, or Slurm's number as a string."""
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    trainer = trainer_with({"training.num_workers": workers, "training.epochs": 1})
    assert trainer.data_module.train_dataloader().num_workers == workers


def test_lt_206_one_atom_alone_can_be_validated(tmp_path):
    """Stock: IndexError. A batch of one structure with one atom goes through training, validation and prediction."""
    atom = Atoms("Si", cell=np.diag([3.0, 3.1, 3.2]), pbc=True)
    atom.calc = SinglePointCalculator(atom, energy=-1.0, forces=np.zeros((1, 3)))
    write(tmp_path / "silicon.xyz", [atom] * 4, format="extxyz")
    changes = {"training.training_dataset": None, "training.validation_dataset.val_size": 1, "training.batch_size": 1}
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes | {"training.test_dataset.test_size": 1}))
    trainer.train()
    (prediction,) = trainer.predict([atom])
    assert prediction.forces.shape == (1, 3)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # Lightning's own
def test_lt_196_validation_works_by_itself(trainer_with):
    """Stock: RuntimeError, no gradient outside fit."""
    trainer = trainer_with()
    (metrics,) = trainer.pl_trainer.validate(trainer.pl_model, trainer.data_module, verbose=False)
    assert metrics["val_forces_mae"] > 0
    assert metrics["val_stress_mae"] > 0
    (metrics,) = trainer.pl_trainer.test(trainer.pl_model, trainer.data_module, verbose=False)
    assert metrics["test_energy_rmse"] > 0


def test_lt_414_strategy_defaults_to_auto(trainer_with):
    """Stock: ddp, even in a notebook."""
    trainer = trainer_with()
    assert trainer.manifest.training.strategy == "auto"
    assert trainer.pl_trainer.world_size == 1


def test_bt_213_ranks_share_one_run_directory(trainer_with, monkeypatch):
    """Stock: every process makes one, named by its own clock, and writes in it."""
    first = trainer_with()
    before = {path: path.stat().st_mtime_ns for path in first.run.path.rglob("*")}
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = trainer_with()
    assert second.run.path == first.run.path
    assert before == {path: path.stat().st_mtime_ns for path in first.run.path.rglob("*")}


def test_lt_417_clipping_devices_and_time(trainer_with):
    """Stock: none of them. A time limit ends a run after a whole epoch, and it can go on."""
    changes = {"training.gradient_clip": 0.5, "training.devices": 1, "training.max_time": "00:00:00:01"}
    trainer = trainer_with(changes | {"training.epochs": 100_000})
    assert trainer.pl_trainer.gradient_clip_val == 0.5
    assert trainer.pl_trainer.num_devices == 1
    trainer.train()
    assert 0 <= trainer.current["epoch"] < 99_999
    assert trainer.current["step"] == 3 * (trainer.current["epoch"] + 1)
    assert not trainer.run.finished


def test_bt_519_property_transforms_scale_the_loss_and_nothing_else(trainer_with):
    """Stock: TypeError from a misspelt argument, then the dataset becomes None.

    The residual of the energy is divided by the spread of the training energies; labels and predictions stay in eV.
    """
    energy = {"name": "energy", "energy": {"name": "NormalizedPropertyTransform", "kwargs": {}}}
    changes = {"training.loss.weights": {"energy": 1.0}, "transforms.property": [energy]}
    plain = trainer_with({"training.loss.weights": {"energy": 1.0}})
    scaled = trainer_with(changes)
    energies = np.array([configuration.energy for configuration in scaled.splits["train"]])
    assert first_loss(scaled) == pytest.approx(first_loss(plain) / energies.std() ** 2)
    assert [graph.energy.item() for graph in scaled.data_module.train] == pytest.approx(list(energies))
    scaled.train()
    predicted = [p.energy for p in scaled.predict(scaled.splits["train"])]
    assert np.abs(predicted - energies).max() < np.abs(energies).max()


def test_bt_624_splits_by_index_file_fraction_and_with_a_test_set(trainer_with, tmp_path):
    """Stock: indices in the manifest are never read, fractions mean everything, and there is no test set."""
    (tmp_path / "train.txt").write_text("3\n1\n4\n")
    fixed = trainer_with({"training.training_dataset": {"train_indices": str(tmp_path / "train.txt")}})
    assert fixed.indices["train"] == [3, 1, 4]
    assert (fixed.run.path / "train_indices.txt").read_text().split() == ["3", "1", "4"]
    fraction = trainer_with({"training.training_dataset.train_size": 0.5, "training.test_dataset.test_size": 0.25})
    assert {name: len(part) for name, part in fraction.splits.items()} == {"train": 6, "validation": 2, "test": 3}
    write_silicon(tmp_path / "other.xyz", n=3, seed=5)
    other = trainer_with({"training.test_dataset": {"path": str(tmp_path / "other.xyz")}})
    assert [len(part) for part in other.splits.values()] == [6, 2, 3]


def test_bt_388_resume_never_takes_a_run_of_another_name(trainer_with):
    """Stock: a glob of the prefix, so that gnn resumes gnn2; without a name, a glob of None; finished, an exit."""
    for name in ("tiny2", "tiny_2"):
        trainer_with({"model.name": name, "training.epochs": 1}).train()
    assert not trainer_with({"workspace.resume": True}).current["appending_to_previous_run"]
    nameless = trainer_with({"model.name": None, "workspace.resume": True})
    assert nameless.run.path.name.startswith("schnet_")


def test_bt_213_two_runs_in_one_second_have_two_directories(trainer_with):
    """Stock: the second writes into the directory of the first."""
    assert len({trainer_with().run.path for _ in range(3)}) == 3


def test_lu_21_best_loss_outlives_an_interruption(trainer_with):
    """Stock: not persisted, and the first epoch after resuming overwrites the best model."""
    changes = {"training.ckpt_interval": 1, "training.optimizer.learning_rate": 1e-6}
    first = trainer_with(changes)
    first.train()
    (first.run.path / ".finished").unlink()
    best = first.run.best.read_bytes()
    # Three more epochs, each far worse.
    worse = changes | {"workspace.resume": True, "training.epochs": 6, "training.loss.weights.energy": 1e6}
    resumed = trainer_with(worse)
    resumed.train()
    assert resumed.current["best_loss"] == first.current["best_loss"]
    assert resumed.run.best.read_bytes() == best


def test_lu_25_checkpoints_do_not_need_a_validation_set(trainer_with):
    """Stock: no validation set, no best model, and export fails. The interval is as said."""
    trainer = trainer_with({"training.validation_dataset": None, "training.ckpt_interval": 2, "training.epochs": 4})
    trainer.train()
    names = {path.name for path in trainer.run.checkpoints.iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "epoch_1.ckpt", "epoch_3.ckpt"}


def test_lu_25_untrained_weights_are_never_the_best(trainer_with):
    """Stock: Lightning's sanity check of untrained weights counts as a validation."""
    trainer = trainer_with()
    steps: list[int] = []

    class Watch(Callback):
        def on_validation_start(self, trainer, pl_module):
            steps.append(trainer.global_step)

    trainer.pl_trainer.callbacks.append(Watch())
    trainer.train()
    assert steps
    assert min(steps) > 0
    assert trainer.current["best_loss"] == pytest.approx(min(run_history(trainer.run.path)["val_loss"][1]), rel=1e-12)


def test_bt_335_paths_and_numpy_numbers_are_welcome(tmp_path):
    """Stock: json cannot write them."""
    manifest = tiny_manifest(tmp_path, {"training.epochs": np.int64(1)})
    manifest["dataset"]["path"] = Path(manifest["dataset"]["path"])
    trainer = GNNLightningTrainer(manifest)
    saved = yaml.safe_load((trainer.run.path / "manifest.yaml").read_text())
    assert saved["training"]["epochs"] == 1
    assert (trainer.run.path / f"{trainer.current['run_hash']}.yaml").is_file()


def test_unknown_keys_are_refused_and_documented_ones_taken(trainer_with, tmp_path):
    """Stock: unknown keys are accepted, and random_seed, which the documentation writes, is one of them."""
    with pytest.raises(ManifestError, match=r"training\.batchsize"):
        trainer_with({"training.batchsize": 2})
    assert trainer_with({"workspace.seed": None, "workspace.random_seed": 99}).workspace["seed"] == 99
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_manifest(tmp_path)))
    assert GNNLightningTrainer.from_file(path).workspace["seed"] == 7


def test_lt_285_model_path_is_read_or_missing_in_words(tmp_path):
    """Stock: KeyError or a bare message. A TorchScript file is trained like any module."""
    changes = {
        "model.architecture": None,
        "model.options": None,
        "model.input_args": ["z", "coords", "edge_index0", "contributions", "shifts"],
        "model.model_path": str(tmp_path / "model.pt"),
    }
    with pytest.raises(ModelError, match=r"model\.model_path: .*no such file"):
        GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    torch.jit.script(PairModule().double()).save(str(tmp_path / "model.pt"))
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes))
    before = first_loss(trainer)
    trainer.train()
    assert first_loss(trainer) < before


class PairModule(torch.nn.Module):
    """A module of coordinates: pair energies that vanish at the cutoff, and an energy an atom."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.tensor([0.1, 0.0]))

    def forward(
        self,
        z: torch.Tensor,
        coords: torch.Tensor,
        edge_index0: torch.Tensor,
        contributions: torch.Tensor,
        shifts: torch.Tensor,
    ) -> torch.Tensor:
        vectors = coords[edge_index0[1]] - coords[edge_index0[0]] + shifts
        pairs = self.coefficients[0] * (3.5 - torch.norm(vectors, dim=1)) ** 2
        atoms = torch.zeros_like(coords[:, 0]).index_add(0, edge_index0[1], pairs) + self.coefficients[1]
        slots = torch.zeros(int(contributions.max()) + 1, dtype=coords.dtype, device=coords.device)
        return slots.index_add(0, contributions, atoms)[::2]


def test_lt_406_float32_module_trains(tmp_path):
    """Stock: RuntimeError, float32 weights against float64 coordinates."""
    changes = {
        "model.architecture": None,
        "model.options": None,
        "model.input_args": ["z", "coords", "edge_index0", "contributions", "shifts"],
        "model.precision": "single",
    }
    trainer = GNNLightningTrainer(tiny_manifest(tmp_path, changes), model=PairModule())
    trainer.train()
    assert trainer.evaluate("test")["forces_count"] > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize(
    ("driver", "version", "name"),
    [("kimgnn", "000", "kimgnn__MD_706233094551_001"), ("torchml", "001", "TorchML__MD_173118614730_001")],
)
def test_lt_506_exported_network_is_in_evaluation_mode(trainer_with, tmp_path, driver, version, name):
    """Stock: exported in training mode, for a driver version that cannot be chosen."""
    export = {"model_name": "Tiny__MO_000000000001_000", "driver": driver, "driver_version": version}
    trainer = trainer_with({"export": export})
    with pytest.raises(TrainingError, match="nothing was trained"):
        trainer.save_kim_model(tmp_path)
    trainer.train()
    folder = trainer.save_kim_model(tmp_path / "kim")
    assert folder == tmp_path / "kim" / "Tiny__MO_000000000001_000"
    assert not torch.jit.load(folder / "model.pt").training
    assert name in (folder / "CMakeLists.txt").read_text()
    assert trainer.save_kim_model(tmp_path / "kim") == folder


def test_module_beside_an_architecture_is_refused(tmp_path):
    """Neither of them is ignored in silence."""
    with pytest.raises(ManifestError, match=r"model\.architecture: .*module"):
        GNNLightningTrainer(tiny_manifest(tmp_path), model=PairModule())


def test_batch_larger_than_the_training_set_is_refused(trainer_with):
    """Not a batch that is silently smaller."""
    with pytest.raises(TrainingError, match=r"training\.batch_size: .*\(got 7\).*1 to 6"):
        trainer_with({"training.batch_size": 7})


def test_weighted_label_that_nothing_carries_is_refused(tmp_path):
    """A label with a weight that no structure has is an error before training."""
    frames = silicon()
    for atoms in frames:
        del atoms.calc.results["stress"]
    write(tmp_path / "silicon.xyz", frames, format="extxyz")
    with pytest.raises(DataError, match="stress"):
        GNNLightningTrainer(tiny_manifest(tmp_path, {"training.loss.weights.stress": 1.0}))


def test_validation_without_fitted_labels_is_refused(tmp_path):
    """A validation loss of nothing would be 0, and the first network the best."""
    frames = silicon(4)
    for atoms in frames:
        del atoms.calc.results["forces"]
    write(tmp_path / "unlabelled.xyz", frames, format="extxyz")
    changes = {"training.loss.weights": {"forces": 1.0}}
    changes["training.validation_dataset"] = {"path": str(tmp_path / "unlabelled.xyz")}
    with pytest.raises(DataError, match="validation_dataset"):
        GNNLightningTrainer(tiny_manifest(tmp_path, changes))


def test_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(trainer_with):
    """A run that diverges stops, and the last good weights stay."""
    trainer = trainer_with({"training.optimizer": {"name": "SGD", "learning_rate": 1e200}})
    with pytest.raises(TrainingError, match=r"not a number.*learning_rate"):
        trainer.train()
    state = torch.load(trainer.run.last, weights_only=True)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_predictions_are_those_of_the_best_checkpoint(trainer_with):
    """predict() takes ase.Atoms or configurations, and gives what the checkpoint's network gives."""
    trainer = trainer_with()
    trainer.train()
    atoms = bulk("Si")
    (prediction,) = trainer.predict([atoms])
    network = load_checkpoint(trainer.run.best).network
    from kimgnn.data.from_atoms import configuration_from_atoms
    from kimgnn.physics.potential import Potential

    graph = trainer.graph_of(configuration_from_atoms(atoms))
    direct = Potential(network).eval()(graph)
    assert prediction.energy == pytest.approx(float(direct["energy"]), abs=1e-12)
    with pytest.raises(TrainingError, match="train, validation, test"):
        trainer.evaluate("nonsense")
