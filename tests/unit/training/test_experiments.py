"""What makes a training the same as one that is done already, and how it is measured."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kimgnn.errors import TrainingError
from kimgnn.manifest import load_manifest
from kimgnn.training.experiments import Member, _what_is_read, read_results, row_of
from kimgnn.training.measured_training import _peak_memory

MANIFEST: dict[str, Any] = {
    "dataset": {"type": "ase", "path": "a.xyz"},
    "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 3.5}}},
    "model": {"architecture": "schnet", "options": {"hidden_channels": 8}},
    "training": {"test_dataset": {"test_size": 2}},
}


def key(**changes: Any) -> str:
    manifest = deepcopy(MANIFEST)
    for path, value in changes.items():
        *parents, last = path.split("__")
        block = manifest
        for name in parents:
            block = block.setdefault(name, {})
        block[last] = value
    return Member("label", load_manifest(manifest).to_dict()).key


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace__seed": 3},
        {"workspace__name": "elsewhere"},
        {"dataset__path": "/data/b.xyz"},
        {"dataset__cache": True},
        {"model__name": "other"},
        {"training__test_dataset": {"test_size": 0.5}},
        {"training__ckpt_interval": 7},
        {"export__formats": ["onnx"]},
    ],
)
def test_names_paths_and_splits_make_no_other_training(changes: dict[str, Any]) -> None:
    """Seeds and splits are compared by themselves, data by content."""
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"model__options__hidden_channels": 16},
        {"model__precision": "single"},
        {"training__epochs": 3},
        {"training__optimizer__learning_rate": 1e-4},
        {"training__max_time": "00:00:01:00"},
        {"dataset__weights": {"energy": 2.0, "forces": 1.0}},
    ],
)
def test_all_else_does(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_an_option_that_kimgnn_learns_later_makes_no_other_training() -> None:
    """As long as its default is to do nothing."""
    manifest = load_manifest(MANIFEST).to_dict()
    later = deepcopy(manifest)
    later["model"]["something"] = None
    assert Member("a", later).key == Member("a", manifest).key


def test_state_inputs_are_read_too() -> None:
    """Who lacks one of them may be left out."""
    manifest = load_manifest(MANIFEST).to_dict()
    states = deepcopy(manifest)
    states["model"]["options"]["state_inputs"] = [{"name": "temperature"}]
    assert _what_is_read(Member("a", states)) != _what_is_read(Member("a", manifest))


def test_peak_memory_is_a_peak() -> None:
    before = _peak_memory()
    ballast = np.empty(int((before + 200) * 2**20), dtype=np.uint8)
    ballast[::4096] = 1  # a page is taken when it is written to
    del ballast
    assert _peak_memory() > before + 150


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("", "[]", "{}", "3"):
        path.write_text(text)
        with pytest.raises(TrainingError, match=r"results\.json: cannot be read as results of kimgnn"):
            read_results(path)
    path.write_text(json.dumps({"version": 2}))
    with pytest.raises(TrainingError, match=r"has results in another form \(got 2\)"):
        read_results(path)


def test_a_failure_has_a_row_without_numbers() -> None:
    row = row_of("a", {"seed": 1, "error": "it broke"})
    assert row.error == "it broke"
    assert not row.metrics
    assert np.isnan(row.seconds)
