"""Ensembles and calibration in a manifest: what is taken, and what is told at once."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest

PLAIN: dict[str, Any] = {
    "dataset": {"type": "ase", "path": "data.xyz"},
    "transforms": {"configuration": {"kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
    "model": {"architecture": "cgcnn", "heads": [{"type": "property", "target": "gap"}]},
    "training": {"validation_dataset": {"val_size": 20}},
}
GRAPH = {"configuration": {"name": "CrystalGraph", "kwargs": {"cutoff": 4.0, "species": ["Si"]}}}


def manifest(model: dict[str, Any], training: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a manifest with changed blocks."""
    changed = deepcopy(PLAIN) | {"transforms": GRAPH}
    changed["model"] |= model
    changed["training"] |= training or {}
    return changed


def problems(model: dict[str, Any], training: dict[str, Any] | None = None, model_given: bool = False) -> list[str]:
    """Return what is wrong."""
    with pytest.raises(ManifestError) as told:
        load_manifest(manifest(model, training), model_given)
    return [str(problem) for problem in told.value.problems]


def test_nothing_is_asked_for_by_default() -> None:
    plain = load_manifest(manifest({})).to_dict()["model"]
    assert plain["ensemble"] == 1
    assert plain["uncertainty"] is None


def test_an_ensemble_needs_no_more_than_its_size() -> None:
    plain = load_manifest(manifest({"ensemble": 5})).to_dict()["model"]
    assert plain["ensemble"] == 5


def test_the_block_is_filled() -> None:
    given = {"options": {"dropout": 0.1}, "uncertainty": {"dropout_samples": 30}}
    plain = load_manifest(manifest(given)).to_dict()["model"]
    assert plain["uncertainty"] == {"dropout_samples": 30, "calibration": None, "level": 0.9}


GAP = {"type": "property", "target": "gap"}


@pytest.mark.parametrize("place", ["head", "option", "composition"])
def test_dropout_may_be_anywhere_in_the_network(place: str) -> None:
    model: dict[str, Any] = {"uncertainty": {"dropout_samples": 10}}
    if place == "head":
        model["heads"] = [{"type": "property", "target": "gap", "dropout": 0.1}]
    elif place == "option":
        model["options"] = {"dropout": 0.1}
    else:
        model["composition"] = {"features": "fractions", "dropout": 0.1}
    load_manifest(manifest(model))


@pytest.mark.parametrize(
    ("model", "training", "told"),
    [
        ({"ensemble": 0}, None, "model.ensemble"),
        ({"ensemble": True}, None, "model.ensemble"),
        ({"uncertainty": {"dropout_samples": 1}}, None, "0 for none, or 2 or more"),
        ({"uncertainty": {"dropout_samples": 10}}, None, "the network has no dropout"),
        (
            {"composition": {"fusion": "late", "dropout": 0.5}, "uncertainty": {"dropout_samples": 10}},
            None,
            "the network has no dropout",
        ),
        (
            {"heads": [GAP | {"dropout": 0.1, "num_hidden_layers": 0}], "uncertainty": {"dropout_samples": 10}},
            None,
            "the network has no dropout",
        ),
        (
            {"heads": [GAP | {"dropout": 0.1}, {"type": "energy"}], "uncertainty": {"dropout_samples": 10}},
            None,
            "model.heads.1.dropout: is 0, so that samples of this head would all be the same",
        ),
        ({"ensemble": 2, "uncertainty": {"dropout_samples": 10}}, None, "Keep one of them"),
        ({"uncertainty": {"level": 0.8}}, None, "nothing to calibrate"),
        ({"ensemble": 2, "uncertainty": {"level": 1.0}}, None, "model.uncertainty.level"),
        ({"ensemble": 2, "uncertainty": {"calibration": "isotonic"}}, None, "model.uncertainty.calibration"),
        (
            {"ensemble": 2, "uncertainty": {"calibration": "conformal"}},
            {"validation_dataset": {}},
            "model.uncertainty.calibration: is fitted on validation data, of which there are none",
        ),
        ({"ensemble": 2}, {"strategy": "ddp"}, "training.strategy"),
    ],
)
def test_what_does_not_go_together_is_told(model: dict[str, Any], training: dict[str, Any] | None, told: str) -> None:
    assert any(told in problem for problem in problems(model, training))


@pytest.mark.parametrize("given", [{"ensemble": 2}, {"uncertainty": {}}])
def test_a_module_is_one_network(given: dict[str, Any]) -> None:
    model = {"architecture": None, "heads": None, "input_args": ["z", "coords", "shifts", "edge_index0"]} | given
    (problem,) = problems(model, model_given=True)
    assert problem.startswith(f"model.{next(iter(given))}")


def test_an_ensemble_is_fine_without_validation_where_nobody_asks_for_intervals() -> None:
    load_manifest(manifest({"ensemble": 2}, {"validation_dataset": {}}))
