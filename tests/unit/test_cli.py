"""The command line, called as the installed program calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from silicon_run import silicon, tiny_manifest, write_silicon

from kimgnn.doctor import Check
from kimgnn.export.formats import FORMATS
from kimgnn.models.checkpoint import load_checkpoint, save_checkpoint
from kimgnn.models.network import Network

NAME = "Tiny_Test_Si__MO_000000000008_000"

Command = Callable[..., tuple[int, str, str]]


COMMANDS = {
    "validate": ["validate", "manifest.yaml"],
    "train": ["train", "manifest.yaml"],
    "endless": ["train", "endless.yaml"],
}

SESSION = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
for name, arguments in json.loads(sys.argv[1]).items():
    for stream, suffix in ((1, "txt"), (2, "log")):
        os.dup2(os.open(f"{name}.{suffix}", os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["kimgnn", *arguments]
    try:
        from kimgnn.cli import main  # here, so that what imports say is in the log
        main()
    except SystemExit as left:
        status = left.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        sys.exit(status)
"""
"""Runs one command after the other, with the output and messages of each in files, until one fails."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, manifests, and what commands in a process of their own leave; Ctrl-C ends the last."""
    folder = tmp_path_factory.mktemp("user")
    for name, changes in {
        "manifest": {"training.epochs": 1, "export.model_name": NAME},
        "endless": {"training.epochs": 100_000, "model.name": "endless"},
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tiny_manifest(folder, changes)))
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, json.dumps(COMMANDS)], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("runs/endless_*/checkpoints/best.ckpt")):
            assert process.poll() is None, {path.name: path.read_text() for path in folder.glob("*.log")}
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        (folder / "status").write_text(str(process.wait(timeout=60)))
    finally:
        process.kill()
    return folder


@pytest.fixture
def run(folder: Path) -> Path:
    """The run directory."""
    (found,) = folder.glob("runs/tiny_*")
    return found


def test_help_does_not_wait_for_torch() -> None:
    """The help imports none of the packages that take seconds."""
    code = (
        "import sys; from kimgnn.cli import app; app(['--help'], standalone_mode=False); "
        "print(*{'torch', 'kliff', 'ase', 'numpy', 'lightning', 'loguru'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "validate" in done.stdout
    assert done.stderr.strip() == ""


def test_validate_and_train_leave_no_noise(folder: Path, run: Path) -> None:
    """Validation prints its summary and nothing else; training ends with the errors; no kliff.log is left."""
    assert "influence distance  7 Å" in (folder / "validate.txt").read_text()
    assert (folder / "validate.log").read_text() == ""
    assert "test" in (folder / "train.txt").read_text()
    said = (folder / "train.log").read_text()
    assert "Report: " in said
    assert "libdescriptor" not in said
    assert "Warning" not in said
    assert not (folder / "kliff.log").exists()
    assert (run / "checkpoints" / "best.ckpt").is_file()


def test_evaluate(kimgnn: Command, folder: Path, run: Path, tmp_path: Path) -> None:
    """Labels are found as the run's manifest finds them; the report is written where asked."""
    status, table, _ = kimgnn("evaluate", run, folder / "silicon.xyz", "--report", tmp_path / "report")
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())["given"]
    assert status == 0
    assert metrics["energy_count"] == 12
    assert f"{metrics['forces_mae']:.4g}" in table


def test_evaluate_without_labels(kimgnn: Command, run: Path, tmp_path: Path) -> None:
    """Structures without labels are an error, not an empty table."""
    ase.io.write(tmp_path / "bare.xyz", ase.Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]]), format="extxyz")
    status, output, messages = kimgnn("evaluate", run, tmp_path / "bare.xyz")
    assert (status, output) == (1, "")
    assert "no structure carries a label" in messages


def test_predict_gives_predictions_for_labels(kimgnn: Command, folder: Path, run: Path, tmp_path: Path) -> None:
    """Every frame is there, in order, with predictions and not the labels of the input, also with bad labels."""
    labelled = folder / "silicon.xyz"
    frames = silicon(2)
    for atoms in frames:
        atoms.calc.results["energy"] = np.nan
    ase.io.write(tmp_path / "bad_labels.xyz", frames, format="extxyz")
    status, output, messages = kimgnn(
        "predict", run, labelled, tmp_path / "bad_labels.xyz", "--output", tmp_path / "out.xyz"
    )
    assert (status, messages) == (0, "")
    assert output.startswith("14 structures")
    found = ase.io.read(tmp_path / "out.xyz", index=":", format="extxyz")
    given = ase.io.read(labelled, index=":")
    for atoms, before in zip(found, given, strict=False):
        np.testing.assert_allclose(atoms.positions, before.positions, atol=1e-8)
        assert abs(atoms.get_potential_energy() - before.get_potential_energy()) > 1e-6
    # The same structures, written by another program.
    assert [atoms.get_potential_energy() for atoms in found[12:]] == pytest.approx(
        [atoms.get_potential_energy() for atoms in found[:2]], abs=1e-6
    )


