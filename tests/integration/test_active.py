"""`kimgnn active` with real trainings, tiny ones: rounds, limits, killing, labels from elsewhere, LAMMPS."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from silicon_run import tiny_manifest

from kimgnn.active.frames import read_frames
from kimgnn.active.loop import go_on, prepare
from kimgnn.calculator import KimgnnCalculator
from kimgnn.errors import DataError, ManifestError, TrainingError
from kimgnn.manifest.trial import with_values

ARGUMENTS = {"sigma": 2.1, "epsilon": 0.3, "rc": 4.0, "smooth": True}
"""Of the potential that labels `silicon_run.silicon`."""

ACTIVE: dict[str, Any] = {
    "explore": {
        "md": {"count": 2, "temperatures": [300, 900], "steps": 6, "every": 3},
        "rattle": {"count": 6, "size": 0.1},
    },
    "guards": {"deviation": 1e3},
    "select": {"count": 2, "apart": 0.01},
    "label": {"calculator": "ase.calculators.lj.LennardJones", "arguments": ARGUMENTS},
    "retraining": {"training.epochs": 1},
    "rounds": 2,
}
BASE = {"model.ensemble": 2, "training.epochs": 2, "active": ACTIVE}


def written(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Return a manifest's file."""
    manifest = with_values(tiny_manifest(folder, BASE), changes or {})
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


