"""What a network says of a batch of graphs: energies, their derivatives, and the outputs of its other heads."""

from collections.abc import Sequence
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kimgnn.errors import DataError, ModelError
from kimgnn.fields import (
    ATOMIC_ENERGIES,
    CELL,
    CONTRIBUTIONS,
    COORDS,
    DISTINCT_COPIES,
    DISTINCT_EDGES,
    DISTINCT_OF_LENGTH,
    EDGE_INDEX,
    EDGE_OF_PAIR,
    ENERGY,
    ENERGY_DEVIATION,
    FORCES,
    FORCES_DEVIATION,
    IMAGES,
    LENGTH_OF_DISTINCT,
    PAIR_OF_EDGE,
    SHIFTS,
    STRESS,
    STRESS_DEVIATION,
    TRIPLETS,
    Z,
    target_field,
)
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.derivatives import forces_from_edges, gradient, strain_derivative, stress_from_strain

DEVIATIONS: Final = {FORCES: FORCES_DEVIATION, STRESS: STRESS_DEVIATION}
"""Of what the members of an ensemble say."""


def graph_of_node(graph: Any) -> Tensor:
    """Return the index in the batch of each node's graph, ``(n_nodes,)`` int64 (KLIFF's ``contributions`` hold it)."""
    return torch.div(graph[CONTRIBUTIONS], 2, rounding_mode="floor")


def states_of(graph: Any, names: Sequence[str]) -> Tensor | None:
    """Return what a batch says of states, ``(n_graphs, n_states)`` float64, which are read as targets are.

    Raises:
        DataError: Its structures were not given one of them.
    """
    if not names:
        return None
    for name in names:
        if target_field(name) not in graph:
            raise DataError("the structures have no such value, which the network needs", where=name)
    return torch.cat([graph[target_field(name)] for name in names], dim=1)


class EdgeNetwork(Protocol):
    """What `Potential` needs of a network: the part of `kimgnn.models.network.Network` that physics sees."""

    num_layers: int
    heads: nn.ModuleDict
    state_inputs: tuple[str, ...]
    merges_edges: bool

    def __call__(self, inputs: GraphInputs) -> dict[str, Tensor]:
        """Return what each head says: ``energy`` are atomic energies, ``(n_nodes,)`` float64, eV."""


