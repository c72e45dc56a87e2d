"""Tables and compiled steps, where a manifest asks for them."""

from __future__ import annotations

import sys

import pytest

from kimgnn.errors import TrainingError
from kimgnn.models.build import build_network
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.training.losses import Loss
from kimgnn.training.quick_steps import quick_steps

HEAD = {"type": "energy", "reference_energies": {"Si": -1.0}, "scale": 1.0}
LOSS = Loss("mse", weights={"energy": 1.0, "forces": 10.0})
BOTH = {"tabulate": True, "compile": True, "batch_size": 2}


def potential(members: int = 1) -> Potential:
    options = {"cutoff": 5.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 1, "num_gaussians": 8}
    return Potential(build_network(NetworkSpec("schnet", options, [HEAD], ["Si"], members=members)))


def test_what_is_asked_for() -> None:
    assert quick_steps(potential(), LOSS, {"tabulate": False, "compile": False, "batch_size": 1}) == (None, None)
    assert None not in quick_steps(potential(), LOSS, BOTH)


def test_networks_of_an_ensemble_are_trained_one_by_one() -> None:
    ensemble = potential(members=2)
    assert isinstance(ensemble.network, Ensemble)
    assert quick_steps(ensemble, LOSS, BOTH) == (None, None)


def test_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inner parts may be elsewhere; trainings without compiled steps do not look for them."""
    monkeypatch.setitem(sys.modules, "kimgnn.training.compiled_step", None)
    tables, compiled = quick_steps(potential(), LOSS, BOTH | {"compile": False})
    assert tables is not None
    assert compiled is None
    with pytest.raises(TrainingError, match=r"training\.compile: does not work with torch"):
        quick_steps(potential(), LOSS, BOTH)
