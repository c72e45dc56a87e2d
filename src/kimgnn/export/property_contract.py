"""What an exported file of properties is given and returns, whatever its format.

The inputs are a batch of structures, one after another: atomic numbers, and edges from senders to receivers with their
vectors, sorted by receiver. The file returns what a user wants to see: values in their units, transforms and
standardisation undone; probabilities of classes; and, where a head tells how sure it is, standard deviations. All
float64, a row for each structure or atom.

What depends on a length alone is computed once for all edges of that length, if the caller says which are; of networks
that cannot tell edges of one sender, receiver and length apart, one stands for all of them with their number (see
`kimgnn.transforms.distinct`). Each edge by itself gives the same, later.

A file does not know how edges are found: that is said beside it (see `PropertyDescription`), and done in Python by
`kimgnn.export.property_runtimes`. Of a structure with an element that the network was not trained on, every output is
NaN; of the others in its batch none is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from kimgnn.errors import ExportError
from kimgnn.fields import ENERGY
from kimgnn.heads.classification import ClassificationHead, probabilities
from kimgnn.heads.members import class_spread
from kimgnn.heads.property import PropertyHead
from kimgnn.models.cgcnn import GatedConvolution
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.ensemble import MEMBERS
from kimgnn.models.network import Network
from kimgnn.models.tasks import Task, tasks_of
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.normalization import NoNorm
from kimgnn.nn.states import StateInput, state_inputs_of
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.angles import MAX_TRIPLETS
from kimgnn.transforms.nearest import Ties

PROPERTY_CONTRACT: Final = 3
"""The version of all this; 2 took one structure, its edges in any order, and 1 knew no optional inputs."""

PROPERTY_INPUTS: Final = ("z", "atom_counts", "edge_index", "edge_vectors", "edge_of_length", "length_of_edge")
"""(n_atoms,) int64 atomic numbers; (n_structures,) int64 atoms of each structure; (2, n_edges) int64 sender and
receiver; (n_edges, 3) float64, Å, receiver minus sender; (n_lengths,) int64 an edge of each length; (n_edges,) int64
the length of each edge, as a place in the latter."""

SINGLE_INPUTS: Final = ("z", "edge_index", "edge_vectors")
"""Those of contracts 1 and 2."""

COPIES_INPUT: Final = "copies"
"""A further input of networks that merge edges: (n_edges,) int64, how many edges each stands for."""

TRIPLETS_INPUT: Final = "triplets"
"""A further input of networks of angles: (2, n_triplets) int64, an edge, and one that begins where it ends, by which
they are sorted."""

STATES_INPUT: Final = "states"
"""A further input of networks with state inputs: (n_structures, n_states) float64, numbers, and the index of a class,
from 0."""

DEVIATION: Final = "_deviation"
"""Follows a head's name in the name of the standard deviation that it predicts."""

METADATA_FILE: Final = "kimgnn.json"
"""Where the metadata stand in a TorchScript archive, which holds extra files."""

GRAPHS: Final = ("PeriodicGraph", "CrystalGraph", "LineGraph")
"""Transforms whose graph a file's metadata can tell."""


