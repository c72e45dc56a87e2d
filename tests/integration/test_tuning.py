"""`kimgnn tune` with real trainings, tiny ones."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna", reason="optuna is an optional extra")

import optuna
from loguru import logger
from silicon_run import tiny_manifest

from kimgnn import cli
from kimgnn.cli import tune as tuning_command
from kimgnn.cli.alone import alone
from kimgnn.errors import ManifestError, TrainingError
from kimgnn.manifest import load_manifest
from kimgnn.training import tuning
from kimgnn.training.trainer import GNNLightningTrainer
from kimgnn.training.tuning import Search, begin, finish, prepare, work

SPACE: dict[str, Any] = {
    "model.options.hidden_channels": {"type": "int", "low": 4, "high": 12, "step": 4},
    "training.optimizer.learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True},
    "training.optimizer.lr_scheduler": {
        "type": "categorical", "choices": [None, {"name": "ExponentialLR", "args": {"gamma": 0.5}}],
    },
}  # fmt: skip


def search_in(folder: Path, changes: dict[str, Any] | None = None, **block: Any) -> Search:
    """Return a search of 4 trials of 2 epochs, or another one."""
    manifest = tiny_manifest(folder, {"training.epochs": 2} | (changes or {}))
    manifest["tuning"] = {"trials": 4, "pruner": "none", "space": SPACE} | block
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return prepare(path)


def run(search: Search, n: int | None = None) -> int:
    """Train what is left, or ``n`` trials of it, and return how many were left."""
    left = begin(search)
    counter = count()
    work(search, lambda: next(counter) < (left if n is None else n))
    return left


def params(search: Search) -> list[dict[str, Any]]:
    """Return what each trial tried."""
    with open(search.folder / "trials.csv", newline="") as file:
        return [{name: row[name] for name in SPACE} for row in csv.DictReader(file)]


def test_the_best_of_all_trials_is_written_and_trains_to_the_same_loss(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    assert run(search) == 4
    found = finish(search)
    assert [row.state for row in found.rows] == ["complete"] * 4
    assert found.value == min(row.value for row in found.rows)
    assert found.rows[found.number].value == found.value
    assert set(found.importances) == set(SPACE)
    assert sum(found.importances.values()) == pytest.approx(1.0)
    for name in ("best_manifest.yaml", "trials.csv", "importance.png"):
        assert (search.folder / name).stat().st_size > 0
    assert (search.folder / "trials.csv").read_text().count("\n") == 5

    best = load_manifest(found.manifest)
    assert best.model.options["hidden_channels"] == found.values["model.options.hidden_channels"]
    assert best.model.name == "tiny"
    trainer = GNNLightningTrainer(best)
    trainer.train()
    # The same seed, data and values: the search told the truth.
    assert trainer.current["best_loss"] == found.value


def test_run_again_it_goes_on_to_the_number_of_trials_with_other_values(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    assert run(search, 2) == 4
    assert run(search) == 2
    assert run(search_in(tmp_path, trials=5)) == 1
    found = finish(search)
    assert [row.state for row in found.rows] == ["complete"] * 5
    tried = [tuple(row.values.items()) for row in found.rows]
    assert len({str(values) for values in tried}) == 5
    assert begin(search) == 0


def test_the_same_seed_searches_the_same_way(tmp_path: Path) -> None:
    tried = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        search = search_in(tmp_path / name, trials=2, seed=seed)
        run(search)
        finish(search)
        tried.append(params(search))
    assert tried[0] == tried[1] != tried[2]


def test_another_search_does_not_go_on_in_its_file(tmp_path: Path) -> None:
    begin(search_in(tmp_path))
    with pytest.raises(TrainingError, match=r"study.db: belongs to a search with another manifest"):
        begin(search_in(tmp_path, {"training.epochs": 3}))
    with pytest.raises(TrainingError, match="belongs to a search"):
        begin(search_in(tmp_path, direction="maximize"))


def test_a_file_that_is_no_search(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database, but long enough to look like one" * 100)
    with pytest.raises(TrainingError, match="notes.db: cannot be opened as a search"):
        begin(search_in(tmp_path, storage=str(tmp_path / "notes.db")))


def test_a_trial_that_others_were_better_than_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"training.optimizer.learning_rate": {"type": "categorical", "choices": [1e-2, 1e-9]}}
    search = search_in(tmp_path, {"training.epochs": 6}, trials=3, pruner="median", space=space)
    monkeypatch.setattr(
        tuning.optuna.pruners, "MedianPruner",
        lambda **_: optuna.pruners.PercentilePruner(50.0, n_startup_trials=2, n_warmup_steps=1),
    )  # fmt: skip
    begin(search)
    study = tuning._open(search)
    for rate in ("0.01", "0.01", "1e-09"):
        study.enqueue_trial({"training.optimizer.learning_rate": rate})
    run(search)
    found = finish(search)
    assert [row.state for row in found.rows] == ["complete", "complete", "pruned"]
    ended = study.trials[2]
    assert ended.last_step == 1  # epoch 0 is the warm-up
    assert ended.value > found.value


def test_a_trial_that_fails_is_told_and_left_behind(tmp_path: Path) -> None:
    # 40 structures in a batch are more than there are: each value is right by itself, but not with the data.
    space = {"training.batch_size": {"type": "categorical", "choices": [2, 40]}}
    search = search_in(tmp_path, trials=2, space=space)
    begin(search)
    study = tuning._open(search)
    for size in ("40", "2"):
        study.enqueue_trial({"training.batch_size": size})
    messages: list[str] = []
    sink = logger.add(messages.append, format="{message}")
    run(search)
    logger.remove(sink)
    found = finish(search)
    assert [row.state for row in found.rows] == ["fail", "complete"]
    assert "training.batch_size: the batch is larger than the training set (got 40)" in found.rows[0].note
    assert messages[0].startswith("trial 0 (batch_size 40) failed and is left out: TrainingError: training.batch_size")
    assert found.values == {"training.batch_size": 2}
    assert not found.importances  # one complete trial tells nothing
    assert begin(search) == 0  # it counts, and is not tried again


def test_a_trial_that_was_under_way_when_all_ended_is_tried_again(tmp_path: Path) -> None:
    search = search_in(tmp_path, trials=1)
    begin(search)
    lost = tuning._open(search).ask()
    params = {path: tuning._suggest(lost, path, parameter) for path, parameter in search.tuning.space.items()}
    assert begin(search) == 1  # it does not count
    run(search)
    found = finish(search)
    assert [row.state for row in found.rows] == ["interrupted", "complete"]
    assert tuning._values(search, params) == found.values


def test_a_search_of_failures_says_why(tmp_path: Path) -> None:
    space = {"training.batch_size": {"type": "int", "low": 40, "high": 50}}
    search = search_in(tmp_path, trials=2, space=space)
    run(search)
    with pytest.raises(TrainingError, match="no trial came to its end: TrainingError: training.batch_size: the batch"):
        finish(search)


def test_a_metric_that_is_not_logged_stops_the_search(tmp_path: Path) -> None:
    search = search_in(tmp_path, metric="val_los")
    with pytest.raises(ManifestError, match=r"tuning.metric: .*Did you mean 'val_loss'"):
        run(search)
    assert len(tuning._open(search).trials) == 1


def test_another_metric_and_direction(tmp_path: Path) -> None:
    search = search_in(tmp_path, trials=2, metric="val_energy_mae", direction="maximize")
    run(search)
    found = finish(search)
    assert found.value == max(row.value for row in found.rows)


def test_after_a_timeout_no_trial_begins(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    begin(search)
    work(search, lambda: True, deadline=time.time() - 1)
    assert not tuning._open(search).trials


def test_several_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="training.devices: a trial is trained on one device"):
        search_in(tmp_path, {"training.devices": 2})


def test_two_processes_share_the_trials_exactly(tmp_path: Path) -> None:
    search = search_in(tmp_path, trials=5)
    tuning_command._train(search, begin(search), workers=2)
    found = finish(search)
    assert [row.state for row in found.rows] == ["complete"] * 5
    assert len({row.note for row in found.rows}) == 5


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    search = search_in(tmp_path, trials=1)

    def command(status: int) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["kimgnn", "tune", str(tmp_path / "manifest.yaml")])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert int(left.value.code or 0) == status
        return capsys.readouterr()

    output, messages = command(0)
    assert output.startswith(f"1 of 1 trials to go in {search.folder}\n1 trials: 1 complete\nbest: trial 0, val_loss")
    assert output.endswith(f"train it with: kimgnn train {search.folder / 'best_manifest.yaml'}\n")
    assert messages.startswith("trial 0 (hidden_channels")  # one line, and nothing of the run itself
    assert messages.count("\n") == 1
    output, _ = command(0)
    assert output.startswith("0 of 1 trials to go")
    with alone(search.folder, "Wait."):
        _, messages = command(1)
        assert "another process is at work here" in messages
    with pytest.raises(ManifestError):
        search_in(tmp_path, space={"model.options.chanels": {"type": "int", "low": 1, "high": 2}})
    _, messages = command(1)
    assert messages.startswith("ManifestError:\ntuning.space.model.options.chanels: unknown option of 'schnet'")


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trial_that_was_under_way(tmp_path: Path) -> None:
    search = search_in(tmp_path, {"training.epochs": 10000}, trials=1)
    command = [sys.executable, "-m", "kimgnn.cli.app", "tune", str(tmp_path / "manifest.yaml")]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.time() + 120
        while not list(search.folder.glob("trials/trial_0000_*/checkpoints/last.ckpt")):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.time() < deadline
            time.sleep(0.1)
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "another process is at work here" in second.stderr
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = tuning._open(search).trials[0]
    assert begin(search) == 1  # it does not count
    before_again = tuning._open(search).trials[1]
    assert before_again.state == optuna.trial.TrialState.WAITING
    trial = tuning._open(search).ask()
    assert {path: tuning._suggest(trial, path, search.tuning.space[path]) for path in SPACE} == before.params
