"""Checkpoints give back the same network, and say what is wrong with a file."""

import pytest
import torch

from kimgnn.errors import ModelError
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec

SPEC = NetworkSpec(
    "schnet",
    {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 6},
    [{"type": "energy", "reference_energies": {"Si": -4.6}, "scale": 0.7}],
    ["Si"],
    "single",
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(build_network(SPEC), {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}, {"workspace": {}})


def test_round_trip(checkpoint: Checkpoint, tmp_path):
    """Weights, precision and description survive; scale and reference energies stay float64."""
    save_checkpoint(tmp_path / "a.ckpt", checkpoint)
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert loaded.spec == SPEC
    assert loaded.transform == checkpoint.transform
    for name, value in checkpoint.network.state_dict().items():
        other = loaded.network.state_dict()[name]
        assert other.dtype == value.dtype
        torch.testing.assert_close(other, value, rtol=0, atol=0)
    assert loaded.network.heads["energy"].scale.dtype == torch.float64
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_damaged_foreign_and_newer_files_are_named(checkpoint: Checkpoint, tmp_path):
    """Each bad file is an error that names it and says what to do."""
    path = tmp_path / "a.ckpt"
    with pytest.raises(ModelError, match="no such checkpoint"):
        load_checkpoint(path)
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"a\.ckpt: the file is damaged"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ModelError, match="not written by kimgnn"):
        load_checkpoint(path)
    torch.save({"kimgnn": {"format": FORMAT + 1}}, path)
    with pytest.raises(ModelError, match="newer kimgnn"):
        load_checkpoint(path)
