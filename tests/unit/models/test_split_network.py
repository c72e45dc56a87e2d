"""Heads with last layers of their own: what is shared, what is not, and that it can be kept and exported."""

from pathlib import Path

import pytest
import torch
from ase.build import bulk

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ModelError
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS = {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 3, "num_gaussians": 10}
HEADS = [
    {"type": "energy", "reference_energies": "none", "scale": 1.0},
    {"type": "property", "target": "gap", "reference": "none", "mean": [0.0], "spread": [1.0]},
]


def make_network(depth: int, **options: object):
    torch.manual_seed(0)
    return build_network(NetworkSpec("schnet", OPTIONS | options, HEADS, ["Si"], split_depth=depth))


def outputs_of(network):
    graph = PeriodicGraph(4.0)(configuration_from_atoms(bulk("Si")))
    return Potential(network).eval()(graph)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_only_the_last_layers_are_a_heads_own(depth: int) -> None:
    """A change of one head's last layers moves that head alone; one of a shared layer moves both."""
    network = make_network(depth)
    before = outputs_of(network)
    with torch.no_grad():
        network.trunks["gap"].layers()[3 - depth].update[0].weight += 1.0
    own = outputs_of(network)
    assert torch.equal(own["energy"], before["energy"])
    assert not torch.equal(own["gap"], before["gap"])
    with torch.no_grad():
        network.trunks["gap"].embedding.weight += 1.0
    shared = outputs_of(network)
    assert not torch.equal(shared["energy"], own["energy"])
    n_layer = sum(p.numel() for p in network.trunk.layers()[0].parameters())
    n_whole = sum(p.numel() for p in make_network(0).parameters())
    assert sum(p.numel() for p in network.parameters()) == n_whole + depth * n_layer


def test_it_is_kept_and_cut(tmp_path: Path) -> None:
    """A checkpoint gives the same outputs; a copy with one head has that head's layers."""
    network = make_network(1).eval()
    with torch.no_grad():
        network.trunks["gap"].layers()[2].update[0].weight += 1.0
    expected = outputs_of(network)
    save_checkpoint(tmp_path / "net.ckpt", Checkpoint(network, {}, {}))
    again = load_checkpoint(tmp_path / "net.ckpt").network
    for name in ("energy", "forces", "gap"):
        assert torch.equal(outputs_of(again)[name], expected[name])
    alone = outputs_of(network.with_heads(lambda name: name == "gap"))
    assert torch.equal(alone["gap"], expected["gap"])
    assert "energy" not in alone


def test_layers_that_are_not_there_are_told() -> None:
    """More layers than the network has, or one layer that is applied three times, cannot be divided."""
    with pytest.raises(ModelError, match="split_depth"):
        make_network(4)
    with pytest.raises(ModelError, match="weights of their own"):
        make_network(1, shared_interactions=True)
