"""Training of kimgnn's CGCNN beside the same network written with PyG's CGConv and its DataLoader.

    python benchmarks/cgcnn_vs_pyg.py ../shared/data/crystals/perov_5_train.csv.gz

Both train the same weights on the same batches in the same order, in turn, epoch by epoch; a step is an epoch's time
over its batches, loading included. PyG's graphs hold expanded distances, as its examples do; neither side pays for
making graphs. Both have the optimizer of a training here, and the memory that it keeps. Without a table, the structures
are made-up perovskites whose atoms are off their sites: no two edges are equal, which is where ours gains the least.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.io import write
from loguru import logger
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as PyGLoader
from torch_geometric.nn import CGConv, global_mean_pool

from harness import BESIDE, CLOCKS, Results, arguments_of, bars_beside, in_child, in_turn, with_clock
from kimgnn.data.sources import read_configurations
from kimgnn.data.targets import TargetSpec
from kimgnn.fields import COORDS, EDGE_INDEX, SHIFTS, Z
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.training.data_module import EpochSampler, GraphDataModule, GraphDataset
from kimgnn.training.head_losses import head_losses
from kimgnn.training.lightning_run import keep_freed_memory
from kimgnn.training.losses import Loss
from kimgnn.training.module import make_optimizer
from kimgnn.transforms.crystal_graph import CrystalGraph
from made_up import perovskite

CUTOFF, NEIGHBORS, HIDDEN, CONVOLUTIONS = 8.0, 12, 64, 3
OURS, THEIRS = "kimgnn CGCNN", "PyG CGConv"

Epoch = Callable[[], float]
"""Trains on every batch once, in the order of the next epoch, and returns the mean of the losses."""


class PyGNetwork(nn.Module):
    """CGCNN as PyG's users write it, with the weights of ours."""

    def __init__(self, ours: Network) -> None:
        super().__init__()
        trunk = ours.trunk
        self.embedding = deepcopy(trunk.elements)
        self.convolutions = nn.ModuleList(
            CGConv(HIDDEN, trunk.basis.centres.numel(), aggr="add") for _ in trunk.convolutions
        )
        with torch.no_grad():
            for theirs, own in zip(self.convolutions, trunk.convolutions, strict=True):
                whole = torch.cat([own.of_receiver.weight, own.of_sender.weight, own.of_distance.weight], dim=1)
                for layer, part in ((theirs.lin_f, slice(0, HIDDEN)), (theirs.lin_s, slice(HIDDEN, None))):
                    layer.weight.copy_(whole[part])
                    layer.bias.copy_(own.of_receiver.bias[part])
        (head,) = ours.heads.values()
        self.mlp = deepcopy(head.mlp)

    def forward(self, data: Data) -> torch.Tensor:
        x = self.embedding(data.z)
        for convolution in self.convolutions:
            x = convolution(x, data.edge_index, data.edge_attr)
        return self.mlp(global_mean_pool(x, data.batch))


def pyg_graph(graph, basis, target: str) -> Data:
    sender, receiver = graph[EDGE_INDEX]
    vectors = graph[COORDS][receiver] - graph[COORDS][sender] + graph[SHIFTS]
    distances = torch.linalg.vector_norm(vectors, dim=1).float()
    return Data(
        z=graph[Z], edge_index=graph[EDGE_INDEX], edge_attr=basis(distances), y=graph[f"target_{target}"].float()
    )


def read(table: Path | None, structures: int) -> tuple[list[Any], str]:
    """Return structures, of a table or made up, and the name of what is learned."""
    if table is not None:
        dataset, target = {"type": "table", "path": str(table), "slices": f"0:{structures}"}, "heat_all"
        return read_configurations(dataset, targets=[TargetSpec(target, "number")]), target
    random = np.random.default_rng(0)
    made = [perovskite(random) for _ in range(structures)]
    for atoms in made:
        atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "perovskites.extxyz"
        write(path, made)
        dataset = {"type": "ase", "path": str(path), "keys": {"energy": None, "forces": None}}
        return read_configurations(dataset, targets=[TargetSpec("heat", "number")]), "heat"