@dataclass(frozen=True)
class PropertyDescription:
    """What the user of a file of properties has to know.

    Attributes:
        tasks: What is predicted, in the order of the outputs.
        deviations: Names of the tasks with a standard deviation.
        species: Elements that it was trained on.
        cutoff: Reach of an edge, Å.
        max_neighbors: Edges that an atom receives, from its nearest neighbours; ``None`` for all within the cutoff.
        ties: How `kimgnn.transforms.nearest` treats equally near neighbours.
        triplets: The file takes triplets of edges too.
        angle_neighbors: Only edges from so many nearest neighbours form triplets; ``None`` for all.
        angle_cutoff: Å; only edges up to this length do; ``None`` for all.
        max_triplets: Triplets an atom beyond which a structure is refused.
        states: What has to be known of a structure besides, in the order in which the file takes it.
        merges: The file takes edges of one sender, receiver and length as one.
        contract: Version of the file's inputs and outputs.
    """

    tasks: list[Task]
    deviations: list[str]
    species: list[str]
    cutoff: float
    max_neighbors: int | None = None
    ties: Ties = "break"
    triplets: bool = False
    angle_neighbors: int | None = None
    angle_cutoff: float | None = None
    max_triplets: int = MAX_TRIPLETS
    states: tuple[StateInput, ...] = ()
    merges: bool = False
    contract: int = PROPERTY_CONTRACT

    @property
    def in_batches(self) -> bool:
        """Whether the file takes several structures at once."""
        return self.contract >= PROPERTY_CONTRACT

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in their order."""
        further = {COPIES_INPUT: self.merges, TRIPLETS_INPUT: self.triplets, STATES_INPUT: bool(self.states)}
        first = PROPERTY_INPUTS if self.in_batches else SINGLE_INPUTS
        return [*first, *(name for name, there in further.items() if there)]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in their order."""
        names = [[task.name, *([task.name + DEVIATION] if task.name in self.deviations else [])] for task in self.tasks]
        return [name for group in names for name in group]

    def to_metadata(self) -> dict[str, str]:
        """Return it as a file carries it: text only."""
        return {
            "property_contract": str(self.contract),
            "heads": json.dumps([asdict(task) for task in self.tasks], ensure_ascii=False),
            "deviations": json.dumps(self.deviations, ensure_ascii=False),
            "species": " ".join(self.species),
            "cutoff": repr(self.cutoff),
            "max_neighbors": "all" if self.max_neighbors is None else str(self.max_neighbors),
            "ties": self.ties,
            "angles": json.dumps([self.triplets, self.angle_neighbors, self.angle_cutoff, self.max_triplets]),
            "states": json.dumps([asdict(state) for state in self.states], ensure_ascii=False),
            "merges": json.dumps(self.merges),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Return what `to_metadata` said."""
        tasks = [Task(**head | {"classes": tuple(head["classes"])}) for head in json.loads(metadata["heads"])]
        nearest, ties = metadata["max_neighbors"], metadata["ties"]
        angles = json.loads(metadata.get("angles", f"[false, null, null, {MAX_TRIPLETS}]"))
        triplets, angle_neighbors, angle_cutoff, max_triplets = angles
        return cls(
            tasks,
            json.loads(metadata["deviations"]),
            metadata["species"].split(),
            float(metadata["cutoff"]),
            None if nearest == "all" else int(nearest),
            "keep" if ties == "keep" else "break",
            triplets,
            angle_neighbors,
            angle_cutoff,
            max_triplets,
            tuple(StateInput(**state) for state in json.loads(metadata.get("states", "[]"))),
            json.loads(metadata.get("merges", "false")),
            int(metadata["property_contract"]),
        )


def describe_properties(checkpoint: Checkpoint) -> PropertyDescription:
    """Return the description of what is exported of ``checkpoint``.

    Raises:
        ExportError: It has no head but one for the energy, two outputs would have one name, or nothing can tell how its
            graph is made.
    """
    network, name = checkpoint.network, checkpoint.transform["name"]
    if name not in GRAPHS:
        raise ExportError(
            "the file of properties could not say how its graph is made",
            where="transforms.configuration.name",
            value=name,
            allowed=", ".join(GRAPHS),
        )
    graph = TRANSFORMS.get(name)(**checkpoint.transform["kwargs"])
    description = PropertyDescription(
        tasks_of(network.spec.heads),
        [name for name in network.heads if name != ENERGY and network.says_deviation(name)],
        list(network.spec.species),
        graph.cutoff,
        getattr(graph, "max_neighbors", None),
        getattr(graph, "ties", "break"),
        network.uses_triplets,
        getattr(graph, "angle_neighbors", None),
        # Of another graph, a network finds its triplets itself.
        graph.angle_cutoff if hasattr(graph, "angle_cutoff") else network.angle_cutoff or None,
        getattr(graph, "max_triplets", MAX_TRIPLETS),
        tuple(state_inputs_of(network.spec.options)),
        network.merges_edges,
    )
    if not description.tasks:
        raise ExportError("the network has no property or classification head", where="model.heads")
    names = [*description.input_names, *description.output_names]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(
            "the file of properties would have two inputs or outputs of one name",
            where="model.heads",
            value=", ".join(doubled),
            remedy="Give a head another name.",
        )
    return description


class ExportedProperties(nn.Module):
    """A network as a function of structures, with what `PropertyDescription.output_names` says as results.

    Args:
        network: It is copied, not changed.

    Raises:
        ExportError: A head is neither a property's nor a classification's.
    """

    known_z: Tensor
    unknown: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = _with_fixed_normalization(network.with_heads(lambda name: name != ENERGY))
        self.num_layers = network.num_layers
        self.uses_triplets = network.uses_triplets
        self.uses_states = bool(network.state_inputs)
        self.merges_edges = network.merges_edges
        self.members = MEMBERS  # TorchScript sees no constants of a file
        self.decoders = nn.ModuleDict({name: _decoder(name, head) for name, head in self.network.heads.items()})
        numbers = [atomic_numbers[symbol] for symbol in network.spec.species]
        # An unknown element is computed as a known one, so that no table is too short, and then marked.
        self.register_buffer("known_z", torch.full((119,), numbers[0]))
        self.register_buffer("unknown", torch.full((119,), torch.nan, dtype=torch.float64))
        self.known_z[numbers], self.unknown[numbers] = torch.tensor(numbers), 0.0
        self.eval().requires_grad_(False)

    def forward(
        self,
        z: Tensor,
        atom_counts: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        edge_of_length: Tensor,
        length_of_edge: Tensor,
        copies: Tensor | None = None,
        triplets: Tensor | None = None,
        states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the outputs by name: ``(n_structures, components or classes)``, or ``(n_atoms, components)``.

        Args:
            z: ``(n_atoms,)`` int64, atomic numbers.
            atom_counts: ``(n_structures,)`` int64, atoms of each structure, at least one.
            edge_index: ``(2, n_edges)`` int64, sender and receiver, sorted by receiver.
            edge_vectors: ``(n_edges, 3)`` float64, Å, receiver minus sender.
            edge_of_length: ``(n_lengths,)`` int64, an edge of each length.
            length_of_edge: ``(n_edges,)`` int64, the length of each edge, as a place in ``edge_of_length``.
            copies: ``(n_edges,)`` int64, how many edges each stands for, of networks that merge them.
            triplets: ``(2, n_triplets)`` int64, of networks that use them, sorted by the second edge.
            states: ``(n_structures, n_states)`` float64, of networks that use them.

        Raises:
            ValueError: An input is missing, edges or triplets are not sorted, or the structures have not all the atoms.
        """
        if int(atom_counts.sum()) != z.shape[0]:
            raise ValueError("atom_counts do not add up to the atoms")
        if bool((edge_index[1, 1:] < edge_index[1, :-1]).any()):
            raise ValueError("the edges are not sorted by receiver")
        if triplets is not None:
            if bool((triplets[1, 1:] < triplets[1, :-1]).any()):
                raise ValueError("the triplets are not sorted by their second edge")
        structure_of_atom = torch.arange(atom_counts.shape[0]).repeat_interleave(atom_counts)
        return self.of_batch(
            z,
            atom_counts,
            edge_index,
            edge_vectors,
            edge_of_length,
            length_of_edge,
            structure_of_atom,
            copies,
            triplets,
            states,
        )

    def of_batch(
        self,
        z: Tensor,
        atom_counts: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        edge_of_length: Tensor,
        length_of_edge: Tensor,
        structure_of_atom: Tensor,
        copies: Tensor | None = None,
        triplets: Tensor | None = None,
        states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what `forward` does, with ``(n_atoms,)`` int64 the structure of each atom; nothing is checked."""
        found: tuple[Tensor, Tensor, list[int]] | None = None
        if self.uses_triplets:
            if triplets is None:
                raise ValueError("this file takes triplets of edges: triplets")
            found = (triplets[0], triplets[1], [triplets.shape[1]] * self.num_layers)
        if self.uses_states and states is None:
            raise ValueError("this file takes states of the structures: states")
        if self.merges_edges and copies is None:
            raise ValueError("this file takes how many edges each stands for: copies")
        nodes, edges = [z.shape[0]] * self.num_layers, [edge_index.shape[1]] * self.num_layers
        lengths = (edge_of_length, length_of_edge, [edge_of_length.shape[0]] * self.num_layers)
        known_z = self.known_z.index_select(0, z)
        n_structures = atom_counts.shape[0]
        inputs = GraphInputs(
            known_z,
            edge_index,
            edge_vectors,
            nodes,
            edges,
            lengths,
            found,
            structure_of_atom,
            n_structures,
            states,
            None,
            copies,
        )
        learned = self.network(inputs)
        marks = self.unknown.index_select(0, z)
        unknown = marks.new_zeros(n_structures).index_add(0, structure_of_atom, marks).unsqueeze(1)
        outputs: dict[str, Tensor] = {}
        for head, decoder in self.decoders.items():
            decoded: dict[str, Tensor] = decoder(learned[head], atom_counts)
            if head + self.members in learned:
                decoded[head + "_deviation"] = class_spread(learned[head + self.members])
            for name, values in decoded.items():
                by_atom = decoder.per_atom
                outputs[name] = values + (unknown.index_select(0, structure_of_atom) if by_atom else unknown)
        return outputs


class _PropertyDecoder(nn.Module):
    """What a property head says, in the property's unit."""

    def __init__(self, name: str, head: PropertyHead) -> None:
        super().__init__()
        self.name = name
        self.head = head
        self.per_atom = head.per_atom

    def forward(self, output: Tensor, n_atoms: Tensor) -> dict[str, Tensor]:
        outputs = {self.name: self.head.physical(output, n_atoms)}
        deviation = self.head.deviation(output, n_atoms)
        if deviation is not None:
            outputs[self.name + "_deviation"] = deviation
        return outputs


class _ClassDecoder(nn.Module):
    """The probabilities of a classification head's classes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.per_atom = False

    def forward(self, output: Tensor, n_atoms: Tensor) -> dict[str, Tensor]:
        return {self.name: probabilities(output)}


class _FixedNormalization(nn.Module):
    """Batch normalisation by running statistics as what it then is: a factor and a shift of each feature."""

    def __init__(self, trained: nn.BatchNorm1d) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(trained)
        self.register_buffer("scale", scale.to(trained.weight.dtype))
        self.register_buffer("shift", shift.to(trained.weight.dtype))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, x: Tensor, copies: Tensor | None = None) -> Tensor:
        return x * self.scale + self.shift


def _scale_and_shift(trained: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return them in float64."""
    mean, variance = trained.running_mean, trained.running_var
    if mean is None or variance is None:
        raise ExportError(
            "batch normalisation without running statistics makes a structure depend on others", where="export"
        )
    scale = (variance.double() + trained.eps).rsqrt() * trained.weight.detach().double()
    return scale, trained.bias.detach().double() - mean.double() * scale


def _decoder(name: str, head: nn.Module) -> nn.Module:
    if isinstance(head, PropertyHead):
        return _PropertyDecoder(name, head)
    if isinstance(head, ClassificationHead):
        return _ClassDecoder(name)
    raise ExportError(
        "there is no export of this head", where=f"model.heads.{name}", value=type(head).__name__,
        allowed="property, classification",
    )  # fmt: skip


def _with_fixed_normalization(module: Any) -> Any:
    """Put what batch normalisation then is in its place, or into the weights of what it follows."""
    if isinstance(module, GatedConvolution) and isinstance(module.normalize_messages, nn.BatchNorm1d):
        scale, shift = _scale_and_shift(module.normalize_messages)
        for part in (module.of_receiver, module.of_sender, module.of_distance):
            part.weight.data = (part.weight.double() * scale.unsqueeze(1)).to(part.weight.dtype)
        of_receiver = module.of_receiver
        of_receiver.bias.data = (of_receiver.bias.double() * scale + shift).to(of_receiver.bias.dtype)
        module.normalize_messages = NoNorm()
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, _FixedNormalization(child))
        else:
            _with_fixed_normalization(child)
    return module
