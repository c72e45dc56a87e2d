"""A search for the best manifest: trainings with values from a space, chosen by Optuna, kept in an SQLite file.

`prepare` reads the manifest, `begin` opens the search or goes on with it, `work` trains, in one process or several at a
time, and `finish` writes what was found.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from loguru import logger
from optuna.trial import FrozenTrial, Trial, TrialState

from kimgnn.errors import ManifestError, TrainingError, did_you_mean
from kimgnn.evaluation.tuning import TrialRow, write_importance, write_trials
from kimgnn.files import atomic_write
from kimgnn.manifest import manifest_hash
from kimgnn.manifest.trial import read_for_tuning, with_values
from kimgnn.manifest.tuning import Parameter, Tuning
from kimgnn.training.callbacks import EpochLines
from kimgnn.training.trainer import GNNLightningTrainer

BEST: Final = "best_manifest.yaml"
TRIALS: Final = "trials.csv"
PICTURE: Final = "importance.png"

TELLING: Final = 4
"""Complete trials below which nothing is said about importance."""

_ASKED, _ERROR, _RUN = "asked", "error", "run"
"""What the search keeps beside Optuna's own: what it is of, why a trial failed, where a trial is."""


@dataclass(frozen=True)
class Search:
    """What is looked for, and where it is kept.

    Attributes:
        tuning: The manifest's block.
        base: The manifest without it, as it was written.
        folder: Gets the results, and a run directory for each trial.
        storage: The SQLite file.
        seed: Of the search.
        epochs: Of a trial.
    """

    tuning: Tuning
    base: dict[str, Any]
    folder: Path
    storage: Path
    seed: int
    epochs: int


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        manifest: The best one.
        number: Of its trial.
        value: Of the metric.
        values: Dotted path -> best value.
        rows: All trials.
        importances: Dotted path -> share of the metric's variation, where enough trials tell.
    """

    manifest: Path
    number: int
    value: float
    values: dict[str, Any]
    rows: list[TrialRow]
    importances: dict[str, float]


def prepare(path: Path) -> Search:
    """Return the search that a manifest asks for.

    Raises:
        ManifestError: The manifest or its `tuning` block is wrong, or a trial would take several devices.
    """
    manifest, base = read_for_tuning(path)
    if manifest.training.devices not in ("auto", 1):
        raise ManifestError(
            "a trial is trained on one device",
            where="training.devices",
            value=manifest.training.devices,
            allowed="auto, 1",
            remedy="Take kimgnn tune --workers for several trainings at a time.",
        )
    if manifest.model.ensemble > 1:
        raise ManifestError(
            "a trial trains one network",
            where="model.ensemble",
            value=manifest.model.ensemble,
            allowed="1",
            remedy="Train the best manifest as an ensemble.",
        )
    tuning = manifest.tuning
    default = Path(manifest.workspace.name) / f"{manifest.model.name}_tuning" / "study.db"
    storage = Path(tuning.storage) if tuning.storage else default
    seed = manifest.workspace.seed if tuning.seed is None else tuning.seed
    return Search(tuning, base, storage.parent, storage, seed, manifest.training.epochs)


def begin(search: Search) -> int:
    """Make the search, or open the one that is there, and return how many trials are left.

    Values of trials that were under way when the last process ended are tried again. No other process may be at work
    here.

    Raises:
        TrainingError: The file holds another search, or none.
    """
    search.folder.mkdir(parents=True, exist_ok=True)
    study = _open(search)
    # The rest of the block may change from one part of a search to the next.
    compared = search.tuning.model_dump(mode="json", exclude={"trials", "timeout", "pruner", "seed", "storage"})
    asked = manifest_hash({"manifest": search.base, "tuning": compared})
    if study.user_attrs.get(_ASKED, asked) != asked:
        raise TrainingError(
            "belongs to a search with another manifest, space, metric or direction",
            where=str(search.storage),
            remedy="Name a new file in tuning.storage, or go on with the manifest that it was begun with.",
        )
    study.set_user_attr(_ASKED, asked)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return max(0, search.tuning.trials - sum(map(_counts, study.get_trials(deepcopy=False))))


def work(search: Search, take: Callable[[], bool], deadline: float = math.inf, worker: int = 0) -> None:
    """Train trials while there are any.

    A trial that fails is told and left behind.

    Args:
        search: The search, begun.
        take: Called before each trial; true if one is left, which is then ours.
        deadline: Time, as of `time.time`, after which no trial begins.
        worker: Number of this process, from 0.

    Raises:
        ManifestError: Training logs no such metric.
        KeyboardInterrupt: Ctrl-C was pressed; the trial is tried again when the search goes on.
    """
    study = _open(search, worker)
    talk = ("kliff", "kimgnn.training.trainer")  # of a single run; a trial is told in a line
    for name in talk:
        logger.disable(name)
    try:
        while time.time() < deadline and take():
            trial = study.ask()
            try:
                study.tell(trial, _train(search, trial))
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)
            except Exception as error:  # of any kind: out of memory, a loss that is not a number
                trial.set_user_attr(_ERROR, f"{type(error).__name__}: {error}")
                study.tell(trial, state=TrialState.FAIL)
                if isinstance(error, _NoSuchMetricError):
                    raise
            logger.info(_line(search, study.trials[trial.number]))
            gc.collect()
    finally:
        for name in talk:
            logger.enable(name)


def finish(search: Search) -> Found:
    """Write the best manifest, the table of trials and the picture, and return what was found.

    Raises:
        TrainingError: No trial came to its end.
    """
    study = _open(search)
    trials = study.get_trials(deepcopy=False)
    rows = [_row(search, trial) for trial in trials if trial.state != TrialState.WAITING]
    metric, minimize = search.tuning.metric, search.tuning.direction == "minimize"
    write_trials(search.folder / TRIALS, rows, metric)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        reasons = list(dict.fromkeys(row.note.splitlines()[0] for row in rows if row.state == "fail" and row.note))
        raise TrainingError(
            f"no trial came to its end{': ' if reasons else ''}{'; '.join(reasons[:3])}",
            where=str(search.folder / TRIALS),
            remedy="Correct tuning.space, or raise tuning.trials, and run the same again.",
        )
    best = study.best_trial
    values = _values(search, best.params)
    importances = _importances(study, len(complete), search.seed)
    write_importance(search.folder / PICTURE, importances, rows, metric, minimize)
    with atomic_write(search.folder / BEST) as file:
        file.write(f"# Trial {best.number} of {len(rows)}: {metric} {best.value:.6g}. Found by kimgnn tune.\n")
        yaml.safe_dump(with_values(search.base, values), file, sort_keys=False, allow_unicode=True)
    return Found(search.folder / BEST, best.number, float(best.value or 0.0), values, rows, importances)


class _NoSuchMetricError(ManifestError):
    """Training does not log what is to be compared; no other trial would either."""


class _TrialTrainer(GNNLightningTrainer):
    """Trains a trial, and ends it where it is not worth going on."""

    def __init__(self, manifest: Mapping[str, Any], trial: Trial, tuning: Tuning) -> None:
        self.watcher = _Watcher(trial, tuning.metric, tuning.direction == "minimize")
        super().__init__(manifest)

    def _get_callbacks(self) -> list[Callback]:
        quiet = [callback for callback in super()._get_callbacks() if not isinstance(callback, EpochLines)]
        return [*quiet, self.watcher]

    def _get_pl_trainer(self) -> Trainer:
        trainer = super()._get_pl_trainer()
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, ProgressBar)]  # type: ignore[attr-defined]
        return trainer

    def _write_report(self) -> None:
        """Leave the report out, and with it the test set: both are for the manifest that is chosen in the end."""


class _Watcher(Checkpoint):
    """Reports a metric after each epoch. A `Checkpoint` for its turn only: after the module has logged the epoch."""

    def __init__(self, trial: Trial, metric: str, minimize: bool) -> None:
        self._trial = trial
        self._metric = metric
        self._better = min if minimize else max
        self.best = math.inf if minimize else -math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch, and end the trial if others were better.

        Raises:
            optuna.TrialPruned: It is ended.
            ManifestError: There is no such metric.
        """
        metrics = trainer.callback_metrics
        if self._metric not in metrics:
            raise _NoSuchMetricError(
                "training logs no such metric",
                where="tuning.metric",
                value=self._metric,
                allowed=", ".join(sorted(metrics)),
                remedy=did_you_mean(self._metric, metrics),
            )
        value = float(metrics[self._metric])
        self.best = self._better(self.best, value)
        self._trial.report(value, trainer.current_epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _train(search: Search, trial: Trial) -> float:
    """Train a trial, and return the metric of its best epoch."""
    suggested = {path: _suggest(trial, path, parameter) for path, parameter in search.tuning.space.items()}
    plain = with_values(search.base, _values(search, suggested))
    plain["workspace"] = {**(plain.get("workspace") or {}), "name": str(search.folder / "trials"), "resume": False}
    plain["model"]["name"] = f"trial_{trial.number:04d}"
    plain["training"] = {**(plain.get("training") or {}), "devices": 1}
    trainer = _TrialTrainer(plain, trial, search.tuning)
    trial.set_user_attr(_RUN, str(trainer.run.path))
    trainer.train()
    if not math.isfinite(trainer.watcher.best):
        raise TrainingError(f"{search.tuning.metric} was never a number", where=str(trainer.run.path))
    return trainer.watcher.best


def _suggest(trial: Trial, path: str, parameter: Parameter) -> Any:
    """Return a value as Optuna keeps it: choices in JSON, which tells all types apart."""
    if parameter.type == "categorical":
        return trial.suggest_categorical(path, [json.dumps(choice) for choice in parameter.choices or []])
    low, high, step = parameter.low or 0, parameter.high or 0, parameter.step
    if parameter.type == "int":
        return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=parameter.log)
    return trial.suggest_float(path, float(low), float(high), step=step, log=parameter.log)