def network_of(configurations: list[Any], target: str) -> Network:
    """Return CGCNN, the same weights each time."""
    torch.manual_seed(0)
    head = {"type": "property", "target": target, "reference": "none", "mean": [0.0], "spread": [1.0]}
    options = {"cutoff": CUTOFF, "hidden_channels": HIDDEN, "num_convolutions": CONVOLUTIONS, "normalization": "none"}
    species = sorted({symbol for item in configurations for symbol in item.species})
    return build_network(NetworkSpec("cgcnn", options, [head], species, "single"))


def our_epoch(configurations: list[Any], target: str, batch_size: int) -> Epoch:
    ours = Potential(network_of(configurations, target))
    loss = Loss(weights={}, heads=head_losses(ours.network.heads))
    graphs = GraphDataset(configurations, CrystalGraph(CUTOFF, NEIGHBORS))
    loader = GraphDataModule(graphs, None, None, batch_size, 0, seed=0).train_dataloader()
    return epochs(ours, loader, loader.sampler, lambda batch: loss.terms(ours(batch), batch).mean())


def their_epoch(configurations: list[Any], target: str, batch_size: int) -> Epoch:
    network, transform = network_of(configurations, target), CrystalGraph(CUTOFF, NEIGHBORS)
    graphs = [pyg_graph(transform(item), network.trunk.basis, target) for item in configurations]
    theirs, sampler = PyGNetwork(network), EpochSampler(len(graphs), seed=0)
    loader = PyGLoader(graphs, batch_size, sampler=sampler)
    return epochs(theirs, loader, sampler, lambda batch: nn.functional.mse_loss(theirs(batch), batch.y))


SIDES = {OURS: our_epoch, THEIRS: their_epoch}


def epochs(model: nn.Module, loader: Iterable[Any], sampler: EpochSampler, loss_of: Callable[[Any], Tensor]) -> Epoch:
    optimizer = make_optimizer({"name": "Adam", "learning_rate": 1e-3, "kwargs": {}}, model.parameters())
    numbers = count()
    model.train()

    def epoch() -> float:
        sampler.set_epoch(next(numbers))
        losses = []
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    return epoch


def quietly() -> None:
    """Do without messages, and keep freed memory as a training does."""
    logger.remove()
    warnings.simplefilter("ignore")
    keep_freed_memory()


def one_epoch(name: str, table: Path | None, structures: int, batch_size: int) -> None:
    """Train for the memory that it takes."""
    quietly()
    SIDES[name](*read(table, structures), batch_size)()


def measure(results: Results, table: Path | None, structures: int, batch_size: int, rounds: int, clock: str) -> None:
    """Add the rows."""
    configurations, target = read(table, structures)
    sides = {name: make(configurations, target, batch_size) for name, make in SIDES.items()}
    losses = {name: epoch() for name, epoch in sides.items()}
    off = abs(losses[THEIRS] / losses[OURS] - 1)
    print(f"{'perovskites made up' if table is None else table.name}: "
          f"losses of the first epoch differ by {off:.0e} of {losses[OURS]:.6f}")  # fmt: skip
    if not off < 1e-3:  # what single precision makes of an epoch's steps
        raise SystemExit("not the same network: its time says nothing")
    times = in_turn(sides, rounds, clock=CLOCKS[clock])
    memory = {name: in_child(one_epoch, name, table, structures, batch_size)[1] for name in sides}
    steps = math.ceil(len(configurations) / batch_size)
    results.add_beside(times, memory, calls=steps, what="property step", precision="single", batch=batch_size)


def main() -> None:
    parser = with_clock(arguments_of(__doc__))
    parser.add_argument("table", type=Path, nargs="?", help="perov_5_train.csv.gz, or another with a column heat_all")
    parser.add_argument("--structures", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    quietly()
    results = Results("cgcnn_vs_pyg", "A step of training CGCNN beside PyG's CGConv, the same network", BESIDE)
    measure(results, options.table, options.structures, options.batch_size, options.rounds, options.clock)
    results.write(options.output, bars_beside)


if __name__ == "__main__":
    main()