def labels_of(folder: Path) -> dict[str, int]:
    """Return the time of each label's file, by its path."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("round_*/labels/*.extxyz"))}


def test_rounds_beside_random_selection(tmp_path: Path, kimgnn: Callable[..., tuple[int, str, str]]) -> None:
    """Two rounds, three trainings an arm, the first in common; every label is one that the calculator gives."""
    status, output, messages = kimgnn("active", written(tmp_path, {"active.baseline": "random"}))
    assert status == 0, messages
    assert "It ends by active.rounds: 2." in output
    folder = tmp_path / "runs" / "tiny_active"
    with open(folder / "active.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["labels"], row["trained on"]) for row in rows] == [
        ("active", "0", "6"), ("random", "0", "6"),
        ("active", "2", "8"), ("random", "2", "8"),
        ("active", "4", "10"), ("random", "4", "10"),
    ]  # fmt: skip
    assert all(float(row["forces RMSE (eV/Å)"]) > 0 for row in rows)
    assert (folder / "active.png").stat().st_size > 0
    state = json.loads((folder / "state.json").read_text())
    for number in (0, 1):
        chosen = state["rounds"][number]["chosen"]
        pool = {atoms.info["name"]: atoms for atoms in read_frames(folder / f"round_{number:02d}" / "pool.extxyz")}
        for name in chosen["active"] + chosen["random"]:
            (label,) = read_frames(folder / f"round_{number:02d}" / "labels" / f"{name}.extxyz")
            np.testing.assert_array_equal(label.positions, pool[name].positions)
            # What an extended XYZ file keeps of a force.
            forces = LennardJones(**ARGUMENTS).get_property("forces", pool[name])
            np.testing.assert_allclose(label.get_forces(), forces, rtol=0, atol=1e-7)
    run = Path(state["rounds"][-1]["runs"]["active"])
    assert KimgnnCalculator(run).get_property("forces_deviation", pool[name]).shape == (len(pool[name]), 3)


def test_retraining_begins_with_the_last_weights(tmp_path: Path) -> None:
    """With no step to speak of, a committee trained on more labels is that of the round before."""
    changes = {
        "active.retraining": {"training.epochs": 1, "training.optimizer.learning_rate": 1e-12},
        "active.rounds": 1,
    }
    state = go_on(prepare(written(tmp_path, changes)))
    before, after = (KimgnnCalculator(one.runs["active"]) for one in state.rounds)
    atoms = read_frames(tmp_path / "runs" / "tiny_active" / "data" / "test.extxyz")[0]
    for name in ("forces", "forces_deviation"):
        np.testing.assert_allclose(before.get_property(name, atoms), after.get_property(name, atoms), rtol=0, atol=1e-8)


def test_a_threshold_and_a_budget_end_it(tmp_path: Path) -> None:
    """Nothing above the threshold; with a lower one it goes on, with what it had, until the labels are spent."""
    state = go_on(prepare(written(tmp_path, {"active.threshold": 1e3})))
    assert state.stopped == "active.threshold: no structure of 10 is new and has a deviation above 1000 eV/Å"
    explored = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/round_00/explored/*")}
    state = go_on(prepare(written(tmp_path, {"active.labels": 3, "active.rounds": 9})))
    assert (state.stopped, state.labels(), len(state.rounds)) == ("active.labels: 3", 3, 3)
    assert explored == {path: path.stat().st_mtime_ns for path in explored}


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    go_on(prepare(written(tmp_path, {"active.threshold": 1e3})))
    with pytest.raises(TrainingError, match="belongs to active learning with another manifest"):
        go_on(prepare(written(tmp_path, {"training.batch_size": 1})))


def test_killed_again_and_again_it_loses_no_label(tmp_path: Path) -> None:
    """SIGKILL at growing intervals: labels and trajectories stay the files that they were, and the end is reached."""
    slow = {"calculator": "slow_label.Slow", "arguments": ARGUMENTS}
    (tmp_path / "slow_label.py").write_text(
        "import os, time\n"
        "from ase.calculators.lj import LennardJones\n\n\n"
        "class Slow(LennardJones):\n"
        "    def calculate(self, *arguments, **options):\n"
        "        with open(os.environ['LABEL_LOG'], 'a') as file:\n"
        "            file.write('label\\n')\n"
        "        time.sleep(1.0)\n"
        "        super().calculate(*arguments, **options)\n"
    )
    manifest = written(tmp_path, {"active.label": slow, "active.select.count": 4, "active.rounds": 1})
    log = tmp_path / "labels.log"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "LABEL_LOG": str(log)}
    folder = tmp_path / "runs" / "tiny_active"
    command = [sys.executable, "-c", "from kimgnn.cli import main; main()", "active", str(manifest)]
    seen: dict[str, int] = {}
    kills = 0
    for _ in range(20):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        kept = len(seen)
        while process.poll() is None and not len(labels_of(folder)) > kept:
            time.sleep(0.05)
        if process.poll() is None and len(labels_of(folder)) < 4:
            process.send_signal(signal.SIGKILL)
            kills += 1
        output = process.communicate()[0].decode()
        now = labels_of(folder)
        assert {path: now[path] for path in seen} == seen
        seen = now
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
    assert process.returncode == 0, output
    assert kills == 3
    # One label each is computed, and one more for each kill that came in the middle of one.
    assert 4 <= len(log.read_text().splitlines()) <= 4 + kills
    assert json.loads((folder / "state.json").read_text())["stopped"] == "active.rounds: 1"


def test_labels_from_elsewhere(tmp_path: Path, kimgnn: Callable[..., tuple[int, str, str]]) -> None:
    """Structures are given out; without results there is an error, with them the next round begins."""
    manifest = written(tmp_path, {"active.label": {"folder": str(tmp_path / "dft")}, "active.rounds": 1})
    status, output, messages = kimgnn("active", manifest)
    assert status == 0
    assert "2 structures to compute are in" in messages
    assert "go on: kimgnn active" in output
    exchange = tmp_path / "dft" / "round_00"
    status, _, messages = kimgnn("active", manifest)
    assert status == 1
    assert "2 of 2 results are missing" in messages
    selected = sorted((exchange / "selected").iterdir())
    for number, path in enumerate(selected):
        (atoms,) = read_frames(path)
        atoms.calc = LennardJones(**ARGUMENTS)
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        if number == 0:
            del results["forces"]  # still running
        atoms.calc = SinglePointCalculator(atoms, **results)
        ase.io.write(exchange / "results" / path.name, atoms)
    status, _, messages = kimgnn("active", manifest)
    assert status == 1
    assert f"{selected[0].name}:0: has no forces" in messages
    (atoms,) = read_frames(selected[0])
    atoms.calc = LennardJones(**ARGUMENTS)
    atoms.get_forces()
    ase.io.write(exchange / "results" / selected[0].name, atoms)
    status, output, _ = kimgnn("active", manifest)
    assert status == 0
    assert "It ends by active.rounds: 1." in output


def test_a_failing_label_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    label = {"calculator": "ase.calculators.lj.LennardJones", "arguments": ARGUMENTS | {"epsilon": "much"}}
    with pytest.raises(DataError, match=r"structure r00_\d+: its labels cannot be computed"):
        go_on(prepare(written(tmp_path, {"active.label": label, "active.rounds": 1})))
    state = go_on(prepare(written(tmp_path, {"active.rounds": 1})))
    assert state.stopped == "active.rounds: 1"


def test_failed_labels_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a round that is over count from the next training on, once; also by a copy of the manifest."""
    calls: list[int] = []

    def flaky(**arguments: Any) -> LennardJones:
        calls.append(len(calls))
        return LennardJones(**arguments | ({"epsilon": float("nan")} if len(calls) == 1 else {}))

    monkeypatch.setattr("kimgnn.active.loop.calculator_factory", lambda name, arguments: lambda: flaky(**arguments))
    changes = {"active.label": ACTIVE["label"] | {"on_error": "skip"}, "active.rounds": 1}
    path = written(tmp_path, changes)
    with pytest.warns(UserWarning, match="is left out: energy is not finite"):
        state = go_on(prepare(path))
    folder = tmp_path / "runs" / "tiny_active"
    (failed,) = folder.glob("round_00/labels/*.failed")
    assert state.labels() == 1

    project = prepare(path)
    state = go_on(project, retry_failed=True)
    assert (len(calls), state.labels(), failed.exists()) == (3, 2, False)
    assert state.rounds[1].late == {"active": [failed.stem]}
    assert state.rounds[1].n_train["active"] == state.rounds[0].n_train["active"] + 1  # it is as it was
    assert go_on(project, retry_failed=True).rounds[1].late == {"active": [failed.stem]}
    assert len(calls) == 3

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copied = Path(shutil.copy(written(tmp_path, changes | {"active.rounds": 2}), elsewhere / "same.yaml"))
    state = go_on(prepare(copied))
    assert state.rounds[2].n_train["active"] == state.rounds[0].n_train["active"] + state.labels()
    names = {atoms.info["name"] for atoms in read_frames(folder / "round_02" / "data" / "active" / "train.extxyz")
             if "name" in atoms.info}  # fmt: skip
    assert failed.stem in names


