"""Training speed of kimgnn's CGCNN against the same network written with PyG's CGConv and its DataLoader.

    python benchmarks/cgcnn_vs_pyg.py ../shared/data/crystals/perov_5_train.csv.gz

Both train the same weights on the same batches in the same order, in turn, epoch by epoch; the losses are printed
beside one another. PyG's graphs hold expanded distances, as its examples do; neither side pays for making graphs. Both
have the optimizer of a training here, and the memory that it keeps. On a machine that others use too, the ratio of the
processor's time is the one to read; with one thread it is that of the clock, undisturbed.
"""

import argparse
import time
from copy import deepcopy

import numpy as np
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as PyGLoader
from torch_geometric.nn import CGConv, global_mean_pool

from kimgnn.data.sources import read_configurations
from kimgnn.data.targets import TargetSpec
from kimgnn.fields import COORDS, EDGE_INDEX, SHIFTS, Z
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.training.data_module import GraphDataModule, GraphDataset
from kimgnn.training.head_losses import head_losses
from kimgnn.training.lightning_run import keep_freed_memory
from kimgnn.training.losses import Loss
from kimgnn.training.module import make_optimizer
from kimgnn.transforms.crystal_graph import CrystalGraph

CUTOFF, HIDDEN, CONVOLUTIONS = 8.0, 64, 3


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
        self.mlp = deepcopy(ours.heads["heat_all"].mlp)

    def forward(self, data: Data) -> torch.Tensor:
        x = self.embedding(data.z)
        for convolution in self.convolutions:
            x = convolution(x, data.edge_index, data.edge_attr)
        return self.mlp(global_mean_pool(x, data.batch))


def pyg_graph(graph, basis) -> Data:
    sender, receiver = graph[EDGE_INDEX]
    vectors = graph[COORDS][receiver] - graph[COORDS][sender] + graph[SHIFTS]
    distances = torch.linalg.vector_norm(vectors, dim=1).float()
    return Data(
        z=graph[Z], edge_index=graph[EDGE_INDEX], edge_attr=basis(distances), y=graph["target_heat_all"].float()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="perov_5_train.csv.gz, or another table with a column heat_all")
    parser.add_argument("--structures", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    dataset = {"type": "table", "path": arguments.table, "slices": f"0:{arguments.structures}"}
    configurations = read_configurations(dataset, targets=[TargetSpec("heat_all", "number")])
    transform = CrystalGraph(CUTOFF, 12)

    torch.manual_seed(0)
    head = {"type": "property", "target": "heat_all", "reference": "none", "mean": [0.0], "spread": [1.0]}
    options = {"cutoff": CUTOFF, "hidden_channels": HIDDEN, "num_convolutions": CONVOLUTIONS, "normalization": "none"}
    species = sorted({symbol for item in configurations for symbol in item.species})
    network = build_network(NetworkSpec("cgcnn", options, [head], species, "single"))
    theirs = PyGNetwork(network)
    ours = Potential(network)
    loss = Loss(weights={}, heads=head_losses(network.heads))

    module = GraphDataModule(GraphDataset(configurations, transform), None, None, arguments.batch_size, 0, seed=0)
    loader = module.train_dataloader()
    pyg_graphs = [pyg_graph(transform(item), network.trunk.basis) for item in configurations]

    def our_step(batch) -> torch.Tensor:
        return loss.terms(ours(batch), batch).mean()

    def their_step(batch) -> torch.Tensor:
        return nn.functional.mse_loss(theirs(batch), batch.y)

    sides = {"kimgnn": (ours, our_step, []), "PyG": (theirs, their_step, [])}
    adam = {"name": "Adam", "learning_rate": 1e-3, "kwargs": {}}
    optimizers = {name: make_optimizer(adam, model.parameters()) for name, (model, _, _) in sides.items()}
    keep_freed_memory()
    print(f"{len(configurations)} structures, batches of {arguments.batch_size}, {torch.get_num_threads()} threads")
    print(
        f"{'epoch':>6}"
        + "".join(f"{name + ' structures/s':>22}{'loss':>12}" for name in sides)
        + f"{'ratio':>8}{'CPU':>8}"
    )
    for epoch in range(arguments.epochs):
        loader.sampler.set_epoch(epoch)
        order = list(loader.sampler)
        line = f"{epoch:6}"
        for name, (model, step, speeds) in sides.items():
            batches = loader if name == "kimgnn" else PyGLoader(pyg_graphs, arguments.batch_size, sampler=order)
            model.train()
            total, start, begun = 0.0, time.perf_counter(), time.process_time()
            for batch in batches:
                optimizers[name].zero_grad()
                value = step(batch)
                value.backward()
                optimizers[name].step()
                total += value.item()
            speeds.append((time.perf_counter() - start, time.process_time() - begun))
            line += f"{len(configurations) / speeds[-1][0]:22.0f}{total / len(batches):12.6f}"
        ratios = np.array(sides["PyG"][2]) / np.array(sides["kimgnn"][2])
        print(f"{line}{ratios[-1, 0]:8.2f}{ratios[-1, 1]:8.2f}", flush=True)
    for clock, values in zip(("clock", "CPU time"), ratios.T, strict=True):
        print(f"median ratio by {clock} {np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})")


if __name__ == "__main__":
    main()
