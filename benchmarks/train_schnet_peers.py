"""A step of training SchNet on energies and forces: ours beside PyTorch Geometric's and SchNetPack's.

    python benchmarks/train_schnet_peers.py --cutoff 5.0

Same network with the same weights, same structures in the same batch, same loss, one process: the losses at the first
step are printed. A step is the loss, its gradient and Adam's step; neighbours are found beforehand, for all alike.
PyG's `SchNet` and SchNetPack's representation are theirs, untouched; PyG has no forces, which are autograd's derivative
of its energy. "tables" is `training.tabulate`. PyG keeps its Gaussians in float32: its losses differ in the eighth
digit. On a busy machine, `--clock cpu` counts the processor's time, with one thread.

SchNetPack is no dependency of this project: it asks for numpy 2, which KLIFF does not run with. In an environment of
its own that sees this one's packages, `pip install --no-deps schnetpack`, and what it then misses, the same way, is
enough for its networks. Where it is not there, a row says so.
"""

from __future__ import annotations

import importlib
import sys
import time
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import dataloader

from harness import Results, arguments_of, bars, in_turn, installed, median, spread
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.training.lightning_run import keep_freed_memory
from kimgnn.training.losses import Loss
from kimgnn.training.module import make_optimizer
from kimgnn.training.tables import StepTables
from kimgnn.transforms.collate import collate
from kimgnn.transforms.periodic_graph import PeriodicGraph
from made_up import silicon

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WEIGHTS = {"energy": 1.0, "forces": 10.0}
COLUMNS = {"step": "s", "batch": "d", "loss": ".8g", "ms": ".2f", "spread %": ".0f", "times ours": ".2f",
           "times tables": ".2f"}  # fmt: skip


def batch_of(size: int, cutoff: float) -> Any:
    """Return rattled 64-atom cells as one batch."""
    random, transform = np.random.default_rng(0), PeriodicGraph(cutoff, ["Si"])
    frames = [silicon(random) for _ in range(size)]
    keys = {"energy": "energy_label", "forces": "force_label"}
    return collate([transform(configuration_from_atoms(atoms, keys)) for atoms in frames])


def ours(cutoff: float, precision: str) -> Potential:
    """Return SchNet with 128 channels, three interactions and 50 Gaussians."""
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    return Potential(build_network(NetworkSpec("schnet", {"cutoff": cutoff}, [head], ["Si"], precision))).train()


def copy_weights(pairs: list[tuple[Any, Any]]) -> None:
    """Give the second of each pair the weights of the first."""
    with torch.no_grad():
        for source, target in pairs:
            target.weight.copy_(source.weight[: len(target.weight)])
            if getattr(target, "bias", None) is not None:
                target.bias.copy_(source.bias)


class PyG(nn.Module):
    """PyG's SchNet, given the edges: its own search needs another package."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        from torch_geometric.nn import SchNet

        trunk, head = potential.network.trunk, potential.network.heads["energy"]
        dtype = trunk.embedding.weight.dtype
        options = trunk.options
        self.network = SchNet(
            options.hidden_channels, options.num_filters, options.num_interactions, options.num_gaussians,
            options.cutoff, interaction_graph=lambda pos, batch: (self.edges, self.distances),
        ).to(dtype)  # fmt: skip
        pairs = [(trunk.embedding, self.network.embedding)]
        for a, b in zip(trunk.interactions, self.network.interactions, strict=True):
            pairs += [(a.filter[0], b.mlp[0]), (a.filter[2], b.mlp[2]), (a.to_filters, b.conv.lin1)]
            pairs += [(a.update[0], b.conv.lin2), (a.update[2], b.lin)]
        pairs += [(head.mlp[0], self.network.lin1), (head.mlp[2], self.network.lin2)]
        copy_weights(pairs)
        self.dtype = dtype

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        coords = graph.coords.requires_grad_()
        self.edges = graph.edge_index0
        vectors = coords[self.edges[1]] - coords[self.edges[0]] + graph.shifts
        self.distances = vectors.norm(dim=1).to(self.dtype)
        energy = self.network(graph.z, coords, graph.batch).squeeze(1)
        (gradient,) = torch.autograd.grad(energy.sum(), coords, create_graph=True)
        return energy, -gradient


class SchNetPack(nn.Module):
    """SchNetPack's SchNet with its own module of forces."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        schnetpack = import_schnetpack()
        trunk, head = potential.network.trunk, potential.network.heads["energy"]
        options, self.dtype = trunk.options, trunk.embedding.weight.dtype
        softplus = schnetpack.nn.activations.shifted_softplus
        representation = schnetpack.representation.SchNet(
            n_atom_basis=options.hidden_channels,
            n_interactions=options.num_interactions,
            radial_basis=schnetpack.nn.GaussianRBF(options.num_gaussians, options.cutoff),
            cutoff_fn=schnetpack.nn.CosineCutoff(options.cutoff),
            n_filters=options.num_filters,
            activation=softplus,
        )
        atomwise = schnetpack.atomistic.Atomwise(options.hidden_channels, output_key="energy", activation=softplus)
        self.network = schnetpack.model.NeuralNetworkPotential(
            representation,
            input_modules=[schnetpack.atomistic.PairwiseDistances()],
            output_modules=[atomwise, schnetpack.atomistic.Forces()],
        ).to(self.dtype)
        pairs = [(trunk.embedding, representation.embedding)]
        for a, b in zip(trunk.interactions, representation.interactions, strict=True):
            pairs += [(a.filter[0], b.filter_network[0]), (a.filter[2], b.filter_network[1]), (a.to_filters, b.in2f)]
            pairs += [(a.update[0], b.f2out[0]), (a.update[2], b.f2out[1])]
        pairs += [(head.mlp[0], atomwise.outnet[0]), (head.mlp[2], atomwise.outnet[1])]
        copy_weights(pairs)

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        sender, receiver = graph.edge_index0
        found = self.network({
            "_atomic_numbers": graph.z, "_positions": graph.coords.detach().to(self.dtype).requires_grad_(),
            "_idx_i": receiver, "_idx_j": sender, "_offsets": -graph.shifts.to(self.dtype), "_idx_m": graph.batch,
            "_n_atoms": torch.bincount(graph.batch), "_cell": graph.cell.view(-1, 3, 3).to(self.dtype),
        })  # fmt: skip
        return found["energy"], found["forces"]


