"""`kimgnn compare`, `tasks` and `fusion` with real trainings, tiny ones."""

from __future__ import annotations

import json
import os
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
from ase import Atoms
from silicon_run import silicon, tiny_manifest

from kimgnn.cli import experiments as command
from kimgnn.cli.alone import alone
from kimgnn.errors import DataError, ManifestError, TrainingError
from kimgnn.manifest import load_manifest
from kimgnn.training import task_study
from kimgnn.training.experiments import Experiment, Job, Member, begin, member_of
from kimgnn.training.measured_training import _peak_memory, train_once
from kimgnn.training.run_directory import RunDirectory
from kimgnn.training.trainer import GNNLightningTrainer

# Labels are missing on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*they are left out of that term of the loss")

Command = Callable[..., tuple[int, str, str]]

VOLUME = {"type": "property", "target": "volume", "unit": "Å³", "extensive": True, "hidden_channels": 8}
LENGTH = {"type": "property", "target": "length", "unit": "Å", "hidden_channels": 8}
DENSE = {"type": "classification", "target": "dense", "classes": ["loose", "dense"], "hidden_channels": 8}
SIZES = {
    "training.training_dataset": {"train_size": 8},
    "training.validation_dataset": {"val_size": 4},
    "training.test_dataset": {"test_size": 12},
    "training.epochs": 2,
    "training.batch_size": 4,
}


