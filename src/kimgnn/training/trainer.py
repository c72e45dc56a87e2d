"""`GNNLightningTrainer`: KLIFF's trainer of graph neural networks, with every step of it working."""

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import ase
import numpy as np
import yaml
from kliff.dataset import Configuration, Dataset
from kliff.transforms.configuration_transforms.graphs import RadialGraph
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from loguru import logger
from torch import nn

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.data.requirements import require_labels, unseen_elements
from kimgnn.data.sources import read_configurations
from kimgnn.data.splits import split_indices
from kimgnn.data.statistics import label_counts, species_of
from kimgnn.data.targets import TargetSpec, check_targets
from kimgnn.data.to_atoms import save_configurations
from kimgnn.errors import DataError, ManifestError, TrainingError
from kimgnn.evaluation.heads import compare_heads, head_metrics
from kimgnn.evaluation.metrics import compare, error_metrics
from kimgnn.evaluation.predict import Prediction, give_states
from kimgnn.evaluation.run_report import Split, Timing, write_run_report
from kimgnn.evaluation.uncertainty import interval_coverage
from kimgnn.export.portable_model import export_portable_model
from kimgnn.fields import ENERGY, LABELS
from kimgnn.files import atomic_write
from kimgnn.manifest import Manifest, load_manifest
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import CALIBRATION, ENTRY, FORMAT, Checkpoint
from kimgnn.models.network import DTYPES, NetworkSpec
from kimgnn.models.tasks import tasks_of
from kimgnn.nn.states import state_inputs_of
from kimgnn.physics.potential import CoordinatePotential, Potential
from kimgnn.registry import TRANSFORMS
from kimgnn.training.best import BestWeights
from kimgnn.training.callbacks import EpochClock, EpochLines, PerAtomPredictions, RunCheckpoints
from kimgnn.training.checkpoint_io import AtomicCheckpointIO
from kimgnn.training.continuation import check_same_data, check_same_division, check_same_network
from kimgnn.training.data_module import GraphDataModule, GraphDataset, Transform
from kimgnn.training.description import dataset_hash, describe_data
from kimgnn.training.head_fits import check_logarithms
from kimgnn.training.head_losses import head_losses
from kimgnn.training.history import run_history
from kimgnn.training.host import KLIFFGNNTrainer
from kimgnn.training.initial_weights import take_up
from kimgnn.training.label_scales import LabelScale, fit_label_scales
from kimgnn.training.late_fusion import check_late_fusion
from kimgnn.training.lightning_run import calm, choose_accelerator, fit
from kimgnn.training.losses import Loss, label_weights
from kimgnn.training.mixed_precision import ScaledLoss, cast_in_training, check_device
from kimgnn.training.module import TrainingModule, make_optimizer, make_scheduler
from kimgnn.training.networks import fit_spec, load_torchscript, set_composition, set_element_features
from kimgnn.training.quick_steps import quick_steps
from kimgnn.training.run_directory import RunDirectory, open_run_directory, process_rank
from kimgnn.training.spreads import label_spreads, target_spreads
from kimgnn.training.targets import has_target, labels_read, require_states, state_specs, target_spec
from kimgnn.training.task_balance import LearnedBalance
from kimgnn.training.uncertainty import check_validation
from kimgnn.transforms.graph_cache import CachedTransform, with_cache
from kimgnn.transforms.radial_graph import radial_graph
from kimgnn.verify.tabulation import tabulate

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""The parts of the data, as `evaluate` takes them -> as they are called in files and metrics."""


class GNNLightningTrainer(KLIFFGNNTrainer):
    """Trains a graph neural network as a manifest says.

    Args:
        manifest: KLIFF's six blocks, as a dict or a YAML file; see `kimgnn.manifest`.
        model: A module written for KLIFF's ``RadialGraph``: called with ``model.input_args``, it returns one energy a
            graph. Otherwise the network is built from ``model.architecture`` or read from ``model.model_path``.

    Raises:
        ManifestError: The manifest is wrong.
        DataError: A structure or a label cannot be used.
        ModelError: ``model.model_path`` cannot be read.
        TrainingError: The run cannot be started or continued.

    Attributes:
        run: The run's directory.
        indices: Split -> positions in ``dataset``; empty for a split that is read from a file of its own.
        splits: Split -> structures.
        spec: What the network was built from; ``None`` for a module.
        potential: The network with its derivatives, as it is being trained.
        graph_of: Structure -> the graph that the network takes.
        graphs: Split -> graphs of its structures; without empty splits.
        current: KLIFF's state: directories, hashes, epoch, step, best loss.
        member: Which member of an ensemble this trains, from 0, where it is one.
    """

    pl_model: Any
    member = 0

    def __init__(self, manifest: Mapping[str, Any] | str | Path | Manifest, model: nn.Module | None = None) -> None:
        self.manifest = load_manifest(manifest, model_given=model is not None)
        if model is not None and self.manifest.model.architecture:
            raise ManifestError(
                "a module is given to the trainer too",
                where="model.architecture",
                value=self.manifest.model.architecture,
                remedy="Keep one of them.",
            )
        self.run: RunDirectory
        self.indices: dict[str, list[int]] = {}
        self.splits: dict[str, list[Configuration]] = {}
        self.spec: NetworkSpec | None = None
        self.label_scales: list[LabelScale] = []
        self.graph_of: Transform
        self.graphs: dict[str, GraphDataset] = {}
        self.potential: nn.Module
        super().__init__(self.manifest.to_dict(), model)

    @classmethod
    def from_file(cls, filename: str | Path, model: nn.Module | None = None) -> Self:
        """Return a trainer for the manifest in a YAML file."""
        return cls(filename, model)

    # -- KLIFF's steps, in the order in which its constructor takes them --------------------------------------------

    def seed_all(self) -> None:
        """Seed every random number generator."""
        seed_everything(self.workspace["seed"], verbose=False)

    def setup_workspace(self) -> None:
        """Make the run's directory, or find the one that is continued."""
        self.run = open_run_directory(
            Path(self.workspace["name"]), self.model_manifest["name"], self.workspace["resume"], process_rank()
        )
        if self.run.resumed and process_rank() == 0:
            with self.run.lock():  # tells at once if another process is at work there
                pass
            logger.info(f"{'Found' if self.run.finished else 'Continuing'} the run in {self.run.path}.")
        data = Path(self.workspace["name"]) / "datasets"
        if process_rank() == 0:
            data.mkdir(parents=True, exist_ok=True)
        self.current |= {
            "run_title": self.run.path.name,
            "run_dir": str(self.run.path),
            "data_dir": str(data),
            "appending_to_previous_run": self.run.resumed,
            "run_hash": self.get_trainer_hash(),
        }

    def setup_dataset(self) -> None:
        """Read the structures, their labels and their weights."""
        self.dataset = Dataset(self._read_dataset())
        if self.dataset_manifest["save"] and process_rank() == 0:
            path = save_configurations(
                self.dataset.configs, self.dataset_manifest["save_path"] or self.current["data_dir"]
            )
            logger.info(f"Structures saved in {path}.")
        self.current["dataset_hash"] = dataset_hash(self.dataset.configs)
        if self.current["log_per_atom_pred"] and not self._is_ensemble:
            self.current["per_atom_pred_database"] = self._open_per_atom_database()

    def setup_dataset_transforms(self) -> None:
        """Make the configuration transform; property transforms are fitted once the training set is known."""
        configuration = self.transform_manifest["configuration"]
        if configuration["kwargs"].get("species", ()) is None:
            # So that an element that the network never saw is an error, in predictions too.
            configuration["kwargs"]["species"] = species_of(self.dataset.configs)
        transform = TRANSFORMS.get(configuration["name"], "transforms.configuration.name")
        transform = transform(**configuration["kwargs"], copy_to_config=False)
        self.configuration_transform = transform
        if isinstance(transform, RadialGraph):
            self.graph_of = partial(radial_graph, transform=transform)
        else:
            self.graph_of = with_cache(transform, self.dataset_manifest["cache"])

    def setup_dataset_split(self) -> None:
        """Divide the structures, and record who is where."""
        indices = split_indices(len(self.dataset), self.training_manifest, self.workspace["seed"])
        self.indices = {name: [int(index) for index in getattr(indices, name)] for name in SPLITS}
        self.splits = {name: [self.dataset.configs[index] for index in self.indices[name]] for name in SPLITS}
        for name in ("validation", "test"):
            path = self.training_manifest[f"{name}_dataset"].get("path")
            if path:
                self.splits[name] = self._read_separately(path, f"training.{name}_dataset")
        self.splits["train"] = self._learnable(self.splits["train"])
        self.train_dataset = Dataset(self.splits["train"])
        self.val_dataset = Dataset(self.splits["validation"]) if self.splits["validation"] else None
        for split, name in SPLITS.items():
            sizes = {f"{name}_size": len(self.splits[split]), f"{name}_indices": self.indices[split]}
            self.dataset_sample_manifest |= sizes
        self._save_indices()
        self._check_splits()
        self.label_scales = fit_label_scales(self.transform_manifest["property"], self.splits["train"])
        self.property_transforms = self.label_scales
        logger.info(", ".join(f"{len(self.splits[name])} {name}" for name in SPLITS) + " structures.")

    def setup_model(self) -> None:
        """Build the network and what trains it; KLIFF calls this twice, the second call does nothing."""
        if self.pl_model is not None:
            return
        self.potential = self._make_potential()
        self.potential.train()
        loss = self._loss()
        tables, compiled = quick_steps(self.potential, loss, self.training_manifest)
        self.pl_model = TrainingModule(
            self.potential,
            loss,
            self.optimizer_manifest,
            seed=self.workspace["seed"],
            monitor=self._monitor(),
            description=self._description(),
            balance=self._balance(loss),
            tables=tables,
            compiled=compiled,
        )

    def setup_optimizer(self) -> None:
        """Make the optimizer once for a test; Lightning makes the one that is used."""
        if self.pl_model is None:  # KLIFF sets up a module given as model= only after this step
            self.setup_model()
        where = "training.optimizer"
        try:
            self.optimizer = make_optimizer(self.optimizer_manifest, self.potential.parameters())
            where = "training.optimizer.lr_scheduler"
            make_scheduler(self.optimizer_manifest["lr_scheduler"], self.optimizer)
        except (TypeError, ValueError) as error:
            raise ManifestError(str(error), where=where) from error

    def save_config(self) -> None:
        """Write the manifest into the run's directory, as ``manifest.yaml`` and under KLIFF's name.

        A run that is finished keeps that which it was trained with.
        """
        if process_rank() > 0 or self.run.finished:
            return
        plain = self.manifest.to_dict()
        with atomic_write(self.run.path / "manifest.yaml") as file:
            yaml.safe_dump(plain, file, sort_keys=False, allow_unicode=True)
        with atomic_write(self.run.path / f"{self.current['run_hash']}.yaml") as file:
            yaml.safe_dump(self.config_to_dict(), file, allow_unicode=True)

    def setup_dataloaders(self) -> None:
        """Make the graphs and their loaders."""
        self.graphs = sets = self._make_graphs()
        self.data_module = GraphDataModule(
            sets["train"],
            sets.get("validation"),
            sets.get("test"),
            batch_size=self.training_manifest["batch_size"],
            num_workers=self.training_manifest["num_workers"],
            seed=self.workspace["seed"],
            max_atoms=self.training_manifest["max_atoms"],
            max_edges=self.training_manifest["max_edges"],
        )

    def _tb_logger(self) -> TensorBoardLogger:
        return TensorBoardLogger(str(self.run.path / "logs"), name="lightning_logs")

    def _csv_logger(self) -> CSVLogger:
        return CSVLogger(str(self.run.path / "logs"), name="csv_logs")

    def _get_callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = [
            RunCheckpoints(
                self.run.checkpoints,
                self.training_manifest["ckpt_interval"],
                None if self.optimizer_manifest["ema"] and not self.splits["validation"] else self._monitor(),
                self.current,
            ),
        ]
        callbacks.append(EpochClock())
        if not sys.stdout.isatty():
            callbacks.append(EpochLines())
        if self.optimizer_manifest["ema"]:
            # The statistics of batch normalisation belong to the weights; other buffers are constants of the network,
            # to which averaging would only add rounding errors.
            follows = any(isinstance(module, nn.BatchNorm1d) for module in self.potential.modules())
            callbacks.append(EMAWeightAveraging(use_buffers=follows, decay=self.optimizer_manifest["ema_decay"]))
        if stopping := self.training_manifest["early_stopping"]:
            callbacks.append(
                EarlyStopping(
                    self._monitor(),
                    min_delta=stopping["delta"],
                    patience=stopping["patience"],
                    check_on_train_epoch_end=True,
                )
            )
        if self.training_manifest["max_time"]:
            # By epoch, so that the last checkpoint is that of a whole one.
            callbacks.append(Timer(self.training_manifest["max_time"], interval="epoch"))
        if self.current["log_per_atom_pred"]:
            callbacks.append(PerAtomPredictions(self.log_per_atom_outputs, self.current["ckpt_interval"]))
        return callbacks

    def _get_pl_trainer(self) -> Trainer:
        training = self.training_manifest
        mixed, accelerator = training["mixed_precision"], choose_accelerator(training["accelerator"])
        devices = training["devices"]
        if self._is_ensemble:  # here only predictions are made
            devices = devices[:1] if isinstance(devices, list) and accelerator == "cuda" else 1
        check_device(mixed, accelerator)
        with calm():
            trainer = Trainer(
                logger=[self.tb_logger, self.csv_logger],
                max_epochs=training["epochs"],
                accelerator=accelerator,
                strategy=training["strategy"],
                devices=devices,
                num_nodes=int(os.environ.get("SLURM_JOB_NUM_NODES", 1)),
                callbacks=self.callbacks,
                plugins=[AtomicCheckpointIO(), *([ScaledLoss()] if mixed == "fp16" else [])],
                gradient_clip_val=training["gradient_clip"],
                inference_mode=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                limit_val_batches=1.0 if self.splits["validation"] else 0,
                log_every_n_steps=1,
                enable_model_summary=training["verbose"],
            )
        self.current["device"] = str(trainer.strategy.root_device)
        return trainer

    # -- Running ------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train to the end, from where the run is; afterwards write the report.

        A run that is finished says so and returns. After Ctrl-C, a checkpoint is there to go on from.

        Raises:
            TrainingError: Another process is training here, a checkpoint cannot be read or written, or the loss is not
                a number any more.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self.run.finished:
            logger.info(f"The run in {self.run.path} is finished. For a new one, set workspace.resume to false.")
            return
        # The processes that rank 0 starts work under its lock.
        with self.run.lock() if process_rank() == 0 else nullcontext():
            ended = self._train_members() if self._is_ensemble else self._fit()
        if self.pl_trainer.is_global_zero:
            self._fit_late_fusion()
            self._best.calibrate(self.splits["validation"])
            if ended:
                self.run.mark_finished()
            else:
                logger.warning(
                    f"training.max_time is over. To go on, raise it and set workspace.resume to {str(self.run.path)!r}."
                )
            self._write_report()

    def _fit(self) -> bool:
        """Train one network from where the run is, and return whether it came to its end before `training.max_time`."""
        checkpoint = self.run.last if self.run.last.exists() else None
        if checkpoint is not None:
            self._start_again()
        try:
            fit(self.pl_trainer, self.pl_model, self.data_module, checkpoint)
        except KeyboardInterrupt:
            logger.warning(
                f"Interrupted. The last whole epoch is in {self.run.last}. To go on from there, call train() "
                f"again, or set workspace.resume to true, or to {str(self.run.path)!r}."
            )
            raise
        return not any(isinstance(item, Timer) and (item.time_remaining() or 0) <= 0 for item in self.callbacks)

    def _train_members(self) -> bool:
        from kimgnn.training.ensemble import train_members  # whose members are trained by trainers like this one

        return train_members(self)

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Return the errors of the best weights on a split.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Returns:
            For each label that occurs, ``{label}_mae``, ``{label}_rmse`` (meV/atom, eV/Å, GPa) and ``{label}_count``;
            for each other head, what its report has; ``{name}_coverage``, the share of the labels within calibrated
            intervals.

        Raises:
            TrainingError: There is no such split, or nothing was trained yet.
        """
        if split not in SPLITS or not self.splits[split]:
            there = [name for name in SPLITS if self.splits[name]]
            raise TrainingError("there is no such part of the data", value=split, allowed=", ".join(there))
        configurations = self.splits[split]
        predictions = self._predict(configurations)
        tasks = tasks_of(self.model_manifest["heads"])
        metrics = error_metrics(compare(predictions, configurations))
        metrics |= head_metrics(compare_heads(tasks, predictions, configurations))
        return metrics | interval_coverage(predictions, configurations, tasks)

    def predict(self, structures: Sequence[Configuration | ase.Atoms]) -> list[Prediction]:
        """Return what the best weights say of structures.

        Args:
            structures: ``kliff.dataset.Configuration`` or ``ase.Atoms``; labels are not looked at, state inputs of the
                network are taken from the latter's ``info``.

        Raises:
            TrainingError: Nothing was trained yet.
            DataError: A structure has an element that was not trained on, or lacks a state input.
        """
        configurations = [self._configuration(item) for item in structures]
        if told := unseen_elements(configurations, species_of(self.splits["train"])):
            raise DataError(told, where="structures", remedy="evaluate() takes the parts of the data as they are.")
        return self._predict(configurations)

    def save_kim_model(self, path: str | Path | None = None) -> Path:
        """Write the best weights as KIM portable models, in the place of those of the same names.

        They are not compared with PyTorch, as ``kimgnn export`` does.

        Args:
            path: Folder that gets the models' folders; ``export.model_path`` when absent, or ``kim-model``.

        Returns:
            The folder of the model in the first format; the others lie beside it.

        Raises:
            TrainingError: Nothing was trained yet.
            ExportError: The network cannot be exported, with the reason.
        """
        export = self.export_manifest
        name = export["model_name"] or f"{re.sub('[^A-Za-z0-9]+', '_', self.run.path.name)}__MO_000000000000_000"
        checkpoint = self._best.checkpoint()
        entry = checkpoint[ENTRY]
        network = self._best.potential(checkpoint)
        trained = Checkpoint(
            network.network if isinstance(network, Potential) else network,  # type: ignore[arg-type]
            entry["transform"],
            entry["manifest"],
            entry["metrics"],
            entry["data"],
            entry.get(CALIBRATION, {}),
        )
        folder = export_portable_model(
            trained,
            name,
            path or export["model_path"] or "kim-model",
            formats=export["formats"],
            driver=export["driver"] or ("torchml" if self.spec is None else "kimgnn"),
            driver_version=export["driver_version"],
            tabulation=tabulate(trained, export["tabulate"]),
            tarball=export["generate_tarball"],
            force=True,
        )
        logger.info(f"KIM model saved in {folder}, not compared with PyTorch: `kimgnn export` does that.")
        return folder

    def best_potential(self) -> nn.Module:
        """Return a copy of the potential with the best weights (the averaged ones, with EMA), in evaluation mode.

        Raises:
            TrainingError: Nothing was trained yet.
        """
        return self._best.potential()

    # -- Pieces -------------------------------------------------------------------------------------------------------

    @property
    def _is_ensemble(self) -> bool:
        return int(self.model_manifest["ensemble"]) > 1

    def _read_dataset(self) -> list[Configuration]:
        """Read the structures, with the weights of a file that has a row for each."""
        weights = self.loss_manifest["weights"]
        return self._read(self.dataset_manifest | ({"weights": weights} if isinstance(weights, str) else {}))

    def _make_graphs(self) -> dict[str, GraphDataset]:
        """Return split -> graphs of its structures, without empty splits."""
        dynamic, num_workers = self.dataset_manifest["dynamic_loading"], self.training_manifest["num_workers"]
        if dynamic is None:
            dynamic = isinstance(self.graph_of, CachedTransform)
        return {
            name: GraphDataset(part, self.graph_of, dynamic, num_workers) for name, part in self.splits.items() if part
        }

    def _read_separately(self, path: str | list[str], where: str) -> list[Configuration]:
        """Read a file of its own, as the data set is read but without what counts its structures."""
        weights = self.dataset_manifest["weights"]
        source = self.dataset_manifest | {"path": path, "slices": None}
        source |= {"weights": None if isinstance(weights, str) else weights}
        return self._read(source, where)

    def _read(self, source: Mapping[str, Any], where: str = "dataset") -> list[Configuration]:
        """Read structures, with what the heads learn, of which the network can take every element."""
        model = self.model_manifest
        table = model["options"].get("element_features")
        specs = [*self._target_specs(), *state_specs(model["options"])]
        return read_configurations(source, where, specs, labels_read(model["heads"]), table)

    def _configuration(self, structure: Configuration | ase.Atoms) -> Configuration:
        """Return a structure to predict, with the states that the network needs."""
        if not isinstance(structure, ase.Atoms):
            return structure
        configuration = configuration_from_atoms(structure, labels=())
        give_states(configuration, state_inputs_of(self.model_manifest["options"]), structure.info)
        return configuration

    def _target_specs(self) -> list[TargetSpec]:
        """Return how the targets of the heads are read; two heads may share one."""
        return list(dict.fromkeys(target_spec(task) for task in tasks_of(self.model_manifest["heads"])))

    def _learnable(self, train: list[Configuration]) -> list[Configuration]:
        """Leave out what a network without energies can learn nothing from: it would cost time and change nothing."""
        specs = self._target_specs()
        if not specs or any(head["type"] == "energy" for head in self.model_manifest["heads"]):
            return train
        kept = [item for item in train if any(has_target(item, spec) for spec in specs)]
        if 0 < len(kept) < len(train):
            logger.info(f"{len(train) - len(kept)} of {len(train)} training structures have no target; left out.")
        return kept or train  # the checks say what is wrong with none

    def _check_splits(self) -> None:
        train, validation = self.splits["train"], self.splits["validation"]
        batch_size = self.training_manifest["batch_size"]
        bounded = any(self.training_manifest[name] is not None for name in ("max_atoms", "max_edges"))
        if batch_size > len(train) and not bounded:
            raise TrainingError(
                "the batch is larger than the training set",
                where="training.batch_size",
                value=batch_size,
                allowed=f"1 to {len(train)}",
            )
        weights = label_weights(self.loss_manifest["weights"], train)
        specs = self._target_specs()
        if not any(weights[label] for label in LABELS) and not specs:
            raise DataError(
                "no structure gives a weight to a label that the loss counts, so that nothing is fitted",
                where="dataset.weights",
                remedy="Name energy, forces or stress there too: what is not named is 0.",
            )
        heads = self.model_manifest["heads"] or []
        weighted = [label for label in LABELS if weights[label]]
        if weighted and heads and not any(head["type"] == "energy" for head in heads):
            raise ManifestError(  # by a file of weights: what the manifest itself says was checked when it was read
                f"{', '.join(weighted)}: needs an energy head",
                where="training.loss.weights",
                value=self.loss_manifest["weights"],
                remedy="Add {type: energy} to model.heads, or leave the columns out.",
            )
        require_labels(train, weights)
        check_targets(train, specs)
        states = state_specs(self.model_manifest["options"])
        there = [spec for spec in states if any(has_target(item, spec) for item in train)]
        require_states([item for part in self.splits.values() for item in part], there)
        check_targets(train, states)  # says of the others what their columns may be called
        check_logarithms(heads, (item for part in self.splits.values() for item in part))
        check_validation(self.model_manifest, validation)
        self._warn_of_unseen_elements()
        counts = label_counts(validation)
        fitted = any(counts[label] for label in LABELS if weights[label])
        if validation and not fitted and not any(has_target(item, spec) for item in validation for spec in specs):
            raise DataError(
                "no structure has a label that is fitted, so that every network would be the best",
                where="training.validation_dataset",
                remedy="Choose other structures, or none.",
            )

    def _warn_of_unseen_elements(self) -> None:
        seen = species_of(self.splits["train"])
        for split in ("validation", "test"):
            if told := unseen_elements(self.splits[split], seen):
                warnings.warn(f"training.{split}_dataset: {told}", stacklevel=2)

    def _save_indices(self) -> None:
        files = {}
        for split, indices in self.indices.items():
            if indices and process_rank() == 0:
                path = self.run.path / f"{SPLITS[split]}_indices.txt"
                if not (self.run.resumed and path.exists()):  # a resumed run is compared with it
                    with atomic_write(path) as file:
                        file.writelines(f"{index}\n" for index in indices)
                files[SPLITS[split]] = str(path)
        self.dataset_sample_manifest["indices_files"] = files

    def _open_per_atom_database(self) -> Any:
        try:
            import lmdb
        except ImportError as error:
            raise TrainingError(
                "needs the package lmdb", where="training.log_per_atom_pred", remedy="Run: pip install lmdb"
            ) from error
        return lmdb.open(f"{self.run.path}/per_atom_pred_database.lmdb", map_size=10**12, subdir=False)

    def _monitor(self) -> str:
        return "val_loss" if self.splits["validation"] else "train_loss"

    def _make_potential(self) -> nn.Module:
        if self.model_manifest["architecture"]:
            configuration = self.transform_manifest["configuration"]
            species = configuration["kwargs"].get("species") or species_of(self.dataset.configs)
            self.spec = fit_spec(self.model_manifest, self.splits["train"], species)
            if left := [symbol for symbol in species if symbol not in self.spec.species]:
                logger.info(f"The model will not take {', '.join(left)}: no structure to train on has it.")
            self.model = build_network(self.spec)
            set_element_features(self.model, (item for part in self.splits.values() for item in part))
            set_composition(self.model, self.splits["train"])
            check_late_fusion(self.model, self.splits["train"], self.splits["validation"])
            if weights := self.training_manifest["initial_weights"]:
                # Of an ensemble the last one, so that it is told now if there are too few.
                last = self.model_manifest["ensemble"] - 1
                self.model = take_up(weights, self.spec, max(self.member, last))
                self.spec = self.model.spec
            if self._is_ensemble:  # the one that was built said what is wrong with all of them
                self.spec = replace(self.spec, members=self.model_manifest["ensemble"])
                self.model = build_network(self.spec)
            elif mixed := self.training_manifest["mixed_precision"]:
                cast_in_training(self.model, mixed)
            return Potential(self.model)
        if self.model is None:
            self.model = load_torchscript(self.model_manifest["model_path"])
        self.model.to(DTYPES[self.model_manifest["precision"]])
        unit = next((scale for scale in self.label_scales if scale.label == ENERGY), LabelScale(ENERGY, 1.0))
        return CoordinatePotential(self.model, self.model_manifest["input_args"], unit.scale, unit.offset)

    def _loss(self) -> Loss:
        train, per_atom = self.splits["train"], self.loss_manifest["normalize_per_atom"]
        weights = label_weights(self.loss_manifest["weights"], train)
        scales = {scale.label: scale.scale for scale in self.label_scales}
        heads = getattr(self.model, "heads", nn.ModuleDict())
        head_scales: dict[str, float] = {}
        if self.loss_manifest["balance"] == "inverse_spread":
            used = [label for label in LABELS if weights[label]]
            scales = label_spreads(used, train, self.spec, per_atom) | scales
            head_scales = target_spreads(heads, train)
        return Loss(
            self.loss_manifest["function"],
            self.loss_manifest["huber_delta"],
            weights,
            per_atom,
            scales,
            head_losses(heads, head_scales),
        )

    def _balance(self, loss: Loss) -> LearnedBalance | None:
        if self.loss_manifest["balance"] != "uncertainty":
            return None
        tasks = tasks_of(self.model_manifest["heads"])
        classifications = {task.name for task in tasks if task.kind == "classification"}
        return LearnedBalance(loss.names, {name for name in loss.names if loss.uses(name)}, classifications)

    def _description(self) -> dict[str, Any]:
        """Return the entry of our checkpoints that `kimgnn.models.checkpoint` reads, without the metrics."""
        return {
            "format": FORMAT,
            "spec": None if self.spec is None else self.spec.to_dict(),
            "transform": dict(self.transform_manifest["configuration"]),
            "manifest": self.manifest.to_dict(),
            "data": describe_data(
                self.splits,
                self.dataset_manifest["path"],
                self.current["dataset_hash"],
                [name for name, part in self.splits.items() if part and not self.indices[name]],
                {task.target for task in tasks_of(self.model_manifest["heads"]) if task.transform == "log10"},
            ),
        }

    def _start_again(self) -> None:
        """Take a new Lightning trainer, and say what does not fit the checkpoint that it goes on from.

        Raises:
            TrainingError: The checkpoint is damaged, or of other data or another network.
        """
        entry = AtomicCheckpointIO().load_checkpoint(self.run.last)[ENTRY]
        check_same_data(entry["data"], self._description()["data"])
        check_same_division({SPLITS[split]: indices for split, indices in self.indices.items()}, self.run.path)
        check_same_network(entry["spec"], self.spec)
        self.tb_logger, self.csv_logger = self._tb_logger(), self._csv_logger()
        self.callbacks = self._get_callbacks()
        self.pl_trainer = self._get_pl_trainer()

    @property
    def _best(self) -> BestWeights:
        device = self.pl_trainer.strategy.root_device
        return BestWeights(self.run, self.potential, self.spec, self.manifest.to_dict(), self.graph_of, device)

    def _predict(self, configurations: Sequence[Configuration]) -> list[Prediction]:
        return self._best.predict(configurations)

    def _fit_late_fusion(self) -> None:
        if not self._is_ensemble:  # whose networks have forests of their own
            self._best.fit_late_fusion(self.splits["train"], self.splits["validation"], self.workspace["seed"])

    def _write_report(self) -> None:
        there = {SPLITS[split]: found for split, found in self.splits.items() if found}
        predictions, uncertainty = self._best.judge(there)
        report = write_run_report(
            self.run.path / "report",
            {split: Split(found, predictions[split]) for split, found in there.items()},
            tasks_of(self.model_manifest["heads"]),
            run_history(self.run.path),
            self.manifest.to_dict(),
            timing=self._timing(),
            n_parameters=sum(parameter.numel() for parameter in self.potential.parameters()),
            seed=self.workspace["seed"],
            uncertainty=uncertainty,
        )
        self._best.describe(report.metrics)
        logger.info(f"Training is finished. Report: {report.path}")

    def _timing(self) -> Timing | None:
        """Return how long this process trained, or an ensemble's networks; nothing where it had nothing left to do."""
        if self._is_ensemble:
            from kimgnn.training.ensemble import timing_of

            return timing_of(self)
        (clock,) = (item for item in self.callbacks if isinstance(item, EpochClock))
        if not clock.seconds:
            return None
        usual, device = float(np.median(clock.seconds)), self.pl_trainer.strategy.root_device
        return Timing(sum(clock.seconds), len(clock.seconds), usual, len(self.splits["train"]) / usual, str(device))
