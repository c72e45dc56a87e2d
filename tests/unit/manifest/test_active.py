"""The `active` block: what goes together, and that training takes no notice of it."""

from __future__ import annotations

from typing import Any

import pytest

from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest
from kimgnn.manifest.trial import with_values

BASE: dict[str, Any] = {
    "dataset": {"type": "ase", "path": "data.xyz"},
    "transforms": {"configuration": {"kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
    "model": {"architecture": "schnet", "ensemble": 3, "heads": [{"type": "energy"}]},
    "active": {
        "explore": {"md": {"temperatures": [300, 900.0]}, "strain": {}, "rattle": {"size": 0.2}},
        "label": {"calculator": "ase.calculators.emt.EMT"},
    },
}


def test_a_block_is_read_and_training_does_not_see_it() -> None:
    manifest = load_manifest(BASE)
    assert manifest.active.explore.md is not None
    assert manifest.active.explore.md.temperatures == [300.0, 900.0]
    assert list(manifest.to_dict()) == ["workspace", "dataset", "transforms", "model", "training", "export"]


def test_without_a_block_nothing_is_asked_of_the_others() -> None:
    single = with_values(BASE, {"model.ensemble": 1})
    single.pop("active")
    assert load_manifest(single).active.label.calculator is None


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("active.explore", {}, r"active\.explore: names no way to explore\. Allowed: md, strain, rattle"),
        ("active.explore.md.every", 1000, r"active\.explore\.md\.every: is more than the steps"),
        ("active.explore.md.temperatures", [], r"temperatures: is no list of temperatures"),
        ("active.explore.md.engine", "gromacs", r"engine: unknown value .*Allowed: 'ase', 'lammps'"),
        ("active.explore.md.step", 3, r"active\.explore\.md\.step: unknown key.*Did you mean 'steps'"),
        ("active.explore.strain.size", 2.0, r"active\.explore\.strain\.size: "),
        ("active.guards.distance", 1.5, r"active\.guards\.distance: "),
        ("active.label", {}, r"active\.label: needs one of two\. Allowed: calculator, folder"),
        ("active.label.folder", "dft", r"active\.label: needs one of two"),
        ("active.label", {"folder": "dft", "on_error": "skip"}, r"arguments and on_error belong to a calculator"),
        ("active.label.calculator", "EMT", r"active\.label\.calculator: is no dotted name"),
        ("active.rounds", 0, r"active\.rounds: "),
        ("active.baseline", "best", r"active\.baseline: unknown value"),
        ("model.ensemble", 1, r"model\.ensemble: active learning needs a committee .*Allowed: 2 or more"),
        (
            "model.heads",
            [{"type": "energy"}, {"type": "property", "target": "gap"}],
            r"needs an energy head, and no other",
        ),
        ("dataset.weights", "weights.dat", r"dataset\.weights: is a file with a row for each structure"),
    ],
)
def test_what_does_not_go_together(place: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        load_manifest(with_values(BASE, {place: value}))