@runtime_checkable
class SeveralNetworks(Protocol):
    """What it needs of an ensemble besides: see `kimgnn.models.ensemble.Ensemble`."""

    def each(self, inputs: GraphInputs) -> list[dict[str, Tensor]]:
        """Return what each member says."""

    def join(self, said: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what they say together; of energies also ``energy_members``, ``(n_members, n_nodes)``."""


class Potential(nn.Module):
    """Energies, forces and stress of periodic graphs by a network in the edge-vector contract, and its other heads.

    Args:
        network: A `kimgnn.models.network.Network`; without an energy head, there are only the outputs of the others.
    """

    def __init__(self, network: EdgeNetwork) -> None:
        super().__init__()
        self.network = network
        self.has_energy = ENERGY in network.heads

    def forward(self, graph: Any, forces: bool = True, stress: bool = True) -> dict[str, Tensor]:
        """Return the predictions for a batch of ``n_graphs`` graphs with ``n_atoms`` atoms.

        Args:
            graph: An `AtomGraph` or a PyG batch of them.
            forces: Compute ``forces``.
            stress: Compute ``stress``.

        Returns:
            ``energy`` ``(n_graphs,)`` eV, ``atomic_energies`` ``(n_atoms,)`` eV and, if asked, ``forces``
            ``(n_atoms, 3)`` eV/Å and ``stress`` ``(n_graphs, 6)`` eV/Å³; the output of each other head under its name.
            Of an ensemble, standard deviations of its members: ``energy_deviation`` ``(n_graphs,)`` and, with what they
            are of, ``forces_deviation`` ``(n_atoms, 3)`` and ``stress_deviation`` ``(n_graphs, 6)``. All float64.
        """
        coords, edge_index = graph[COORDS], graph[EDGE_INDEX]
        n_nodes, n_edges = coords.shape[0], edge_index.shape[1]
        cell = graph[CELL].view(-1, 3, 3)
        derive = (forces or stress) and self.has_energy
        with torch.set_grad_enabled(torch.is_grad_enabled() or derive):
            shifts = graph[SHIFTS]
            merged = not derive and self.network.merges_edges and DISTINCT_EDGES in graph
            if merged:  # a derivative tells edges of one length apart
                edge_index = edge_index.index_select(1, graph[DISTINCT_EDGES])
                shifts = shifts.index_select(0, graph[DISTINCT_EDGES])
                n_edges = edge_index.shape[1]
            sender, receiver = edge_index[0], edge_index[1]
            vectors = coords.index_select(0, receiver) - coords.index_select(0, sender) + shifts
            vectors.requires_grad_(derive)
            layers = self.network.num_layers
            pairs, triplets, copies = None, None, None
            if EDGE_OF_PAIR in graph:
                pairs = (graph[EDGE_OF_PAIR], graph[PAIR_OF_EDGE], [graph[EDGE_OF_PAIR].shape[0]] * layers)
            if merged:
                copies, of_length = graph[DISTINCT_COPIES], graph[DISTINCT_OF_LENGTH]
                pairs = (of_length, graph[LENGTH_OF_DISTINCT], [of_length.shape[0]] * layers)
            if TRIPLETS in graph:
                first, second = graph[TRIPLETS]
                triplets = (first, second, [first.shape[0]] * layers)
            node_graph, n_graphs = graph_of_node(graph), cell.shape[0]
            inputs = GraphInputs(
                graph[Z],
                edge_index,
                vectors,
                [n_nodes] * layers,
                [n_edges] * layers,
                pairs,
                triplets,
                node_graph,
                n_graphs,
                states_of(graph, self.network.state_inputs),
                copies=copies,
            )
            network, members = self.network, None
            if isinstance(network, SeveralNetworks):
                members = network.each(inputs)
                result = network.join(members)
            else:
                result = network(inputs)
            if self.has_energy:
                atomic = result[ENERGY]
                energy = atomic.new_zeros(n_graphs).index_add(0, node_graph, atomic)
                result |= {ENERGY: energy, ATOMIC_ENERGIES: atomic}
                if members is not None:
                    of_members = result.pop(ENERGY + "_members")
                    totals = energy.new_zeros(len(of_members), n_graphs).index_add(1, node_graph, of_members)
                    result[ENERGY_DEVIATION] = totals.std(0)
            if derive:
                # The members share nothing, so that their gradients cost together what that of the mean does.
                energies = [energy] if members is None else [one[ENERGY] for one in members]
                gradients = [gradient(one, [vectors], create_graph=self.training)[0] for one in energies]
                found: dict[str, list[Tensor]] = {}
                if forces:
                    found[FORCES] = [forces_from_edges(one, edge_index, n_nodes) for one in gradients]
                if stress:
                    strains = [strain_derivative(one, vectors, node_graph[receiver], n_graphs) for one in gradients]
                    found[STRESS] = [stress_from_strain(strain, cell) for strain in strains]
                for name, of_each in found.items():
                    if members is None:
                        result[name] = of_each[0]
                    else:
                        said = torch.stack(of_each)
                        result |= {name: said.mean(0), DEVIATIONS[name]: said.std(0)}
        return result if self.training else {name: value.detach() for name, value in result.items()}


class CoordinatePotential(nn.Module):
    """The same for a module written for KLIFF's ``RadialGraph``, which takes coordinates and returns total energies.

    The derivative is taken with respect to the coordinates of all nodes, ghosts included, and with respect to the
    shifts where the module takes them.

    Args:
        module: Called with ``input_args`` by name; returns one energy a graph.
        input_args: Names of the graph's tensors that it takes.
        scale: Unit of the module's output, eV.
        offset: Energy of a structure where the module says 0, eV.
    """

    def __init__(self, module: nn.Module, input_args: list[str], scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.module = module
        self.input_args = list(input_args)
        self.scale = scale
        self.offset = offset

    def forward(self, graph: Any, forces: bool = True, stress: bool = True) -> dict[str, Tensor]:
        """Return ``energy`` and, if asked, ``forces`` and ``stress``; shapes and units as `Potential.forward`.

        Raises:
            ModelError: The module returns something else than one energy a graph.
        """
        derive = forces or stress
        cell = graph[CELL].view(-1, 3, 3)
        moved = [name for name in (COORDS, SHIFTS) if name == COORDS or name in self.input_args]
        inputs = {name: graph[name] for name in self.input_args}
        with torch.set_grad_enabled(torch.is_grad_enabled() or derive):
            strained = {name: graph[name].detach().clone().requires_grad_(derive) for name in moved}
            inputs |= {name: tensor for name, tensor in strained.items() if name in inputs}
            output = self.module(**{name: self.in_module_dtype(tensor) for name, tensor in inputs.items()})
            if output.numel() != len(cell):
                raise ModelError(
                    "the module must return one energy a graph",
                    where="model",
                    value=tuple(output.shape),
                    allowed=f"({len(cell)},)",
                    remedy="Sum atomic energies by 'contributions', and return the even entries: energies[::2].",
                )
            energy = self.scale * output.reshape(-1).to(torch.float64) + self.offset
            result = {ENERGY: energy}
            if derive:
                gradients = gradient(energy, [strained[name] for name in moved], create_graph=self.training)
                images, node_graph = graph[IMAGES], graph_of_node(graph)
                if forces:
                    n_atoms = int(images.max()) + 1
                    result[FORCES] = -gradients[0].new_zeros(n_atoms, 3).index_add(0, images, gradients[0])
                if stress:
                    owners = [node_graph if name == COORDS else node_graph[graph[EDGE_INDEX][1]] for name in moved]
                    strain = strain_derivative(
                        torch.cat(gradients),
                        torch.cat([strained[name] for name in moved]),
                        torch.cat(owners),
                        len(cell),
                    )
                    result[STRESS] = stress_from_strain(strain, cell)
        return result if self.training else {name: value.detach() for name, value in result.items()}

    def in_module_dtype(self, tensor: Tensor) -> Tensor:
        """Return an input of the module as it takes it: floating-point numbers in the precision of its weights."""
        weights = next(self.module.parameters(), None)
        return tensor if weights is None or not tensor.is_floating_point() else tensor.to(weights.dtype)