def test_predict_names_bad_files_and_keeps_the_others(kimgnn: Command, folder: Path, run: Path, tmp_path: Path) -> None:
    """Each file that cannot be used is named, the others are predicted, and the exit status says that some failed."""
    foreign = silicon(2)
    foreign[1].symbols[0] = "Ge"
    ase.io.write(tmp_path / "germanium.xyz", foreign, format="extxyz")
    (tmp_path / "empty.xyz").touch()
    good = folder / "silicon.xyz"
    bad = [tmp_path / name for name in ("germanium.xyz", "empty.xyz", "absent.xyz")]
    status, output, messages = kimgnn("predict", run, bad[0], good, *bad[1:], good, "--output", tmp_path / "out.xyz")
    assert status == 1
    assert output.startswith("24 structures")
    assert len(ase.io.read(tmp_path / "out.xyz", index=":", format="extxyz")) == 24
    assert "germanium.xyz:1: the structure has a species that the model was not trained on (got 'Ge')" in messages
    assert "empty.xyz: the file is empty" in messages
    assert "absent.xyz" in messages


def test_predict_never_overwrites_unasked(kimgnn: Command, folder: Path, run: Path, tmp_path: Path) -> None:
    """An output that is there stays, unless forced; it stays too if nothing could be predicted."""
    output = tmp_path / "out.xyz"
    output.write_text("precious")
    (tmp_path / "empty.xyz").touch()
    for arguments in ([folder / "silicon.xyz"], [tmp_path / "empty.xyz", "--force"]):
        assert kimgnn("predict", run, *arguments, "--output", output)[0] == 1
        assert output.read_text() == "precious"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.xyz", "out.xyz"]
    assert kimgnn("predict", run, folder / "silicon.xyz", "--output", output, "--force")[0] == 0


def test_export_takes_the_name_of_the_manifest(kimgnn: Command, run: Path, tmp_path: Path) -> None:
    """--name is another one; a folder that is there is replaced only by --force."""
    arguments = ("export", run, "--no-verify", "--directory", tmp_path)
    assert kimgnn(*arguments)[0] == 0
    assert (tmp_path / NAME / "model.pt").is_file()
    status, _, messages = kimgnn(*arguments)
    assert status == 1
    assert "exists already" in messages
    assert kimgnn(*arguments, "--force")[0] == 0
    other = NAME.replace("Tiny", "Other")
    status, output, _ = kimgnn(*arguments, "--name", other, "--driver", "torchml")
    assert status == 0
    assert "not compared with PyTorch: the TorchML driver is not kimgnn's" in output
    assert "TorchML" in (tmp_path / other / "CMakeLists.txt").read_text()


def test_export_with_tables(kimgnn: Command, run: Path, tmp_path: Path) -> None:
    """The error is told; too few intervals are refused; --no-tabulate overrules the manifest."""
    arguments = ("export", run, "--no-verify", "--directory", tmp_path, "--force")
    status, output, _ = kimgnn(*arguments, "--tabulate")
    assert status == 0
    told = next(line for line in output.splitlines() if line.startswith("tables: "))
    readme = tmp_path / NAME / "README.md"
    assert told.removeprefix("tables: ") in readme.read_text()
    status, _, messages = kimgnn(*arguments, "--intervals", 5)
    assert status == 1
    assert "with tables of 5 intervals, energy differs by" in messages
    trained = load_checkpoint(run)
    export = trained.manifest["export"] | {"tabulate": 500}
    save_checkpoint(tmp_path / "x.ckpt", replace(trained, manifest=trained.manifest | {"export": export}))
    again = ("export", tmp_path / "x.ckpt", *arguments[2:])
    assert "tables: splines of 500 intervals" in kimgnn(*again)[1]
    assert "tables: splines of 500 intervals" in kimgnn(*again, "--tabulate")[1]
    assert "tables: splines of 600 intervals" in kimgnn(*again, "--intervals", 600)[1]
    status, output, _ = kimgnn(*again, "--no-tabulate")
    assert status == 0
    assert "tables: " not in output
    assert "| tables |" not in readme.read_text()


