"""The formulas of the floor are what torch counts where the code does no more than they say."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def floor():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield runpy.run_path(str(FOLDER / "floor.py"))


def test_products_of_energy_and_forces(floor):
    """Products of matrices in SchNet's energy and forces, counted as they are done, are the formula's to the last one.

    It has the head besides, half as wide as the network; and forces need no derivative of the first layer's product of
    the embedding, which knows no position.
    """
    call, _, _ = floor["energies"]("double")["MD, periodic"]
    atoms, channels = 64, 128
    edges = floor["periodic_edges"](floor["silicon"](floor["np"].random.default_rng(0)), 4.0)
    layer = floor["Layer"](atoms, atoms, edges, edges // 2)
    parts = floor["schnet_layer"](layer, channels, 50, table=False)
    del parts["messages"]  # no products of matrices
    head = 2 * atoms * (channels * channels // 2 + channels // 2)
    embedding = atoms * channels * channels
    expected = 3 * floor["total"](parts, "energy and forces") + head - embedding
    assert floor["counted"](call).madds == expected


def test_ghosts_cost_what_layers_reach(floor):
    """With ghosts, the last layer works on the atoms alone, and each one before it on more."""
    layers = floor["staged"](floor["silicon"](floor["np"].random.default_rng(0)), 4.0, 3)
    assert layers[-1].receivers == 64
    assert [layer.senders for layer in layers[1:]] == [layer.receivers for layer in layers[:-1]]
    assert layers[0].senders > layers[0].receivers > layers[1].receivers > 64


def test_tables_are_cheaper_at_the_distance(floor):
    """A filter from a table costs six rows of its channels, whatever the number of Gaussians."""
    layer = floor["Layer"](0, 0, 0, 10)
    assert floor["schnet_layer"](layer, 128, 50, table=True)["table"] == 10 * 6 * 128
    assert sum(floor["schnet_layer"](layer, 128, 50, table=False).values()) == 10 * (50 + 128) * 128
