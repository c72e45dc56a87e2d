"""The official TorchML driver's contract: its parameter file, and a model that is right in both of its species modes.

That driver passes the network species, coordinates of atoms and ghosts, one edge list for each layer, and
``contributions`` (0 for an atom, 1 for a ghost). A species is its index in the parameter file, or, if the environment
variable ``KIM_MODEL_ELEMENTS_MAP`` is set, its atomic number; a model cannot ask which. So the parameter file lists the
elements in an order that leaves no value ambiguous, and the exported model turns either into atomic numbers.
"""

from copy import deepcopy
from typing import Any, Final

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.export.contract import refuse_unless_potential
from kimgnn.export.staged import stage_by_hop
from kimgnn.export.torchscript import script
from kimgnn.fields import CONTRIBUTIONS, COORDS, ENERGY, SPECIES, Z
from kimgnn.models.network import Network
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.potential import CoordinatePotential

DRIVER_ID: Final = "TorchML__MD_173118614730"
"""Without the version, which ``export.driver_version`` gives."""

PARAMETER_FILE: Final = "kliff_graph.param"

HEAVIEST: Final = 92
"""The driver's table of atomic numbers ends at uranium."""

MISSPELT: Final = ("Ar", "Tl")
"""Elements that the driver's table of atomic numbers has under another symbol."""

ONE_ENERGY_PER_ATOM: Final = 1e-6
"""Relative difference allowed between a module's total and the sum of its atomic energies; it may be float32."""


def order_species(species: list[str]) -> list[str]:
    """Return ``species`` in an order in which no index is the atomic number of another element.

    An element whose atomic number is less than the number of elements goes to that index; the others fill the rest.

    Raises:
        ExportError: The driver's table of atomic numbers lacks an element.
    """
    for symbol in species:
        if symbol in MISSPELT or atomic_numbers[symbol] > HEAVIEST:
            raise ExportError(
                "the TorchML driver cannot tell the atomic number of this element",
                where="export.driver",
                value=symbol,
                allowed=f"elements up to U, without {' and '.join(MISSPELT)}",
                remedy="Export with driver: kimgnn.",
            )
    fixed = {atomic_numbers[symbol]: symbol for symbol in species if atomic_numbers[symbol] < len(species)}
    others = iter(symbol for symbol in species if atomic_numbers[symbol] >= len(species))
    return [fixed.get(index) or next(others) for index in range(len(species))]


def parameter_file(species: list[str], cutoff: float, n_layers: int, model_file: str) -> str:
    """Return the text of ``kliff_graph.param``; the driver skips one line and comments before most values.

    Args:
        species: As `order_species` returns them.
        cutoff: Å.
        n_layers: Message-passing layers.
        model_file: Name of the TorchScript file beside it.
    """
    return (
        f"# Number of elements, and the elements\n{len(species)}\n{' '.join(species)}\n\n"
        "# Preprocessing\nGraph\n\n"
        f"# Cutoff in angstrom, and message-passing layers\n{float(cutoff)!r}\n{n_layers}\n\n"
        f"# Model\n{model_file}\n\n"
        "# Returns forces\nFalse\n\n"
        f"# Number of inputs\n{3 + n_layers}\n"
    )


class AtomicNumbers(nn.Module):
    """What the driver passes as species, index or atomic number, to atomic numbers.

    Args:
        species: As `order_species` returns them.
    """

    table: Tensor

    def __init__(self, species: list[str]) -> None:
        super().__init__()
        numbers = [atomic_numbers[symbol] for symbol in species]
        table = torch.zeros(HEAVIEST + 2, dtype=torch.int64)
        table[numbers] = torch.tensor(numbers)
        table[: len(numbers)] = torch.tensor(numbers)
        self.register_buffer("table", table)

    def forward(self, species: Tensor) -> Tensor:
        """Return atomic numbers, same shape as ``species``.

        Raises:
            ValueError: A value is neither an index nor the atomic number of an element of the model.
        """
        # The last entry stands for every value out of range.
        z = self.table[species.clamp(-1, self.table.shape[0] - 1)]
        if bool((z == 0).any()):
            raise ValueError("a species code is neither an index nor the atomic number of an element of this model")
        return z


