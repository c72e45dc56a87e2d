"""Training that begins with the weights of an earlier one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kimgnn.errors import TrainingError
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.training.initial_weights import take_up

OPTIONS = {"cutoff": 4.0, "hidden_channels": 4, "num_filters": 4, "num_interactions": 1, "num_gaussians": 4}
SPEC = NetworkSpec("schnet", OPTIONS, [{"type": "energy", "reference_energies": {"Si": -4.0}, "scale": 2.0}], ["Si"])
ANEW = replace(SPEC, heads=[{"type": "energy", "reference_energies": {"Si": -3.0}, "scale": 1.0}])
"""What another training set would be fitted by."""


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """A single network and an ensemble of two."""
    torch.manual_seed(0)
    for name, members in (("single", 1), ("ensemble", 2)):
        network = build_network(replace(SPEC, members=members))
        save_checkpoint(tmp_path / f"{name}.ckpt", Checkpoint(network, {}, {}))
    return {name: str(tmp_path / f"{name}.ckpt") for name in ("single", "ensemble", "nothing")}


def test_weights_and_what_heads_were_fitted_to(paths: dict[str, str]) -> None:
    network = take_up(paths["single"], ANEW)
    assert network.spec == SPEC
    whole = take_up(paths["ensemble"], replace(ANEW, members=2))
    for member in (0, 1):
        of_one = take_up(paths["ensemble"], ANEW, member)
        assert of_one.spec == SPEC
        torch.testing.assert_close(of_one.state_dict(), whole.members[member].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("path", "spec", "member", "message"),
    [
        ("nothing", ANEW, 0, "no such checkpoint"),
        ("single", replace(ANEW, options=OPTIONS | {"hidden_channels": 8}), 0, "another options"),
        ("single", replace(ANEW, species=["Si", "C"]), 0, "another species"),
        ("single", replace(ANEW, members=2), 0, "another members"),
        ("single", replace(ANEW, heads=[]), 0, "another heads"),
        ("single", replace(ANEW, heads=[ANEW.heads[0] | {"hidden_channels": 64}]), 0, "another heads"),
        ("ensemble", ANEW, 2, "too few members"),
        ("ensemble", replace(ANEW, members=3), 0, "another members"),
    ],
)
def test_other_networks(path: str, spec: NetworkSpec, member: int, message: str, paths: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match=rf"training\.initial_weights: .*{message}"):
        take_up(paths[path], spec, member)