def _values(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted path -> value as the manifest takes it."""
    space = search.tuning.space
    return {
        path: json.loads(params[path]) if space[path].type == "categorical" else params[path]
        for path in space
        if path in params
    }


def _open(search: Search, worker: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tuning = search.tuning
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        # The first epochs say little of the last ones.
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, search.epochs // 10)),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs),
        "none": optuna.pruners.NopPruner,
    }
    try:
        # Long enough for every worker to have its turn at the file.
        engine = {"connect_args": {"timeout": 120}}
        storage = optuna.storages.RDBStorage(f"sqlite:///{search.storage}", engine_kwargs=engine)
        study = optuna.create_study(
            study_name="kimgnn",
            storage=storage,
            direction=tuning.direction,
            pruner=pruners[tuning.pruner](),
            load_if_exists=True,
        )
    except Exception as error:  # of SQLAlchemy and Optuna, which do not say which file it is
        raise TrainingError(
            f"cannot be opened as a search: {' '.join(str(error).split())[:200]}",
            where=str(search.storage),
            remedy="Name a new file in tuning.storage.",
        ) from error
    # Going on must not draw again what the search began with, nor one worker what another one draws.
    seed = np.random.SeedSequence([search.seed, len(study.get_trials(deepcopy=False)), worker]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed))
    return study


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end of its own: not one that was interrupted, which is tried again."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return trial.state in ended or (trial.state == TrialState.FAIL and _ERROR in trial.user_attrs)


def _row(search: Search, trial: FrozenTrial) -> TrialRow:
    state = trial.state.name.lower()
    if trial.state in (TrialState.RUNNING, TrialState.FAIL) and not _counts(trial):
        state = "interrupted"
    note = trial.user_attrs.get(_ERROR, trial.user_attrs.get(_RUN, ""))
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return TrialRow(trial.number, state, _value(search, trial), _values(search, trial.params), seconds, note)


def _value(search: Search, trial: FrozenTrial) -> float | None:
    """Return a trial's metric; the best until then of one that was ended early."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    reported = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    if trial.state != TrialState.PRUNED or not reported:
        return None
    return min(reported) if search.tuning.direction == "minimize" else max(reported)


def _line(search: Search, trial: FrozenTrial) -> str:
    """Say in a line how a trial went."""
    row = _row(search, trial)
    tried = ", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in row.values.items())
    if row.state == "fail":
        result = f"failed and is left out: {row.note}"
    else:
        result = "" if row.value is None else f"{search.tuning.metric} {row.value:.5g}"
        if row.state == "pruned":
            result = f"ended after epoch {trial.last_step}: {result}"
    return f"trial {row.number} ({tried}) {result}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _importances(study: optuna.Study, n_complete: int, seed: int) -> dict[str, float]:
    """Return each value's share of the metric's variation; nothing where there is too little to tell it by."""
    if n_complete < TELLING or len({trial.value for trial in study.get_trials(deepcopy=False) if trial.value}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