class StagedEnergies(nn.Module):
    """A network on the driver's inputs; `_with_driver_inputs` calls it."""

    def __init__(self, network: Network, species: list[str]) -> None:
        super().__init__()
        self.to_z = AtomicNumbers(species)
        self.network = network.with_heads(lambda name: name == ENERGY)
        self.num_layers: int = network.num_layers
        self.eval().requires_grad_(False)

    @torch.jit.export
    def energies(self, species: Tensor, coords: Tensor, edge_index: Tensor, contributions: Tensor) -> Tensor:
        """Return energies, ``(n_nodes,)`` float64, eV, zero on ghosts; ``edge_index`` is the last layer's."""
        nodes, _, edges, node_counts, edge_counts = stage_by_hop(edge_index, contributions == 0, self.num_layers)
        z = self.to_z(species[nodes])
        positions = coords[nodes]
        vectors = positions.index_select(0, edges[1]) - positions.index_select(0, edges[0])
        inputs = GraphInputs(z, edges, vectors, node_counts, edge_counts)
        atomic = self.network(inputs)["energy"]
        return torch.zeros_like(coords[:, 0]).index_add(0, nodes[: node_counts[-1]], atomic)


class ModuleEnergies(nn.Module):
    """A module written for KLIFF's ``RadialGraph`` on the driver's inputs; `_with_driver_inputs` calls it.

    Such a module sums atomic energies by ``contributions`` and returns the even slots. Given two slots for every node,
    ``2 i`` for an atom and ``2 i + 1`` for a ghost, it returns one energy a node, zero on ghosts.
    """

    def __init__(
        self, potential: CoordinatePotential, species: list[str], offset_per_atom: float, per_atom: bool
    ) -> None:
        super().__init__()
        self.to_z = AtomicNumbers(species)
        self.module = deepcopy(potential.module)
        self.scale = float(potential.scale)
        self.offset_per_atom = offset_per_atom
        self.per_atom = per_atom
        self.dtype = potential.in_module_dtype(torch.zeros(1, dtype=torch.float64)).dtype
        self.eval().requires_grad_(False)

    @torch.jit.export
    def positions(self, coords: Tensor) -> Tensor:
        """Return ``coords`` in the precision of the module."""
        return coords.to(self.dtype)

    @torch.jit.export
    def slots(self, contributions: Tensor) -> Tensor:
        """Return the ``contributions`` that the module is given, ``(n_nodes,)`` int64."""
        if not self.per_atom:
            return contributions
        return 2 * torch.arange(contributions.shape[0], device=contributions.device) + contributions

    @torch.jit.export
    def energies(self, output: Tensor, contributions: Tensor) -> Tensor:
        """Return energies, ``(n_nodes,)`` float64, eV, zero on ghosts, from the module's output."""
        contributing = contributions == 0
        output = self.scale * output.reshape(-1).to(torch.float64)
        if not self.per_atom:
            first = torch.nonzero(contributing).view(-1)[:1]
            output = torch.zeros_like(contributions, dtype=torch.float64).index_add(0, first, output[: len(first)])
        return output + self.offset_per_atom * contributing


def export_network(network: Network, species: list[str]) -> torch.jit.ScriptModule:
    """Return ``network`` as a script module with the TorchML driver's contract.

    Args:
        network: A network that can be a potential.
        species: As `order_species` returns them.

    Raises:
        ExportError: The network cannot be a potential, or TorchScript cannot compile it.
    """
    refuse_unless_potential(network)
    # The last layer's list holds every edge of the others, and hops tell which layer needs which.
    body = f"return self.model.energies(species, coords, edge_index{network.num_layers - 1}, contributions)"
    return _with_driver_inputs(StagedEnergies(network, species), network.num_layers, body)


