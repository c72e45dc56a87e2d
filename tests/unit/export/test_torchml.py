"""The official TorchML driver's contract, on inputs made by KLIFF's own RadialGraph as that driver makes them."""

import re

import pytest
import torch
from ase.data import atomic_numbers
from kliff.transforms.configuration_transforms.graphs import PyGGraph, RadialGraph
from structures import CUTOFF, mixed_configuration, small_network
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.export.torchml import export_module, export_network, order_species, parameter_file
from kimgnn.nn.inputs import GraphInputs
from kimgnn.physics.potential import CoordinatePotential, Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

MODES = pytest.mark.parametrize("mode", ["index", "atomic number"])


def driver_inputs(graph: PyGGraph, species: list[str], mode: str) -> list[Tensor]:
    """What the driver passes: KIM_MODEL_ELEMENTS_MAP unset (index in the parameter file) or set (atomic number)."""
    code = {atomic_numbers[symbol]: index for index, symbol in enumerate(species)}
    values = torch.tensor([code[z] for z in graph.z.tolist()]) if mode == "index" else graph.z
    lists = [graph[f"edge_index{k}"] for k in range(int(graph.n_layers))]
    return [values, graph.coords.clone().requires_grad_(), *lists, graph.contributions]


def forces(energies: Tensor, inputs: list[Tensor], graph: PyGGraph) -> Tensor:
    """Minus the gradient of the sum, as the driver has it, the ghosts' part added to the atoms they are images of."""
    (gradient,) = torch.autograd.grad(energies.sum(), inputs[1])
    return torch.zeros(int(graph.images.max()) + 1, 3, dtype=torch.float64).index_add(0, graph.images, -gradient)


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        (["Si"], ["Si"]),
        (["Si", "C"], ["Si", "C"]),
        (["H", "C"], ["C", "H"]),
        (["C", "H"], ["C", "H"]),
        (["H", "He", "C", "O"], ["C", "H", "He", "O"]),
        (["O", "C", "H", "Li"], ["O", "H", "C", "Li"]),
    ],
)
def test_order_leaves_no_value_ambiguous(species: list[str], expected: list[str]) -> None:
    """Where an atomic number is also an index, both mean the same element."""
    ordered = order_species(species)
    assert ordered == expected
    for symbol in ordered:
        z = atomic_numbers[symbol]
        assert z >= len(ordered) or ordered[z] == symbol


@pytest.mark.parametrize("symbol", ["Ar", "Tl", "Pu"])
def test_elements_that_the_driver_cannot_number_are_refused(symbol: str) -> None:
    """Its table of atomic numbers has misspelt symbols and ends at uranium."""
    with pytest.raises(ExportError, match=symbol):
        order_species(["Si", symbol])


@MODES
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("species", [["Si"], ["H", "C"], ["C", "Si", "H"]])
def test_network_is_right_in_both_modes(species: list[str], n_layers: int, mode: str) -> None:
    """Energies and forces are those of the periodic graph, whatever the driver passes as species."""
    net, configuration = small_network(species, n_layers), mixed_configuration(species)
    expected = Potential(net).eval()(PeriodicGraph(CUTOFF, n_layers=n_layers)(configuration))

    ordered = order_species(species)
    graph = RadialGraph(ordered, CUTOFF, n_layers)(configuration)
    inputs = driver_inputs(graph, ordered, mode)
    energies = export_network(net, ordered)(*inputs)

    assert energies.dtype == torch.float64
    assert energies.shape == (len(graph.z),)
    assert not energies[graph.contributions == 1].any()
    atoms = energies[graph.contributions == 0].detach()
    torch.testing.assert_close(atoms, expected["atomic_energies"], rtol=0, atol=1e-12)
    torch.testing.assert_close(forces(energies, inputs, graph), expected["forces"], rtol=0, atol=1e-12)


def test_a_species_of_no_element_is_an_error() -> None:
    """A value that is neither an index nor an atomic number of the model is never taken for another element."""
    graph = RadialGraph(["Si"], CUTOFF, 1)(mixed_configuration(["Si"]))
    inputs = driver_inputs(graph, ["Si"], "index")
    model = export_network(small_network(["Si"], 1), ["Si"])
    for value in (-1, 1, 6, 200):
        inputs[0] = torch.full_like(graph.z, value)
        with pytest.raises(torch.jit.Error, match="neither an index nor the atomic number"):
            model(*inputs)


@MODES
def test_isolated_atom_and_its_padding(mode: str) -> None:
    """The driver pads a lone atom with a far ghost whose species is an index in either mode; its energy is 0."""
    net = small_network(["C", "Si"], 2)
    species = torch.tensor([1 if mode == "index" else 14, 1])
    coords = torch.tensor([[0.0, 0, 0], [999, 999, 999]], dtype=torch.float64)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    energies = export_network(net, ["C", "Si"])(species, coords, empty, empty, torch.tensor([0, 1]))
    alone = net(GraphInputs(torch.tensor([14]), empty, torch.zeros(0, 3).double(), [1, 1], [0, 0]))["energy"]
    torch.testing.assert_close(energies[:1], alone)
    assert energies[1] == 0


def test_parameter_file_as_the_driver_reads_it() -> None:
    """Before each value the driver skips one line and then comments; elements are separated by single spaces."""
    lines = iter(parameter_file(["Si", "C"], 4.5, 3, "model.pt").splitlines())

    def value(skip: bool) -> str:
        line = next(lines) if not skip else (next(lines), next(lines))[1]
        while line.startswith("#"):
            line = next(lines)
        return line

    assert value(skip=False) == "2"
    assert next(lines).split(" ") == ["Si", "C"]
    assert value(skip=True).lower() == "graph"
    assert float(value(skip=True)) == 4.5
    assert next(lines) == "3"
    assert value(skip=True) == "model.pt"
    assert value(skip=True).lower() == "false"
    assert value(skip=True) == "6"


