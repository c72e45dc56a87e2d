"""The search space of a manifest: what is told at once, and what trials are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest
from kimgnn.manifest.trial import read_for_tuning, with_values

BASE: dict[str, Any] = {
    "dataset": {"type": "ase", "path": "data.xyz"},
    "transforms": {"configuration": {"kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
    "model": {"architecture": "schnet", "heads": [{"type": "energy"}]},
    "training": {"validation_dataset": {"val_size": 2}},
}
CHANNELS = {"model.options.hidden_channels": {"type": "int", "low": 4, "high": 16}}


def written(folder: Path, tuning: dict[str, Any], **blocks: Any) -> Path:
    """Return a manifest's file with a tuning block."""
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(BASE | blocks | {"tuning": tuning}))
    return path


def problems(folder: Path, tuning: dict[str, Any], **blocks: Any) -> list[str]:
    """Return what is wrong with a manifest."""
    with pytest.raises(ManifestError) as told:
        read_for_tuning(written(folder, tuning, **blocks))
    return [str(problem) for problem in told.value.problems]


def test_training_gets_six_blocks_without_tuning(tmp_path: Path) -> None:
    plain = load_manifest(written(tmp_path, {"space": CHANNELS})).to_dict()
    assert list(plain) == ["workspace", "dataset", "transforms", "model", "training", "export"]


def test_a_space_of_every_kind_is_taken(tmp_path: Path) -> None:
    space = CHANNELS | {
        "training.optimizer.learning_rate": {"type": "float", "low": "1e-4", "high": 1e-2, "log": True},
        "training.optimizer.lr_scheduler": {
            "type": "categorical", "choices": [None, {"name": "ExponentialLR", "args": {"gamma": 0.9}}],
        },
        "training.batch_size": {"type": "categorical", "choices": [1, 2]},
        "model.heads.0.hidden_channels": {"type": "categorical", "choices": [8, 16]},
        "transforms.configuration.kwargs.cutoff": {"type": "float", "low": 3.0, "high": 5.0, "step": 0.5},
    }  # fmt: skip
    manifest, base = read_for_tuning(written(tmp_path, {"space": space, "trials": 3}))
    assert manifest.tuning.trials == 3
    assert base == BASE


@pytest.mark.parametrize(
    ("place", "parameter", "message"),
    [
        ("model.options.hiden_channels", {"type": "int", "low": 4, "high": 8}, "Did you mean 'hidden_channels'"),
        ("model.options.hidden_channels", {"type": "int", "low": -4, "high": 8}, "(got -4)"),
        ("model.options.hidden_channels", {"type": "float", "low": 4.5, "high": 8.5}, "must be a whole number"),
        ("model.options.hidden_channels", {"type": "int", "low": 8, "high": 4}, "high: is below low, 8 (got 4)"),
        ("model.options.hidden_channels", {"type": "int", "low": 4}, "high: is missing"),
        ("model.options.hidden_channels", {"type": "int", "low": 4.5, "high": 8}, "low: must be a whole number"),
        ("model.options.hidden_channels", {"type": "int", "low": 0, "high": 8, "log": True}, "above 0 with log"),
        ("model.options.hidden_channels", {"type": "int", "low": 1, "high": 8, "step": 2, "log": True}, "step: does"),
        ("model.options.hidden_channels", {"type": "categorical", "choices": []}, "one or more different"),
        ("model.options.hidden_channels", {"type": "categorical", "choices": [8, 8]}, "one or more different"),
        ("model.options.hidden_channels", {"type": "categorical", "choices": [8], "low": 1}, "is for numbers"),
        (
            "model.options.hidden_channels",
            {"type": "int", "low": 1, "high": 2, "choices": [1]},
            "for type: categorical",
        ),
        ("model.options.hidden_channels", {"type": "integer", "low": 1, "high": 2}, "type: unknown value"),
        ("model.architecture", {"type": "categorical", "choices": ["schnet", "schnett"]}, "Did you mean 'schnet'"),
        ("training.batch_size", {"type": "int", "low": 0, "high": 4}, "(got 0)"),
        ("training.batch_size.small", {"type": "int", "low": 1, "high": 4}, "training.batch_size"),
        ("model.heads.3.activation", {"type": "categorical", "choices": ["tanh"]}, "there is no '3'"),
        ("model.architecture.depth", {"type": "int", "low": 1, "high": 2}, "leads nowhere"),
        ("tuning.trials", {"type": "int", "low": 1, "high": 2}, "is no part of a training"),
        # The cutoff is written in the transform: the architecture's follows.
        ("model.options.cutoff", {"type": "float", "low": 3.0, "high": 4.0}, "Give the cutoff once"),
    ],
)
def test_a_bad_place_or_value_is_told_by_its_dotted_path(
    tmp_path: Path, place: str, parameter: dict[str, Any], message: str
) -> None:
    (told,) = problems(tmp_path, {"space": {place: parameter}})
    assert told.startswith(f"tuning.space.{place}")
    assert message in told


def test_what_else_is_told_at_once(tmp_path: Path) -> None:
    assert "tuning.space: is missing" in problems(tmp_path, {})[0]
    assert "tuning.trials" in problems(tmp_path, {"space": CHANNELS, "trials": 0})[0]
    assert "tuning.timeout: is not a duration" in problems(tmp_path, {"space": CHANNELS, "timeout": "1h"})[0]
    (told,) = problems(tmp_path, {"space": CHANNELS}, training={})
    assert told.startswith("training.validation_dataset: is empty")


def test_values_are_set_beside_what_is_there_and_the_base_stays() -> None:
    values = {"model.options.cutoff": 5.0, "model.heads.0.activation": "tanh", "training.epochs": 3}
    changed = with_values(BASE, values)
    assert changed["model"] == {
        "architecture": "schnet", "options": {"cutoff": 5.0}, "heads": [{"type": "energy", "activation": "tanh"}],
    }  # fmt: skip
    assert changed["training"] == {"validation_dataset": {"val_size": 2}, "epochs": 3}
    assert "options" not in BASE["model"]


def test_paths_found_beside_the_manifest_stay_found_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").touch()
    _, base = read_for_tuning(written(tmp_path, {"space": CHANNELS}))
    assert base["dataset"] == {"type": "ase", "path": str(tmp_path / "data.xyz")}
