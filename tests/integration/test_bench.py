"""`kimgnn bench precision` with real trainings, tiny ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from silicon_run import tiny_manifest

from kimgnn.cli import experiments as command
from kimgnn.training.experiments import Experiment, Job
from kimgnn.training.measured_training import train_once

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Train in this process, which does not begin with importing torch, and return the manifests."""
    trained: list[dict[str, Any]] = []

    def train(experiment: Experiment, job: Job) -> dict[str, Any]:
        trained.append(job.manifest)
        return json.loads(json.dumps(train_once(job.manifest, job.structures)))

    monkeypatch.setattr(command, "_train", train)
    return trained


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_manifest(folder, changes), sort_keys=False))
    return path


def test_bench_precision(kimgnn: Command, here: list[dict[str, Any]], tmp_path: Path) -> None:
    """The same network, weights and batches in each; what cannot be measured here is said."""
    manifest = written(tmp_path, **{"training.early_stopping": {"patience": 1}, "training.epochs": 100})
    status, output, messages = kimgnn("bench", "precision", manifest, "--epochs", 2, "--output", tmp_path / "out")
    assert status == 0, messages
    assert [item["training"]["mixed_precision"] for item in here] == [None, "bf16"]
    assert {item["model"]["precision"] for item in here} == {"single"}
    assert {item["training"]["epochs"] for item in here} == {2}
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    table = {(line[0], line[1]): line[2:] for line in lines}
    assert float(table["bf16", "cpu"][1]) > 0
    assert table["fp16", "cpu"][0] == table["bf16", "cuda"][0] == "–"
    assert "fp16 on cpu: not measured: float16 is not trained with on a CPU" in output
    written_rows = json.loads((tmp_path / "out" / "precision.json").read_text())["rows"]
    single, half, *rest = written_rows
    assert (single["precision"], half["precision"]) == ("float32", "bf16")
    assert single["seconds_per_step"] > 0
    assert half["peak_mib"] > 100
    assert single["metrics"]["forces_mae"] != half["metrics"]["forces_mae"]
    assert single["metrics"]["forces_mae"] == pytest.approx(half["metrics"]["forces_mae"], rel=0.05)
    if not torch.cuda.is_available():
        reasons = {(row["precision"], row["device"]): row["not_measured"] for row in rest}
        assert [reasons[name, "cuda"] for name in ("float32", "bf16", "fp16")] == ["no CUDA device"] * 3


def test_a_manifest_without_a_test_set_is_refused(kimgnn: Command, tmp_path: Path) -> None:
    status, _, messages = kimgnn("bench", "precision", written(tmp_path, **{"training.test_dataset": None}))
    assert status != 0
    assert "keeps no structures to compare networks on" in messages


def test_float16_on_a_cpu_is_refused_in_training(kimgnn: Command, tmp_path: Path) -> None:
    changes = {"training.mixed_precision": "fp16", "model.precision": "single"}
    status, _, messages = kimgnn("train", written(tmp_path, **changes))
    assert status != 0
    assert "training.mixed_precision: float16 needs a CUDA device" in messages