def test_a_manifest_is_the_same_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data beside the manifest have other paths from other folders; what the manifest says is the same."""
    path = written(tmp_path)
    plain = yaml.safe_load(path.read_text())
    plain["dataset"]["path"] = Path(plain["dataset"]["path"]).name
    path.write_text(yaml.safe_dump(plain))
    asked = set()
    for folder in (tmp_path, tmp_path.parent, Path("/")):
        monkeypatch.chdir(folder)
        for called in (path, Path(os.path.relpath(path))):
            project = prepare(called)
            asked.add(project.asked)
            assert Path(project.manifest.dataset.path).is_file()
    assert len(asked) == 1
    (other := tmp_path / "other").mkdir()  # the same words about other data
    data = Path(plain["dataset"]["path"])
    (other / data.name).write_bytes((tmp_path / data.name).read_bytes() + (tmp_path / data.name).read_bytes())
    (other / path.name).write_bytes(path.read_bytes())
    assert prepare(other / path.name).asked not in asked


def test_labels_from_a_folder_are_not_tried_again(tmp_path: Path) -> None:
    path = written(tmp_path, {"active.label": {"folder": str(tmp_path / "dft")}})
    with pytest.raises(ManifestError, match="--retry-failed"):
        go_on(prepare(path), retry_failed=True)


@pytest.mark.kim
@pytest.mark.lammps
def test_exploring_in_lammps(tmp_path: Path, kim_collection: Path) -> None:
    """The committee runs there as a KIM model, of which nothing is left; frames are of the seeds' frame and cells."""
    changes = {"active.explore.md.engine": "lammps", "active.explore.rattle": None, "active.rounds": 1}
    folder, models = tmp_path / "runs" / "tiny_active", kim_collection / "portable-models-dir"
    before = set(models.iterdir())  # other tests install there too
    state = go_on(prepare(written(tmp_path, changes)))
    assert state.labels() == 2
    pool = read_frames(folder / "round_00" / "pool.extxyz")
    assert len(pool) == 4
    seeds = read_frames(folder / "data" / "train.extxyz")
    for atoms in pool:
        seed = seeds[int(atoms.info["origin"].split()[4])]
        np.testing.assert_allclose(atoms.cell.array, seed.cell.array, atol=1e-7)
        # A few femtoseconds at 900 K move no atom by half an Å.
        assert 0 < np.abs(atoms.positions - seed.positions).max() < 0.5
    assert set(models.iterdir()) == before
