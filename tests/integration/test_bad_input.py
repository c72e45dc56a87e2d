"""Bad input, as a user meets it: every message names the place, the value, what is allowed or what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from silicon_run import silicon, tiny_manifest

from kimgnn import cli

Edit = Callable[[list[Atoms]], None]


def drop_energy(frames: list[Atoms]) -> None:
    for atoms in frames:
        del atoms.calc.results["energy"]


def nan_energy(frames: list[Atoms]) -> None:
    frames[4].calc.results["energy"] = np.nan


def infinite_force(frames: list[Atoms]) -> None:
    frames[5].calc.results["forces"][3, 1] = np.inf


def no_element(frames: list[Atoms]) -> None:
    frames[5].symbols[2] = "X"


def germanium(frames: list[Atoms]) -> None:
    frames[5].symbols[2] = "Ge"


def one_place(frames: list[Atoms]) -> None:
    frames[5].positions[3] = frames[5].positions[2]


def nothing(frames: list[Atoms]) -> None:
    pass


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that fails with status 1, and return its messages."""
    monkeypatch.setattr(sys, "argv", ["kimgnn", *map(str, arguments)])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    return capsys.readouterr().err


CASES: dict[str, tuple[Edit, dict[str, Any], str]] = {
    "no energy": (drop_energy, {}, r"dataset\.keys\.energy: .*\(got 'energy'\).*training\.loss\.weights\.energy to 0"),
    "NaN": (nan_energy, {}, r"xyz:4 \(energy\): the energy is NaN.*got 'nan'.*Allowed: finite.*Remove"),
    "infinite": (
        infinite_force,
        {},
        r"xyz:5 \(forces\): the forces are NaN.*got 'inf, atom 3'.*Allowed: finite.*Remove",
    ),
    "no element": (no_element, {}, r"xyz:5: an atom is of no element \(got 'X, atom 2'\).*Allowed: .*Correct"),
    "absent species": (germanium, {}, r"xyz:5: .*\(got 'Ge'\)\. Allowed: Si\. Add it to transforms\.configuration"),
    "one place": (one_place, {}, r"xyz:5: two atoms are at one place \(got 'atoms 2 and 3.*Remove one"),
    "no cutoff": (
        nothing,
        {"transforms.configuration.kwargs.cutoff": 0.0},
        r"kwargs\.cutoff: must be a positive distance, in Å \(got 0\.0\)",
    ),
    "large batch": (nothing, {"training.batch_size": 7}, r"training\.batch_size: .*\(got 7\)\. Allowed: 1 to 6"),
    "no GPU": (
        nothing,
        {"training.accelerator": "cuda"},
        r"training\.accelerator: .*\(got 'cuda'\)\. Allowed: auto, cpu",
    ),
    "no file": (
        nothing,
        {"dataset.path": "sillicon.xyz"},
        r"dataset\.path: .*got 'sillicon\.xyz'.*mean 'silicon\.xyz'",
    ),
}


@pytest.mark.parametrize("command", ["validate", "train"])
@pytest.mark.parametrize(("edit", "changes", "message"), CASES.values(), ids=CASES)
def test_data_and_manifest(
    edit: Edit,
    changes: dict[str, Any],
    message: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Told before training, the same by ``validate`` and by ``train``; the data file is as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    frames = silicon(10)
    edit(frames)
    ase.io.write("silicon.xyz", frames, format="extxyz")
    Path("m.yaml").write_text(yaml.safe_dump(tiny_manifest(tmp_path, changes)))
    before = Path("silicon.xyz").read_bytes()
    text = said(monkeypatch, capsys, command, "m.yaml")
    assert "Traceback" not in text
    problem = text.splitlines()[-1]
    assert re.search(message, problem), problem
    assert Path("silicon.xyz").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"silicon\.xyz: the file is empty\. Write it again"),
        ("these are not atoms\n", r"silicon\.xyz: cannot be read: XYZError"),
        ("1\n\nQq 0 0 0\n", r"silicon\.xyz: there is no such chemical element \(got 'Qq'\)\. Correct"),
    ],
)
def test_files(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable file is named with the reason."""
    manifest = tiny_manifest(tmp_path)
    (tmp_path / "silicon.xyz").write_text(content)
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    assert re.search(message, said(monkeypatch, capsys, "validate", tmp_path / "m.yaml"))