def import_schnetpack() -> types.ModuleType:
    """Return SchNetPack, which imports a name of torch's that newer ones do not have."""
    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = TypeVar("T_co", covariant=True)
    for part in ("nn.activations", "representation", "atomistic", "model"):
        importlib.import_module(f"schnetpack.{part}")
    return sys.modules["schnetpack"]


def our_step(potential: Potential, graph: Any, tabulate: bool) -> Callable[[], float]:
    """Return a function that takes a step of ours, and returns the loss before it."""
    parameters = list(potential.parameters())
    optimizer = make_optimizer({"name": "Adam", "learning_rate": 1e-4, "kwargs": {}}, iter(parameters))
    tables, loss_of = StepTables(potential.network), Loss(weights=WEIGHTS)

    def step() -> float:
        optimizer.zero_grad()
        if tabulate:
            with tables.in_place():
                predicted = potential(graph, stress=False)
        else:
            predicted = potential(graph, stress=False)
        loss = loss_of.terms(predicted, graph).mean()
        loss.backward(inputs=parameters)
        optimizer.step()
        return loss.item()

    return step


def their_step(model: nn.Module, graph: Any) -> Callable[[], float]:
    """Return the same for a peer."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        energy, forces = model(graph)
        loss = (energy - graph.energy).square().mean() + 10.0 * (forces - graph.forces).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--cutoff", type=float, default=5.0, help="Å")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precisions", nargs="+", choices=["double", "single"], default=["double", "single"])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    versions = {name: installed(name) for name in ("torch_geometric", "schnetpack")}
    title = f"A training step of SchNet with forces, 64-atom Si, {options.cutoff} Å, three interactions, 128 channels"
    results = Results("train_schnet_peers", title, COLUMNS)
    for precision in options.precisions:
        for size in options.batch_sizes:
            graph, network = batch_of(size, options.cutoff), ours(options.cutoff, precision)
            steps = {
                "kimgnn": our_step(network, graph, tabulate=False),
                "kimgnn, tables": our_step(ours(options.cutoff, precision), graph, tabulate=True),
                f"PyG {versions['torch_geometric']}": their_step(PyG(network), graph),
            }
            if versions["schnetpack"]:
                steps[f"SchNetPack {versions['schnetpack']}"] = their_step(SchNetPack(network), graph)
            losses = {name: step() for name, step in steps.items()}
            worst = max(abs(loss / losses["kimgnn"] - 1) for loss in losses.values())
            if not worst < 1e-5:
                raise RuntimeError(f"not the same network: losses {losses}")
            times = in_turn(steps, options.rounds, clock=CLOCKS[options.clock])
            for name, seconds in times.items():
                results.add(
                    step=f"{name}, {precision}", batch=size, loss=losses[name], ms=1e3 * median(seconds),
                    **{"spread %": spread(seconds), "times ours": median(seconds / times["kimgnn"]),
                       "times tables": median(seconds / times["kimgnn, tables"]), "seconds": seconds.tolist()},
                )  # fmt: skip
    if not versions["schnetpack"]:
        results.add(step="SchNetPack: not installed, not measured")

    def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
        bars(
            figure.subplots(),
            [row | {"step": f"{row['step']}, batch {row.get('batch')}"} for row in rows],
            "step",
            "ms",
        )

    results.write(options.output, draw)


if __name__ == "__main__":
    main()
