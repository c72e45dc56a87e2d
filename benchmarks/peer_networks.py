"""Potentials of other packages, called as ours are: `Module(precision, structures, cutoff)(batch)` -> energies, forces.

PyG's SchNet and SchNetPack's are the same network as ours, with the same weights. MACE (two layers of 64 scalars and
vectors, correlation 3) and MatGL's M3GNet (as it comes, three-body terms within 4 Å) are others, of their usual sizes.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn
from torch.utils.data import dataloader

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.physics.potential import Potential
from kimgnn.training.losses import Loss
from kimgnn.training.module import make_optimizer
from kimgnn.training.tables import StepTables
from kimgnn.transforms.collate import collate
from kimgnn.transforms.periodic_graph import PeriodicGraph
from made_up import schnet, silicon

DTYPES = {"double": torch.float64, "single": torch.float32}
WEIGHTS = {"energy": 1.0, "forces": 10.0}


def cells(size: int) -> list[Atoms]:
    """Return so many rattled 64-atom cells of silicon."""
    random = np.random.default_rng(0)
    return [silicon(random) for _ in range(size)]


def batch_of(structures: Sequence[Atoms], cutoff: float) -> Any:
    """Return them as one batch, with edges."""
    transform, keys = PeriodicGraph(cutoff, ["Si"]), {"energy": "energy_label", "forces": "force_label"}
    return collate([transform(configuration_from_atoms(atoms, keys)) for atoms in structures])


class Ours(nn.Module):
    """Ours; in training steps, with tables or without."""

    tabulate = False

    def __init__(self, precision: str, structures: Sequence[Atoms], cutoff: float) -> None:
        super().__init__()
        self.potential = Potential(schnet(cutoff, precision))

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        found = self.potential(graph, stress=False)
        return found["energy"], found["forces"]


class WithTables(Ours):
    """Ours with `training.tabulate`."""

    tabulate = True


class PyG(nn.Module):
    """PyG's SchNet, given the edges (its own search needs another package), with autograd's forces: it has none."""

    def __init__(self, precision: str, structures: Sequence[Atoms], cutoff: float) -> None:
        super().__init__()
        from torch_geometric.nn import SchNet
        from torch_geometric.nn.models.schnet import ShiftedSoftplus

        network = schnet(cutoff, precision)
        trunk, head, options = network.trunk, network.heads["energy"], network.trunk.options
        self.dtype = DTYPES[precision]
        self.network = SchNet(
            options.hidden_channels, options.num_filters, options.num_interactions, options.num_gaussians, cutoff,
            interaction_graph=lambda positions, batch: (self.edges, self.distances),
        ).to(self.dtype)  # fmt: skip
        centres = gaussians(cutoff, options.num_gaussians)
        self.network.distance_expansion.offset.copy_(centres)
        self.network.distance_expansion.coeff = -0.5 / float(centres[1]) ** 2
        for module in self.network.modules():
            if isinstance(module, ShiftedSoftplus):
                module.shift = math.log(2.0)
        pairs = [(trunk.embedding, self.network.embedding)]
        for a, b in zip(trunk.interactions, self.network.interactions, strict=True):
            pairs += [(a.filter[0], b.mlp[0]), (a.filter[2], b.mlp[2]), (a.to_filters, b.conv.lin1)]
            pairs += [(a.update[0], b.conv.lin2), (a.update[2], b.lin)]
        copy_weights([*pairs, (head.mlp[0], self.network.lin1), (head.mlp[2], self.network.lin2)])

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        coords = graph.coords.detach().requires_grad_()
        self.edges = graph.edge_index0
        vectors = coords[self.edges[1]] - coords[self.edges[0]] + graph.shifts
        self.distances = vectors.norm(dim=1).to(self.dtype)
        energy = self.network(graph.z, coords, graph.batch).squeeze(1)
        (gradient,) = torch.autograd.grad(energy.sum(), coords, create_graph=self.training)
        return energy, -gradient


class SchNetPack(nn.Module):
    """SchNetPack's SchNet with its own module of forces."""

    def __init__(self, precision: str, structures: Sequence[Atoms], cutoff: float) -> None:
        super().__init__()
        schnetpack = import_schnetpack()
        network = schnet(cutoff, precision)
        trunk, head, options = network.trunk, network.heads["energy"], network.trunk.options
        self.dtype = DTYPES[precision]
        softplus = schnetpack.nn.activations.shifted_softplus
        representation = schnetpack.representation.SchNet(
            n_atom_basis=options.hidden_channels,
            n_interactions=options.num_interactions,
            radial_basis=schnetpack.nn.GaussianRBF(options.num_gaussians, cutoff),
            cutoff_fn=schnetpack.nn.CosineCutoff(cutoff),
            n_filters=options.num_filters,
            activation=softplus,
        )
        atomwise = schnetpack.atomistic.Atomwise(options.hidden_channels, output_key="energy", activation=softplus)
        self.network = schnetpack.model.NeuralNetworkPotential(
            representation,
            input_modules=[schnetpack.atomistic.PairwiseDistances()],
            output_modules=[atomwise, schnetpack.atomistic.Forces()],
        ).to(self.dtype)
        centres = gaussians(cutoff, options.num_gaussians)
        representation.radial_basis.offsets.copy_(centres)
        representation.radial_basis.widths.fill_(float(centres[1]))
        pairs = [(trunk.embedding, representation.embedding)]
        for a, b in zip(trunk.interactions, representation.interactions, strict=True):
            pairs += [(a.filter[0], b.filter_network[0]), (a.filter[2], b.filter_network[1]), (a.to_filters, b.in2f)]
            pairs += [(a.update[0], b.f2out[0]), (a.update[2], b.f2out[1])]
        copy_weights([*pairs, (head.mlp[0], atomwise.outnet[0]), (head.mlp[2], atomwise.outnet[1])])

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces."""
        sender, receiver = graph.edge_index0
        found = self.network({
            "_atomic_numbers": graph.z, "_positions": graph.coords.detach().to(self.dtype).requires_grad_(),
            "_idx_i": receiver, "_idx_j": sender, "_offsets": -graph.shifts.to(self.dtype), "_idx_m": graph.batch,
            "_n_atoms": torch.bincount(graph.batch), "_cell": graph.cell.view(-1, 3, 3).to(self.dtype),
        })  # fmt: skip
        return found["energy"], found["forces"]


class MACE(nn.Module):
    """MACE: two layers, 64 scalars and vectors, products of three."""

    def __init__(self, precision: str, structures: Sequence[Atoms], cutoff: float) -> None:
        super().__init__()
        from mace import data, modules, tools
        from mace.tools import torch_geometric

        # isort: split
        from e3nn import o3  # after MACE, which lets it read its own pickled constants

        torch.set_default_dtype(DTYPES[precision])  # of its data
        try:
            table = tools.AtomicNumberTable([14])
            graphs = [data.AtomicData.from_config(data.config_from_atoms(atoms), table, cutoff) for atoms in structures]
            self.batch = next(iter(torch_geometric.dataloader.DataLoader(graphs, len(graphs)))).to_dict()
            block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
            self.network = modules.ScaleShiftMACE(
                r_max=cutoff, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, interaction_cls_first=block,
                interaction_cls=block, num_interactions=2, num_elements=1, hidden_irreps=o3.Irreps("64x0e + 64x1o"),
                MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(1), avg_num_neighbors=28.0,
                atomic_numbers=[14], correlation=3, gate=nn.functional.silu, atomic_inter_scale=1.0,
                atomic_inter_shift=0.0,
            )  # fmt: skip
        finally:
            torch.set_default_dtype(torch.float32)

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces of its own batch of the same structures."""
        found = self.network(self.batch, training=self.training)
        return found["energy"], found["forces"]


