"""What an exported file of properties is given and returns, whatever its format.

The inputs are one structure: atomic numbers, and edges from senders to receivers with their vectors, in any order. The
file returns what a user wants to see: values in their units, transforms and standardisation undone; probabilities of
classes; and, of heads that predict their own error, standard deviations. All float64.

A file does not know how edges are found: that is said beside it (see `PropertyDescription`), and done in Python by
`kimgnn.export.property_runtimes`. Of a structure with an element that the network was not trained on, every output is
NaN.
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
from kimgnn.heads.property import PropertyHead
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network
from kimgnn.models.tasks import Task, tasks_of
from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.states import StateInput, state_inputs_of
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.angles import MAX_TRIPLETS
from kimgnn.transforms.nearest import Ties

PROPERTY_CONTRACT: Final = 2
"""The version of all this; 1 knew no optional inputs."""

PROPERTY_INPUTS: Final = ("z", "edge_index", "edge_vectors")
"""(n_atoms,) int64 atomic numbers; (2, n_edges) int64 sender and receiver; (n_edges, 3) float64, Å, receiver minus
sender."""

TRIPLETS_INPUT: Final = "triplets"
"""A further input of networks of angles: (2, n_triplets) int64, an edge, and one that begins where it ends."""

STATES_INPUT: Final = "states"
"""A further input of networks with state inputs: (n_states,) float64, numbers, and the index of a class, from 0."""

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

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in their order."""
        further = {TRIPLETS_INPUT: self.triplets, STATES_INPUT: bool(self.states)}
        return [*PROPERTY_INPUTS, *(name for name, there in further.items() if there)]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in their order."""
        names = [[task.name, *([task.name + DEVIATION] if task.name in self.deviations else [])] for task in self.tasks]
        return [name for group in names for name in group]

    def to_metadata(self) -> dict[str, str]:
        """Return it as a file carries it: text only."""
        return {
            "property_contract": str(PROPERTY_CONTRACT),
            "heads": json.dumps([asdict(task) for task in self.tasks], ensure_ascii=False),
            "deviations": json.dumps(self.deviations, ensure_ascii=False),
            "species": " ".join(self.species),
            "cutoff": repr(self.cutoff),
            "max_neighbors": "all" if self.max_neighbors is None else str(self.max_neighbors),
            "ties": self.ties,
            "angles": json.dumps([self.triplets, self.angle_neighbors, self.angle_cutoff, self.max_triplets]),
            "states": json.dumps([asdict(state) for state in self.states], ensure_ascii=False),
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
        [name for name, head in network.heads.items() if isinstance(head, PropertyHead) and head.options.loss == "nll"],
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
    """A network as a function of one structure, with what `PropertyDescription.output_names` says as results.

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
        edge_index: Tensor,
        edge_vectors: Tensor,
        triplets: Tensor | None = None,
        states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the outputs by name: ``(components,)``, ``(n_atoms, components)`` or ``(n_classes,)``.

        Args:
            z: ``(n_atoms,)`` int64, atomic numbers; at least one.
            edge_index: ``(2, n_edges)`` int64, sender and receiver.
            edge_vectors: ``(n_edges, 3)`` float64, Å, receiver minus sender.
            triplets: ``(2, n_triplets)`` int64, of networks that use them.
            states: ``(n_states,)`` float64, of networks that use them.

        Raises:
            ValueError: They are missing.
        """
        found: tuple[Tensor, Tensor, list[int]] | None = None
        if self.uses_triplets:
            if triplets is None:
                raise ValueError("this file takes triplets of edges as its fourth input")
            found = (triplets[0], triplets[1], [triplets.shape[1]] * self.num_layers)
        of_structure: Tensor | None = None
        if self.uses_states:
            if states is None:
                raise ValueError("this file takes states as its last input")
            of_structure = states.unsqueeze(0)
        nodes, edges = [z.shape[0]] * self.num_layers, [edge_index.shape[1]] * self.num_layers
        known_z = self.known_z.index_select(0, z)
        inputs = GraphInputs(known_z, edge_index, edge_vectors, nodes, edges, None, found, None, 1, of_structure)
        learned = self.network(inputs)
        unknown = self.unknown.index_select(0, z).sum()
        n_atoms = torch.ones_like(z).sum(0, keepdim=True)
        outputs: dict[str, Tensor] = {}
        for head, decoder in self.decoders.items():
            for name, values in decoder(learned[head], n_atoms).items():
                outputs[name] = values + unknown
        return outputs


class _PropertyDecoder(nn.Module):
    """What a property head says, in the property's unit."""

    def __init__(self, name: str, head: PropertyHead) -> None:
        super().__init__()
        self.name = name
        self.head = head

    def forward(self, output: Tensor, n_atoms: Tensor) -> dict[str, Tensor]:
        outputs = {self.name: self._of_one(self.head.physical(output, n_atoms))}
        deviation = self.head.deviation(output, n_atoms)
        if deviation is not None:
            outputs[self.name + "_deviation"] = self._of_one(deviation)
        return outputs

    def _of_one(self, values: Tensor) -> Tensor:
        return values if self.head.per_atom else values.squeeze(0)


class _ClassDecoder(nn.Module):
    """The probabilities of a classification head's classes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, output: Tensor, n_atoms: Tensor) -> dict[str, Tensor]:
        return {self.name: probabilities(output).squeeze(0)}


class _FixedNormalization(nn.Module):
    """Batch normalisation by running statistics as what it then is: a factor and a shift of each feature."""

    def __init__(self, trained: nn.BatchNorm1d) -> None:
        super().__init__()
        mean, variance = trained.running_mean, trained.running_var
        if mean is None or variance is None:
            raise ExportError(
                "batch normalisation without running statistics makes a structure depend on others", where="export"
            )
        weight, bias = trained.weight.detach().double(), trained.bias.detach().double()
        scale = (variance.double() + trained.eps).rsqrt() * weight
        self.register_buffer("scale", scale.to(mean.dtype))
        self.register_buffer("shift", (bias - mean.double() * scale).to(mean.dtype))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, x: Tensor, copies: Tensor | None = None) -> Tensor:
        return x * self.scale + self.shift


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
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, _FixedNormalization(child))
        else:
            _with_fixed_normalization(child)
    return module