def export_module(
    potential: CoordinatePotential,
    species: list[str],
    n_layers: int,
    example: Any,
    atoms_per_structure: int | None = None,
) -> tuple[torch.jit.ScriptModule, bool]:
    """Return a module written for KLIFF's ``RadialGraph`` with the TorchML driver's contract.

    Args:
        potential: The module, its inputs, and the scale and offset of its output.
        species: As `order_species` returns them.
        n_layers: Edge lists of the graphs that it was trained on.
        example: A `RadialGraph` graph, to find out whether atomic energies can be drawn from the module.
        atoms_per_structure: Atoms of every training structure; ``None`` if they differ.

    Returns:
        The script module, and whether it yields an energy for each atom; if not, the first atom holds the total.

    Raises:
        ExportError: An input is not available in the driver, the offset cannot be spread over the atoms, or
            TorchScript cannot compile the module.
    """
    layers = [f"edge_index{k}" for k in range(n_layers)]
    available = {
        Z: "self.model.to_z(species)",
        COORDS: "self.model.positions(coords)",
        CONTRIBUTIONS: "self.model.slots(contributions)",
        **{name: name for name in layers},
    }
    if len(species) == 1:
        available[SPECIES] = "torch.zeros_like(species)"
    for name in potential.input_args:
        if name not in available:
            raise ExportError(
                "the TorchML driver cannot supply this input"
                + (": RadialGraph numbers species anew in each structure" if name == SPECIES else ""),
                where="model.input_args",
                value=name,
                allowed=", ".join(available),
            )
    if potential.offset and not atoms_per_structure:
        raise ExportError(
            "the energy offset is one number a structure, and the training structures differ in their number of atoms",
            where="transforms.property",
            value=potential.offset,
            remedy="Train without the property transform, or on structures of one size.",
        )
    offset = potential.offset / atoms_per_structure if atoms_per_structure else 0.0
    per_atom = _yields_atomic_energies(potential, example)
    arguments = ", ".join(available[name] for name in potential.input_args)
    module = _with_driver_inputs(
        ModuleEnergies(potential, species, offset, per_atom),
        n_layers,
        f"return self.model.energies(self.model.module({arguments}), contributions)",
    )
    return module, per_atom


def _with_driver_inputs(module: nn.Module, n_layers: int, body: str) -> torch.jit.ScriptModule:
    """Script ``module`` as ``model``, with a ``forward`` around it that takes ``n_layers`` edge lists."""

    class TorchMLModel(nn.Module):
        """A new class each time: TorchScript compiles a class once, and would not take a second ``forward``."""

        def __init__(self) -> None:
            super().__init__()
            self.model = module

    layers = ", ".join(f"edge_index{k}" for k in range(n_layers))
    return script(TorchMLModel().eval(), f"def forward(self, species, coords, {layers}, contributions):\n    {body}\n")


def _yields_atomic_energies(potential: CoordinatePotential, graph: Any) -> bool:
    """Whether the module, given a pair of slots for each node, returns energies that sum to its own total."""
    inputs = {name: potential.in_module_dtype(graph[name]) for name in potential.input_args}
    if CONTRIBUTIONS not in inputs:
        return False
    contributions = graph[CONTRIBUTIONS]
    n_nodes = len(contributions)
    with torch.no_grad():
        total = potential.module(**inputs).sum()
        inputs[CONTRIBUTIONS] = 2 * torch.arange(n_nodes) + contributions
        atomic = potential.module(**inputs).reshape(-1)
    return (
        len(atomic) == n_nodes
        and not bool(atomic[contributions == 1].any())
        and bool((atomic.sum() - total).abs() <= ONE_ENERGY_PER_ATOM * atomic.abs().sum())
    )