class M3GNet(nn.Module):
    """MatGL's M3GNet."""

    def __init__(self, precision: str, structures: Sequence[Atoms], cutoff: float) -> None:
        super().__init__()
        from matgl.apps.pes import Potential as MatGLPotential
        from matgl.ext.pymatgen import Structure2Graph
        from matgl.models import M3GNet as Network
        from pymatgen.io.ase import AseAtomsAdaptor
        from torch_geometric.data import Batch

        network = Network(element_types=("Si",), is_intensive=False, cutoff=cutoff)
        self.network = MatGLPotential(network, calc_stresses=False).to(DTYPES[precision])
        convert = Structure2Graph(("Si",), cutoff)
        made = [convert.get_graph(AseAtomsAdaptor.get_structure(atoms)) for atoms in structures]
        self.batch = Batch.from_data_list([graph for graph, _, _ in made])
        self.lattice = torch.cat([lattice for _, lattice, _ in made])
        self.states = torch.zeros(len(made), 2, dtype=DTYPES[precision])

    def forward(self, graph: Any) -> tuple[Tensor, Tensor]:
        """Return energies and forces of its own batch of the same structures."""
        energy, forces, *_ = self.network(self.batch, self.lattice, self.states)
        return energy.reshape(-1), forces


def gaussians(cutoff: float, count: int) -> Tensor:
    """Return their centres as ours has them: both peers make constants in single precision."""
    return torch.linspace(0.0, cutoff, count, dtype=torch.float64)


def copy_weights(pairs: list[tuple[Any, Any]]) -> None:
    """Give the second of each pair the weights of the first."""
    with torch.no_grad():
        for source, target in pairs:
            target.weight.copy_(source.weight[: len(target.weight)])
            if getattr(target, "bias", None) is not None:
                target.bias.copy_(source.bias)


def import_schnetpack() -> types.ModuleType:
    """Return SchNetPack, which imports a name of torch's that newer ones do not have."""
    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = TypeVar("T_co", covariant=True)
    for part in ("nn.activations", "representation", "atomistic", "model"):
        importlib.import_module(f"schnetpack.{part}")
    return sys.modules["schnetpack"]


def step_of(module: nn.Module, graph: Any) -> Callable[[], float]:
    """Return a function that takes a training step, and returns the loss before it."""
    return our_step(module.potential, graph, module.tabulate) if isinstance(module, Ours) else their_step(module, graph)


def our_step(potential: Potential, graph: Any, tabulate: bool) -> Callable[[], float]:
    """Return a function that takes a step as our trainer does."""
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
    """Return a function that takes a step with the same loss."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        energy, forces = model(graph)
        loss = WEIGHTS["energy"] * (energy - graph.energy).square().mean()
        loss = loss + WEIGHTS["forces"] * (forces - graph.forces).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
