"""What stands beside ours as the same network is the same function, and learns with the same loss."""

import runpy
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[3] / "benchmarks"
CUTOFF = 4.0
ROUNDING = 1e-12  # of sums of a thousand terms, of the largest result
TABLES = 1e-6  # of the loss, whose forces are a spline's: training.tabulate


@pytest.fixture(scope="module")
def peers():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield runpy.run_path(str(FOLDER / "peer_networks.py"))


@pytest.fixture(scope="module")
def cells(peers):
    return peers["cells"](2)


def test_the_same_function(peers, cells):
    """Energies and forces of PyG's network with our weights are ours; peers.py checks SchNetPack's when it runs."""
    graph = peers["batch_of"](cells, CUTOFF)
    ours, theirs = (peers[one]("double", cells, CUTOFF).eval()(graph) for one in ("Ours", "PyG"))
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(other, one, rtol=0, atol=ROUNDING * float(one.detach().abs().max()))


def test_the_same_steps(peers, cells):
    """Losses of three steps are the same: of the peer, and of ours with tables."""
    graph = peers["batch_of"](cells, CUTOFF)
    losses = {}
    for name in ("Ours", "WithTables", "PyG"):
        step = peers["step_of"](peers[name]("double", cells, CUTOFF).train(), graph)
        losses[name] = [step() for _ in range(3)]
    assert losses["Ours"][2] < losses["Ours"][0]
    assert losses["PyG"] == pytest.approx(losses["Ours"], rel=1e-9)  # of steps that divide by the root of gradients
    assert losses["WithTables"] == pytest.approx(losses["Ours"], rel=TABLES)
    assert losses["WithTables"] != losses["Ours"]