class PairEnergies(nn.Module):
    """A pair potential as KLIFF's tutorial writes models: sums by ``contributions``, and returns the even slots."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.linspace(0.5, 2.0, 20, dtype=torch.float64))

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(coords[edge_index0[0]] - coords[edge_index0[1]], dim=1)
        pairs = self.strength[z[edge_index0[0]]] * self.strength[z[edge_index0[1]]] * torch.exp(-distances)
        atoms = torch.zeros_like(coords[:, 0]).index_add(0, edge_index0[1], pairs)
        slots = torch.zeros(int(contributions.max()) + 1, dtype=atoms.dtype)
        return slots.index_add(0, contributions, atoms)[::2]


class TotalEnergy(PairEnergies):
    """The same, but it sums over the real atoms itself."""

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(coords[edge_index0[0]] - coords[edge_index0[1]], dim=1)
        pairs = self.strength[z[edge_index0[0]]] * self.strength[z[edge_index0[1]]] * torch.exp(-distances)
        atoms = torch.zeros_like(coords[:, 0]).index_add(0, edge_index0[1], pairs)
        return (atoms * (contributions == 0)).sum().reshape(1)


INPUT_ARGS = ["z", "coords", "edge_index0", "contributions"]


@MODES
@pytest.mark.parametrize("module_class", [PairEnergies, TotalEnergy])
def test_module_written_for_radial_graph(module_class: type[nn.Module], mode: str) -> None:
    """A user's module exports with its scale and offset; energies an atom if it can give them, else the total once."""
    species, configuration = ["C", "H"], mixed_configuration(["C", "H"])
    potential = CoordinatePotential(module_class(), INPUT_ARGS, scale=1.5, offset=-24.0).eval()
    graph = RadialGraph(species, CUTOFF, 1)(configuration)
    expected = potential(graph, stress=False)

    model, per_atom = export_module(potential, species, 1, graph, atoms_per_structure=8)
    inputs = driver_inputs(graph, species, mode)
    energies = model(*inputs)

    assert per_atom == (module_class is PairEnergies)
    assert energies.shape == (len(graph.z),)
    assert not energies[graph.contributions == 1].any()
    torch.testing.assert_close(energies.detach().sum().reshape(1), expected["energy"], rtol=0, atol=1e-11)
    torch.testing.assert_close(forces(energies, inputs, graph), expected["forces"], rtol=0, atol=1e-11)
    assert (energies[:8].unique().numel() > 2) == per_atom


class SingleEnergies(nn.Module):
    """A module with float32 weights that does not cast its inputs, as those trained in single precision need not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(coords[edge_index0[0]] - coords[edge_index0[1]], dim=1)
        pairs = torch.exp(-self.layer(distances.unsqueeze(1)).squeeze(1))
        atoms = torch.zeros_like(coords[:, 0]).index_add(0, edge_index0[1], pairs)
        slots = torch.zeros(int(contributions.max()) + 1, dtype=atoms.dtype)
        return slots.index_add(0, contributions, atoms)[::2]


@MODES
def test_module_in_single_precision(mode: str) -> None:
    """The driver passes float64 coordinates; the exported module casts them as training did."""
    graph = RadialGraph(["Si"], CUTOFF, 1)(mixed_configuration(["Si"]))
    potential = CoordinatePotential(SingleEnergies(), INPUT_ARGS).eval()
    expected = potential(graph, stress=False)
    model, per_atom = export_module(potential, ["Si"], 1, graph)
    inputs = driver_inputs(graph, ["Si"], mode)
    energies = model(*inputs)
    assert per_atom
    assert energies.dtype == torch.float64
    torch.testing.assert_close(energies.detach().sum().reshape(1), expected["energy"], rtol=1e-6, atol=0)
    torch.testing.assert_close(forces(energies, inputs, graph), expected["forces"], rtol=0, atol=1e-5)


def test_offset_of_structures_of_many_sizes_is_refused() -> None:
    """One number a structure has no share for an atom unless all structures are of one size."""
    graph = RadialGraph(["Si"], CUTOFF, 1)(mixed_configuration(["Si"]))
    potential = CoordinatePotential(PairEnergies(), INPUT_ARGS, offset=-24.0)
    with pytest.raises(ExportError, match="number of atoms"):
        export_module(potential, ["Si"], 1, graph)


@pytest.mark.parametrize("name", ["species", "images", "shifts", "edge_index1"])
def test_inputs_that_the_driver_lacks_are_refused(name: str) -> None:
    """RadialGraph's species are numbered anew in each structure; images and shifts do not exist in a simulator."""
    graph = RadialGraph(["C", "Si"], CUTOFF, 1)(mixed_configuration(["C", "Si"]))
    with pytest.raises(ExportError, match=re.escape(f"'{name}'")):
        export_module(CoordinatePotential(PairEnergies(), [*INPUT_ARGS, name]), ["C", "Si"], 1, graph)


class Unscriptable(PairEnergies):
    """Takes its inputs in a way that TorchScript does not know."""

    def forward(self, **inputs: Tensor) -> Tensor:
        return super().forward(**inputs)


def test_unscriptable_module_says_why() -> None:
    """The message is TorchScript's own."""
    graph = RadialGraph(["Si"], CUTOFF, 1)(mixed_configuration(["Si"]))
    with pytest.raises(ExportError, match="variable number of arguments"):
        export_module(CoordinatePotential(Unscriptable(), INPUT_ARGS), ["Si"], 1, graph)