def cells() -> list[Atoms]:
    """Return 24 cells with a volume, missing on every fourth, a length and a class."""
    frames = silicon(24)
    for index, atoms in enumerate(frames):
        if index % 4:
            atoms.info["volume"] = atoms.get_volume()
        atoms.info["length"] = float(atoms.cell.lengths().mean())
        atoms.info["dense"] = "dense" if atoms.get_volume() / len(atoms) < 20.0 else "loose"
    return frames


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest of `cells`."""
    ase.io.write(tmp_path / "silicon.xyz", cells(), format="extxyz")

    def make(name: str, **changes: Any) -> Path:
        heads = {"model.heads": [LENGTH], "training.loss.weights": None}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tiny_manifest(tmp_path, SIZES | heads | changes), sort_keys=False))
        return path

    return make


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Train in this process, which does not begin with importing torch, and return what was trained."""
    trained: list[str] = []

    def train(experiment: Experiment, job: Job) -> dict[str, Any]:
        trained.append(f"{job.member.label} {job.seed}")
        return json.loads(json.dumps(train_once(job.manifest, job.structures)))

    monkeypatch.setattr(command, "_train", train)
    return trained


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_compare_trains_each_in_a_process_of_its_own(
    manifest: Callable[..., Path], kimgnn: Command, tmp_path: Path
) -> None:
    ballast = np.ones(400 * 2**20 // 8)  # of this process; a child must not count it
    small, broken = manifest("small"), manifest("broken", **{"training.batch_size": 9})
    folder = tmp_path / "out"
    status, output, messages = kimgnn("compare", small, broken, "--seeds", 1, "--output", folder)
    assert status == 0, messages
    assert ballast.sum() > 0
    assert output.startswith("8 structures to train, 4 to validate, 12 to test; the same for all.\n1/2 small, seed 7: ")
    assert messages.startswith("2/2 broken, seed 7: failed and is left out: TrainingError: training.batch_size")
    (line,) = [line for line in output.splitlines() if line.startswith("| broken")]
    assert line.split() == ["|", "broken", *["|", "–"] * 5, "|", "0", "(1", "failed)", "|"]
    assert "Failed, and tried again next time:\n\n- broken, seed 7: TrainingError: training.batch_size" in output
    done, failed = results(folder)["runs"]
    assert "the batch is larger than the training set (got 9)" in failed["error"]
    # Torch and KLIFF, and not what this process has besides.
    assert 100 < done["memory"] < _peak_memory() - 300
    assert done["epochs"] == 2
    assert done["seconds"] > 0
    trained = GNNLightningTrainer(folder / done["run"] / "manifest.yaml")
    assert done["parameters"] == sum(parameter.numel() for parameter in trained.potential.parameters())
    assert (folder / "runs" / "small_seed_7.log").read_text()
    for name in ("comparison.md", "bars.png", "time_accuracy.png"):
        assert (folder / name).stat().st_size > 0


def test_later_calls_add_to_the_results(
    manifest: Callable[..., Path], kimgnn: Command, here: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    large = {"model.options.hidden_channels": 16}
    one, two = manifest("one"), manifest("two", **large)
    status, output, messages = kimgnn("compare", one, two, "--seeds", 2, "--output", folder)
    assert status == 0, messages
    assert here == ["one 7", "two 7", "one 8", "two 8"]
    assert "length MAE (Å)" in output
    assert "2 seeds are few" in output
    runs = {(run["run"].split("_20")[0], run["seed"]): run for run in results(folder)["runs"]}
    assert len({run["metrics"]["length_mae"] for run in runs.values()}) == 4  # each begins with other weights
    indices = [(folder / run["run"] / "test_indices.txt").read_text() for run in runs.values()]
    assert len(set(indices)) == 1
    assert indices[0] == (folder / "splits" / "test_indices.txt").read_text()

    # A name or a path that changed is no other manifest; a seed more, and a network more, are.
    renamed = {
        "model.name": "other",
        "workspace.name": str(tmp_path / "elsewhere"),
        "dataset.cache": str(tmp_path / "c"),
    }
    here.clear()
    kimgnn("compare", manifest("one", **renamed), "--seeds", 3, "--output", folder)
    assert here == ["one 9"]
    here.clear()
    _, output, _ = kimgnn("compare", manifest("three", **{"training.epochs": 1}), "--seeds", 1, "--output", folder)
    assert here == ["three 7"]
    assert [line.split("|")[1].strip() for line in output.splitlines() if line.startswith("| ")][2:] == [
        "one", "two", "three",
    ]  # fmt: skip
    # One that was edited stands beside what it was before.
    here.clear()
    _, output, _ = kimgnn("compare", manifest("one", **{"training.epochs": 3}), "--seeds", 1, "--output", folder)
    assert here == ["one 7"]
    assert output.count("\n| one (") == 1
    assert output.count("\n| one  ") == 1


def test_what_failed_is_tried_again(
    manifest: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that is killed or leaves nothing behind is a failure of its own training only."""
    members = [member_of(manifest("one"))]
    for name, script, told in (
        ("killed", "#!/bin/sh\nkill -9 $$\n", "by signal 9; memory was short, perhaps; see "),
        ("left", "#!/bin/sh\nexit 3\n", "with status 3; see "),
    ):
        fake = tmp_path / name
        fake.write_text(script)
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))
        experiment = begin(tmp_path / "out", members, 1)
        (job,) = experiment.pending()
        outcome = command._train(experiment, job)
        assert told in outcome["error"]
        experiment.record(job, outcome)
        assert [row.error for row in experiment.rows()] == [outcome["error"]]
        with pytest.raises(TrainingError, match="no training came to its end: the process ended"):
            command.require_rows(experiment.rows(), tmp_path)
    assert len(begin(tmp_path / "out", members, 1).pending()) == 1
    assert len(results(tmp_path / "out")["runs"]) == 1


def test_what_cannot_be_compared_is_refused(manifest: Callable[..., Path], kimgnn: Command, tmp_path: Path) -> None:
    one = manifest("one")
    status, _, messages = kimgnn("compare", one)
    assert status == 1
    assert "a single manifest has nothing to be compared with" in messages

    def refused(*members: Path | Member) -> str:
        with pytest.raises(ManifestError) as caught:
            begin(tmp_path / "new", [item if isinstance(item, Member) else member_of(item) for item in members], 1)
        return str(caught.value)

    assert refused(one, manifest("two")).startswith("two: is the same manifest as one")
    assert "two manifests have this name (got 'one')" in refused(one, member_of(manifest("two"), "one"))
    fewer = manifest("fewer", **{"dataset.slices": "0:24:1", "training.epochs": 1})
    assert refused(one, manifest("sliced", **{"dataset.slices": "1:"})).startswith(
        "sliced: dataset: its structures are not those of one: 23 against 24 "
        f"({tmp_path / 'silicon.xyz'}:0: in one of them only)."
    )
    assert begin(tmp_path / "ok", [member_of(one), member_of(fewer)], 1).pending()  # the same, said otherwise
    backwards = cells()[::-1]
    ase.io.write(tmp_path / "backwards.xyz", backwards, format="extxyz")
    assert "others, or in another order" in refused(
        one, manifest("back", **{"dataset.path": str(tmp_path / "backwards.xyz")})
    )
    for atoms in backwards:
        atoms.info["length"] += 1.0
    ase.io.write(tmp_path / "longer.xyz", backwards[::-1], format="extxyz")
    assert "longer: dataset: its labels of length are not those of one" in refused(
        one, manifest("longer", **{"dataset.path": str(tmp_path / "longer.xyz")})
    )
    nm = manifest("nm", **{"model.heads": [LENGTH | {"unit": "nm"}]})
    assert "the head 'length' predicts something else than that of one" in refused(one, nm)
    # The first knows neither of these heads.
    volumes = [manifest(f"volume_{unit}", **{"model.heads": [VOLUME | {"unit": unit}]}) for unit in ("nm³", "Å³")]
    assert "the head 'volume' predicts something else than that of volume_nm³" in refused(one, *volumes)
    untested = manifest("untested", **{"training.test_dataset": None, "training.epochs": 1})
    assert "untested: training.test_dataset: keeps no structures to compare" in refused(untested, one)
    with pytest.raises(ManifestError, match=r"training\.devices: networks are compared on one device"):
        member_of(manifest("devices", **{"training.devices": 2}))
    nowhere = member_of(manifest("nowhere", **{"dataset.path": str(tmp_path / "*.none")}))
    with pytest.raises(DataError, match="nowhere: dataset"):
        begin(tmp_path / "new", [nowhere], 1)


def test_a_folder_of_other_results_is_refused(
    manifest: Callable[..., Path], kimgnn: Command, here: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    one, two = manifest("one"), manifest("two", **{"training.epochs": 1})
    assert kimgnn("compare", one, two, "--seeds", 1, "--output", folder)[0] == 0
    here.clear()

    def refused(path: Path) -> str:
        status, _, messages = kimgnn("compare", path, "--seeds", 1, "--output", folder)
        assert status == 1
        assert not here
        return messages

    assert "has results of other splits, though of the same sizes" in refused(manifest("a", **{"workspace.seed": 8}))
    fewer = manifest("b", **{"training.test_dataset": {"test_size": 10}})
    assert "has results of other splits (train 8, validate 4, test 12; those of the first manifest are" in refused(
        fewer
    )
    assert "has results of other structures" in refused(
        manifest("c", **{"dataset.slices": ":-1", "training.test_dataset": {"test_size": 11}})
    )
    nm = refused(manifest("d", **{"model.heads": [LENGTH | {"unit": "nm"}]}))
    assert "results.json: has results of a head 'length' that predicts something else than that of d" in nm
    grows = refused(manifest("e", **{"model.heads": [LENGTH | {"extensive": True}]}))
    assert "has results of a head 'length' that predicts something else than that of e" in grows
    with alone(folder, "Wait."):
        assert "another process is at work here" in refused(one)
    indices = folder / "splits" / "train_indices.txt"
    before = indices.read_text()
    indices.write_text("1\n2\n")
    assert "train_indices.txt: divides the structures otherwise" in refused(one)
    indices.write_text(before)
    content = results(folder)
    (folder / "results.json").write_text(json.dumps(content | {"version": 99}))
    assert "has results in another form (got 99). Allowed: version 1." in refused(one)
    (folder / "results.json").write_text("{")
    assert "results.json: cannot be read as results of kimgnn" in refused(one)
    (folder / "results.json").write_text(json.dumps(content))
    assert kimgnn("compare", one, two, "--seeds", 1, "--output", folder)[0] == 0
    assert not here


def test_files_of_their_own_for_the_test_are_shared_too(
    manifest: Callable[..., Path], here: list[str], tmp_path: Path
) -> None:
    frames = cells()
    ase.io.write(tmp_path / "test.xyz", frames[:5], format="extxyz")
    one = manifest("one", **{"training.test_dataset": {"path": str(tmp_path / "test.xyz")}})
    experiment = begin(tmp_path / "out", [member_of(one), member_of(manifest("two", **{"training.epochs": 1}))], 1)
    assert experiment.division.sizes == {"train": 8, "val": 4, "test": 5}
    for job in experiment.pending():
        assert train_once(job.manifest, job.structures)["metrics"]["length_count"] == 5
    ase.io.write(tmp_path / "test.xyz", frames[5:10], format="extxyz")
    with pytest.raises(TrainingError, match="the structures are not those that were divided"):
        train_once(job.manifest, job.structures)
    experiment.record(job, {"error": "for the file to be there"})
    with pytest.raises(TrainingError, match=r"results\.json: has results of other structures"):
        begin(tmp_path / "out", [member_of(one)], 1)


def test_tasks(manifest: Callable[..., Path], kimgnn: Command, here: list[str], tmp_path: Path) -> None:
    path = manifest("tasks", **{"model.heads": [VOLUME | {"weight": 0.5}, LENGTH, DENSE]})
    folder = tmp_path / "out"
    arguments = ("tasks", path, "--seeds", 2, "--output", folder)
    status, output, messages = kimgnn(*arguments)
    assert status == 0, messages
    names = ["together", "alone: volume", "alone: length", "alone: dense"]
    assert here == [f"{name} {seed}" for seed in (7, 8) for name in names]
    for told in ("| alone    |", "| together |", "Welch's t-test", "transfer", "correlation of labels, all structures"):
        assert told in output
    assert "1.00 (n = 18)" in output  # six of 24 have no volume
    assert "Suggested weights, 1 / L" in output
    for name in ("tasks.md", "bars.png", "correlations.png", "weights.yaml"):
        assert (folder / name).stat().st_size > 0
    # Alone, a head counts 1 and trains on the structures that have its label; all are tested on the same.
    stored = {entry["label"]: (key, entry["manifest"]) for key, entry in results(folder)["members"].items()}
    assert stored["alone: volume"][1]["model"]["heads"][0]["weight"] == 1.0
    runs = {(run["member"], run["seed"]): run for run in results(folder)["runs"]}
    counts = {runs[stored[name][0], 7]["metrics"]["volume_count"] for name in ("together", "alone: volume")}
    assert len(counts) == 1

    pasted = yaml.safe_load((folder / "weights.yaml").read_text())
    weights = {head["target"]: head["weight"] for head in pasted["model"]["heads"]}
    losses = {name: np.mean([runs[stored[f"alone: {name}"][0], seed]["loss"] for seed in (7, 8)]) for name in weights}
    inverse = {name: 1 / loss for name, loss in losses.items()}
    mean = np.mean(list(inverse.values()))
    assert weights == {name: pytest.approx(value / mean, rel=5e-3) for name, value in inverse.items()}  # three digits
    written = yaml.safe_load(path.read_text())
    written["model"] |= pasted["model"]
    written["training"]["loss"] |= pasted["training"]["loss"]
    assert load_manifest(written).model.heads[0]["weight"] == weights["volume"]

    # Run again with another balance: only that is trained, and the weights are those that it learned.
    here.clear()
    _, output, messages = kimgnn(
        *arguments, "--variants", "uncertainty", "--variants", "fixed", "--variants", "split_depth=1"
    )
    assert here == [f"together, {name} {seed}" for seed in (7, 8) for name in ("uncertainty", "split_depth=1")], (
        messages
    )
    assert "Suggested weights, exp(-s) / c" in output


def test_tasks_that_cannot_be_told_apart(manifest: Callable[..., Path], tmp_path: Path) -> None:
    one = load_manifest(manifest("one")).to_dict()
    with pytest.raises(ManifestError, match=r"model\.heads: one head has nothing to share"):
        task_study.alone(one)
    with pytest.raises(ManifestError, match=r"--variants: there is no such variant \(got 'deep'\)\. Allowed: fixed, "):
        task_study.together(one, ["deep"])
    (tmp_path / "weights.dat").write_text("config energy\n1 1\n")
    changes = {"model.heads": [{"type": "energy"}, LENGTH], "training.loss.weights": str(tmp_path / "weights.dat")}
    with pytest.raises(ManifestError, match="a file of weights cannot be divided among the heads"):
        task_study.alone(load_manifest(manifest("file", **changes)).to_dict())


def test_a_head_alone_keeps_the_columns_that_it_reads(manifest: Callable[..., Path]) -> None:
    """And those of state inputs; other names would be refused as no head's."""
    columns = {"volume": "volume", "dense": "dense", "strain": "length"}
    options = {"cutoff": 3.5, "state_inputs": [{"name": "strain"}]}
    changes = {"dataset.targets": columns, "model.architecture": "megnet", "model.options": options}
    path = manifest("columns", **changes, **{"model.heads": [VOLUME, DENSE, LENGTH]})
    singles = task_study.alone(load_manifest(path).to_dict())
    kept = {name: list(member.manifest["dataset"]["targets"]) for name, member in singles.items()}
    assert kept == {"volume": ["volume", "strain"], "dense": ["dense", "strain"], "length": ["strain"]}


def test_a_head_that_late_fusion_leaves_alone_can_be_trained_alone(manifest: Callable[..., Path]) -> None:
    composition = {"features": "fractions", "fusion": "late"}
    path = manifest("late", **{"model.composition": composition, "model.heads": [{"type": "energy"}, LENGTH]})
    singles = task_study.alone(load_manifest(path).to_dict())
    assert singles["energy"].manifest["model"]["composition"] is None
    assert singles["length"].manifest["model"]["composition"]["fusion"] == "late"


@pytest.mark.parametrize("name", ["cs182_metal_cgcnn", "cs182_metal_fusion"])
def test_heads_of_manifests_that_are_shipped_can_be_trained_alone(name: str) -> None:
    path = Path(__file__).parents[2] / "manifests" / f"{name}.yaml"
    singles = task_study.alone(load_manifest(path).to_dict())
    assert {head: list(member.manifest["dataset"]["targets"]) for head, member in singles.items()} == {
        "insulator": ["insulator"],
        "gap": ["gap"],
    }


@pytest.mark.filterwarnings("ignore:.*entries are left out")
def test_what_one_head_cannot_use_is_left_out_of_all(manifest: Callable[..., Path], tmp_path: Path) -> None:
    """A head alone does not see that another one's label is bad; its index files say who is who all the same."""
    frames = cells()
    frames[5].info["dense"] = "neither"
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    sizes = {"training.test_dataset": {"test_size": 11}, "training.epochs": 1}
    skip = {"dataset.on_error": "skip", "model.heads": [LENGTH, DENSE]} | sizes
    asked = member_of(manifest("skip", **skip))
    members = [asked, *task_study.alone(asked.manifest).values()]
    experiment = begin(tmp_path / "out", members, 1)
    assert len(experiment.data.configurations) == 23
    parts = []
    for job in experiment.pending():
        found = train_once(job.manifest, job.structures)
        experiment.record(job, found)
        trainer = GNNLightningTrainer(tmp_path / "out" / found["run"] / "manifest.yaml")
        parts.append({name: [item.identifier for item in part] for name, part in trainer.splits.items()})
    assert parts[0] == parts[1] == parts[2]
    everywhere = sorted(identifier for part in parts[0].values() for identifier in part)
    assert everywhere == sorted(f"{tmp_path / 'silicon.xyz'}:{i}" for i in range(24) if i != 5)
    assert not begin(tmp_path / "out", members, 1).pending()
    # Files that differ otherwise are refused as ever.
    sliced = member_of(manifest("sliced", **(skip | {"dataset.slices": "1:"})))
    with pytest.raises(ManifestError, match=r"22 against 23 \(.*silicon.xyz:0: in one of them only\)"):
        begin(tmp_path / "new", [asked, sliced], 1)


def test_an_energy_head_alone_keeps_its_labels_and_the_others_lose_them(
    manifest: Callable[..., Path], tmp_path: Path
) -> None:
    weights = {"energy": 1.0, "forces": 0.5}
    changes = {"training.loss.weights": weights, "training.loss.balance": "uncertainty"}
    path = manifest("mixed", **changes, **{"model.heads": [{"type": "energy"}, LENGTH | {"weight": 0.1}]})
    singles = task_study.alone(load_manifest(path).to_dict())
    losses = {name: member.manifest["training"]["loss"] for name, member in singles.items()}
    assert {label: losses["energy"]["weights"][label] for label in weights} == weights
    assert not any(losses["length"]["weights"][label] for label in weights)
    assert {loss["balance"] for loss in losses.values()} == {"fixed"}
    experiment = begin(tmp_path / "out", [member_of(path), *singles.values()], 1)
    for job in experiment.pending():
        found = train_once(job.manifest, job.structures)
        experiment.record(job, found)
        assert ("energy_mae" in found["metrics"]) == (job.member.label != "alone: length")
        assert (found["balance"] is not None) == (job.member.label == "mixed")
    assert set(task_study.learned_balance(experiment, experiment.members)) == {"energy", "forces", "length"}
    errors = task_study.residuals(experiment, experiment.members[0])
    assert {name: values.shape for name, values in errors.items()} == {"energy": (12,), "length": (12,)}


def test_fusion(manifest: Callable[..., Path], kimgnn: Command, here: list[str], tmp_path: Path) -> None:
    frames = cells()
    for atoms in frames[::2]:
        atoms.symbols[0] = "Ge"
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")
    composition = {"features": "fractions", "hidden_channels": 4, "n_trees": 5}
    species = {"transforms.configuration.kwargs": {"cutoff": 3.5, "species": ["Si", "Ge"]}}
    path = manifest("fusion", **{"model.composition": composition}, **species)
    status, output, messages = kimgnn("fusion", path, "--seeds", 2, "--output", tmp_path / "out")
    assert status == 0, messages
    assert here == [
        f"{name} {seed}" for seed in (7, 8) for name in ("none", "early", "attention", "intermediate", "late")
    ]
    assert output.count("against none") == 4
    assert (
        "Weight of the network beside the forest in late fusion, chosen on validation data, by seed: length" in output
    )
    by_label = {entry["label"]: key for key, entry in results(tmp_path / "out")["members"].items()}
    runs = {(run["member"], run["seed"]): run for run in results(tmp_path / "out")["runs"]}
    ours = [runs[by_label[name], 7] for name in ("none", "late")]
    assert ours[0]["loss"] == ours[1]["loss"]  # the same network, and a forest beside it
    assert os.listdir(tmp_path / "out" / "splits")


def test_fusion_without_the_one_that_cannot_be(
    manifest: Callable[..., Path], kimgnn: Command, here: list[str], tmp_path: Path
) -> None:
    composition = {"features": "fractions", "hidden_channels": 4}
    changes = {"training.validation_dataset": None, "model.composition": composition, "training.epochs": 1}
    status, output, messages = kimgnn(
        "fusion", manifest("fusion", **changes), "--seeds", 1, "--output", tmp_path / "out"
    )
    assert status == 0, messages
    assert here == ["none 7", "early 7", "attention 7", "intermediate 7"]
    told = "late fusion is left out: model.composition.fusion: chooses the weight of the forest on validation data"
    assert messages.startswith(told)
    assert told in output


def test_matminer_is_missed_before_anything_is_trained(
    manifest: Callable[..., Path], kimgnn: Command, here: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matminer.utils.data", None)
    path = manifest("fusion", **{"model.composition": {"features": "magpie"}})
    status, _, messages = kimgnn("fusion", path, "--seeds", 1, "--output", tmp_path / "out")
    assert status == 1
    assert "Magpie's features need the package matminer" in messages
    assert not here


@pytest.mark.slow
@pytest.mark.parametrize(("request_to_end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_no_process_is_left_behind(
    manifest: Callable[..., Path], tmp_path: Path, request_to_end: signal.Signals, status: int
) -> None:
    """What was under way is trained again next time."""
    paths = [str(manifest(name, **{"training.epochs": epochs})) for name, epochs in (("a", 10000), ("b", 10001))]
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "kimgnn.cli.app", "compare", *paths, "--seeds", "1", "--output", str(folder)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests run in a shell's background, which ignores interrupts, so would their processes.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 180
    while not list(folder.glob("runs/a_seed_7_*/checkpoints/best.ckpt")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.time() < deadline
        time.sleep(0.1)
    process.send_signal(request_to_end)
    process.communicate(timeout=60)
    assert process.returncode == status
    log = folder / "runs" / "a_seed_7.log"
    size = log.stat().st_size
    time.sleep(3)
    assert log.stat().st_size == size
    (run,) = folder.glob("runs/a_seed_7_*/")
    with RunDirectory(run).lock():  # nothing holds it any more
        pass
    assert not (folder / "results.json").exists()