def test_export_in_several_formats(kimgnn: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each --format is a KIM model of its own; without the option, the manifest says which."""
    written = {}
    for name, chosen in FORMATS.items():
        write = partial(lambda name, network, path, metadata: written.update({name: metadata}) or path.touch(), name)
        monkeypatch.setitem(FORMATS, name, replace(chosen, write=write))
    formats = ("--format", "pt2", "--format", "onnx")
    status, output, _ = kimgnn("export", run, "--no-verify", "--directory", tmp_path, *formats)
    assert status == 0
    assert written.keys() == {"pt2", "onnx"}
    assert (written["onnx"]["species"], written["onnx"]["cutoff"], written["onnx"]["layers"]) == ("Si", "3.5", "2")
    (onnx,) = tmp_path.glob("Tiny_Test_Si_onnx__MO_*")
    assert {path.name for path in tmp_path.iterdir()} == {NAME, onnx.name}
    assert "backend pt2\nmodel model.pt2\n" in (tmp_path / NAME / "kimgnn.param").read_text()
    assert "backend onnx\nmodel model.onnx\n" in (onnx / "kimgnn.param").read_text()
    assert "kimgnn_onnx__MD_" in (onnx / "CMakeLists.txt").read_text()
    assert "`model.onnx`" in (onnx / "README.md").read_text()
    assert output.splitlines()[1:] == [f"KIM portable model in {folder}" for folder in (tmp_path / NAME, onnx)]

    trained = load_checkpoint(run / "checkpoints" / "best.ckpt")
    export = trained.manifest["export"] | {"formats": ["onnx"], "model_name": NAME.replace("Tiny", "Other")}
    save_checkpoint(tmp_path / "x.ckpt", replace(trained, manifest=trained.manifest | {"export": export}))
    assert kimgnn("export", tmp_path / "x.ckpt", "--no-verify", "--directory", tmp_path)[0] == 0
    assert (tmp_path / NAME.replace("Tiny", "Other") / "model.onnx").is_file()

    status, _, messages = kimgnn("export", run, "--directory", tmp_path, "--format", "onxx")
    assert status == 1
    assert "Allowed: one or more of torchscript, onnx, pt2" in messages


def test_export_without_verification_says_what_it_skips(kimgnn: Command, run: Path, tmp_path: Path) -> None:
    """Runtimes, quantities and structures; the package has no table."""
    status, output, _ = kimgnn("export", run, "--no-verify", "--directory", tmp_path)
    assert status == 0
    said = output.splitlines()[0]
    assert said.startswith("--no-verify: not compared with PyTorch: energy, energies of atoms, forces and stress by")
    # Two structures of the test set, of two sizes.
    for phrase in ("model.pt", "Python", "ASE", "LAMMPS on 1 and 2 ranks", "7 structures (sample 1, sample 2, rattled"):
        assert phrase in said
    assert not (tmp_path / NAME / "parity.md").exists()


def test_export_that_is_refused(kimgnn: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1, no package, and the table beside its place."""
    monkeypatch.setattr("kimgnn.verify.gate.missing_tools", lambda: ["cmake"])
    right = FORMATS["torchscript"]

    def halve(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
        right.write(network, path, metadata)
        path.write_bytes(path.read_bytes()[:1000])

    monkeypatch.setitem(FORMATS, "torchscript", replace(right, write=halve))
    status, output, messages = kimgnn("export", run, "--directory", tmp_path, "--install")
    assert status == 1
    assert "KIM portable model" not in output
    assert "model.pt in Python, sample 1: not computed" in messages
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.parity.md"]


def test_export_without_a_name(kimgnn: Command, folder: Path, run: Path, tmp_path: Path) -> None:
    """The rule is told where neither the manifest nor the command names the model."""
    save_checkpoint(tmp_path / "x.ckpt", replace(load_checkpoint(run / "checkpoints" / "best.ckpt"), manifest={}))
    status, _, messages = kimgnn("export", tmp_path / "x.ckpt")
    assert status == 1
    assert "Give --name." in messages
    assert "__MO_<12 digits>" in messages


def test_bad_manifest_is_a_message(kimgnn: Command, tmp_path: Path) -> None:
    """A problem with the input is no traceback."""
    write_silicon(tmp_path / "silicon.xyz")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(tiny_manifest(tmp_path, {"training.epohcs": 3})))
    status, output, messages = kimgnn("validate", tmp_path / "m.yaml")
    assert (status, output) == (1, "")
    assert messages.startswith("ManifestError:\ntraining.epohcs: unknown key")
    assert "Traceback" not in messages


def test_folder_that_cannot_be_made(kimgnn: Command, folder: Path, tmp_path: Path) -> None:
    """The system's own error names the folder."""
    (tmp_path / "file").touch()
    manifest = tiny_manifest(folder)
    manifest["workspace"]["name"] = str(tmp_path / "file" / "runs")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    status, _, messages = kimgnn("train", tmp_path / "m.yaml")
    assert status == 1
    assert "file/runs: Not a directory" in messages


@pytest.mark.parametrize("found", [True, False])
def test_doctor(kimgnn: Command, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    """The exit status is 1 if anything is missing; JSON for programs."""
    checks = [Check("python", True, "3.11"), Check("lmp", found, "runs", "apt-get install lammps")]
    monkeypatch.setattr("kimgnn.doctor.examine", lambda: checks)
    status, output, _ = kimgnn("doctor", "--json")
    assert status == (0 if found else 1)
    assert json.loads(output)[1]["remedy"] == "apt-get install lammps"
    assert ("MISSING lmp" in kimgnn("doctor")[1]) is not found


def test_ctrl_c_leaves_a_checkpoint_and_the_command_that_goes_on(folder: Path) -> None:
    """Exit status 130, last.ckpt is there, and the message is the command that resumes the run."""
    messages = (folder / "endless.log").read_text()
    (run,) = folder.glob("runs/endless_*")
    assert (folder / "status").read_text() == "130"
    assert f"To go on: kimgnn train endless.yaml --resume {run}" in messages
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert "Traceback" not in messages
