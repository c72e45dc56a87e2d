"""A committee of silicon for all tests of active learning: untrained networks, which differ as trained ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec

CUTOFF = 4.0
OPTIONS = {"cutoff": CUTOFF, "hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 8}
HEAD = {"type": "energy", "reference_energies": {"Si": -4.0}, "scale": 1.0}


@pytest.fixture(scope="session")
def committee() -> Checkpoint:
    """Three networks."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec("schnet", OPTIONS, [HEAD], ["Si"], members=3)).eval()
    return Checkpoint(network, {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF, "species": ["Si"]}}, {})


@pytest.fixture(scope="session")
def run(committee: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the committee."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    save_checkpoint(folder / "checkpoints" / "best.ckpt", committee)
    return folder
