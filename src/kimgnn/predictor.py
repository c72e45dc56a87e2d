"""A trained model of any kind as one function: structures to predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from kimgnn.calculator import evaluate, periodic_graph
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.calibrated import calibrated
from kimgnn.evaluation.domain import SUMMARY
from kimgnn.evaluation.predict import Prediction, give_states
from kimgnn.evaluation.sampling import predict_as_asked
from kimgnn.export.contract import StagedGraph
from kimgnn.export.property_contract import DEVIATION
from kimgnn.export.property_runtimes import PROPERTY_LOADERS, PropertyModel, is_property_file, load_property_model
from kimgnn.export.runtimes import LOADERS, RunnableModel, load_exported
from kimgnn.fields import ENERGY
from kimgnn.models.checkpoint import CALIBRATION, load_checkpoint
from kimgnn.models.tasks import Task, tasks_of
from kimgnn.nn.states import StateInput, read_states, state_inputs_of
from kimgnn.physics.derivatives import strain_derivative, stress_from_strain
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS

Structures: TypeAlias = Sequence[tuple[str, ase.Atoms]]
"""Identifiers and structures."""

EXPORTED: Final = (
    ("model.onnx", "properties.onnx"),
    ("model.pt", "properties.pt"),
    ("model.pt2", "properties.pt"),
)
"""Files of an exported folder, of a potential and of properties beside it or alone: the best format first."""

FEW: Final = 10
"""Elements that a message lists; of more it tells the number."""


@dataclass(frozen=True)
class Predictor:
    """A model that predicts.

    Attributes:
        predict: Identifiers and structures to predictions, all in one batch; raises `DataError` of the first structure
            that it cannot take.
        tasks: What its property and classification heads predict.
        is_potential: Whether it predicts energy, forces and stress.
        species: Elements that it was trained on.
        states: What it needs to know of a structure besides its atoms; it is in the ``info`` of the structures.
        training_data: What it knows of the structures that it was trained on, see `kimgnn.evaluation.domain.summary`.
        level: Share of the true values that its intervals hold, if it gives any.
    """

    predict: Callable[[Structures], list[Prediction]]
    tasks: list[Task]
    is_potential: bool
    species: Sequence[str]
    states: Sequence[StateInput] = ()
    training_data: Mapping[str, Any] = field(default_factory=dict)
    level: float | None = None

    def check(self, structures: Structures) -> None:
        """Raise an error of the first structure with an element that the model was not trained on, or without a state.

        Raises:
            DataError: There is one.
        """
        for identifier, atoms in structures:
            read_states(self.states, atoms.info, identifier)
            foreign = sorted(set(atoms.get_chemical_symbols()) - set(self.species))
            if foreign:
                count = len(self.species)
                raise DataError(
                    "the structure has a species that the model was not trained on",
                    where=identifier,
                    value=", ".join(foreign),
                    allowed=", ".join(self.species) if count <= FEW else f"the {count} elements of its training",
                )


def load_predictor(path: Path) -> Predictor:
    """Load a run directory (its best checkpoint), a checkpoint, or an exported file or folder.

    Of a folder, ONNX is taken before other formats, and properties with the potential that they are beside.

    Raises:
        ModelError: It is not there, is damaged or foreign, or needs a package that is missing.
    """
    return reduce(_together, map(_load_one, model_files(path)))


def model_files(path: Path) -> list[Path]:
    """Return the file or run directory that ``path`` is, or the files of an exported folder: ONNX before all others.

    Raises:
        ModelError: There is nothing, or no model in it.
    """
    if not path.exists():
        raise ModelError("there is no such model", where=str(path))
    if not path.is_dir() or (path / "checkpoints").is_dir():
        return [path]
    for names in EXPORTED:
        if files := [path / name for name in names if (path / name).is_file()]:
            return files
    raise ModelError(
        "there is no model in the folder",
        where=str(path),
        allowed="a run directory, or an exported folder with " + ", ".join(chain(*EXPORTED)),
    )


def _load_one(path: Path) -> Predictor:
    if path.suffix in PROPERTY_LOADERS and is_property_file(path):
        properties = load_property_model(path)
        about = properties.description
        known = json.loads(properties.metadata.get(SUMMARY, "{}"))
        calibration = json.loads(properties.metadata.get(CALIBRATION, "{}"))
        by_file = partial(_by_property_file, properties, calibration)
        level = calibration.get("level")
        return Predictor(by_file, about.tasks, False, about.species, about.states, known, level)
    if path.suffix in LOADERS:
        model = load_exported(path)
        known, level = model.training_data, model.calibration.get("level")
        return Predictor(partial(_by_exported, model), [], True, model.species, (), known, level)
    trained = load_checkpoint(path)
    potential = Potential(trained.network)
    transform = TRANSFORMS.get(trained.transform["name"])(**trained.transform["kwargs"])

    spec = trained.spec
    states = state_inputs_of(spec.options)
    tasks = tasks_of(spec.heads)

    def by_network(structures: Structures) -> list[Prediction]:
        configurations = [
            configuration_from_atoms(atoms, identifier=identifier, labels=()) for identifier, atoms in structures
        ]
        for configuration, (_, atoms) in zip(configurations, structures, strict=True):
            give_states(configuration, states, atoms.info)
        batch_size = max(1, len(configurations))
        found = predict_as_asked(potential, configurations, transform, trained.manifest, batch_size)
        return calibrated(found, tasks, [len(item.species) for item in configurations], trained.calibration)

    known = trained.data.get(SUMMARY, {})
    is_potential, level = ENERGY in trained.network.heads, trained.calibration.get("level")
    return Predictor(by_network, tasks, is_potential, spec.species, states, known, level)


def _together(potential: Predictor, properties: Predictor) -> Predictor:
    """Return one predictor of the heads of both, which are files of one network."""

    def predict(structures: Structures) -> list[Prediction]:
        both = zip(potential.predict(structures), properties.predict(structures), strict=True)
        return [_joined_predictions(first, second) for first, second in both]

    return replace(properties, predict=predict, is_potential=True)


def _joined_predictions(first: Prediction, second: Prediction) -> Prediction:
    merged = {}
    for name, value in vars(second).items():
        before = getattr(first, name)
        merged[name] = before | value if isinstance(before, dict) else before if value is None else value
    return replace(first, **merged)


def _by_property_file(model: PropertyModel, calibration: Mapping[str, Any], structures: Structures) -> list[Prediction]:
    """Return what an exported file of properties says, structure by structure."""
    found = model.predict([atoms for _, atoms in structures], [identifier for identifier, _ in structures])
    predictions = [
        Prediction(
            properties={task.name: values[task.name] for task in model.tasks},
            deviations={name: values[name + DEVIATION] for name in model.description.deviations},
        )
        for values in found
    ]
    return calibrated(predictions, model.tasks, [len(atoms) for _, atoms in structures], calibration)


def _by_exported(model: RunnableModel, structures: Structures) -> list[Prediction]:
    """Return what an exported potential says; structures without periodicity in three directions have no stress."""
    graphs = []
    for identifier, atoms in structures:
        try:
            graphs.append(periodic_graph(atoms, model))
        except DataError as error:
            raise DataError(problems=[replace(problem, where=identifier) for problem in error.problems]) from error
    graph = _joined(graphs)
    found = evaluate(model, graph)
    structure_of_edge = torch.repeat_interleave(torch.tensor([len(part.edge_vectors) for part in graphs]))
    # A cell without volume gives NaN.
    cells = torch.from_numpy(
        np.stack([atoms.cell.array if atoms.pbc.all() else np.zeros((3, 3)) for _, atoms in structures])
    )

    def stresses(edge_gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        strain = strain_derivative(torch.from_numpy(edge_gradient), graph.edge_vectors, structure_of_edge, len(graphs))
        return stress_from_strain(strain, cells).numpy()

    sizes = [len(part.species_codes) for part in graphs]
    ends = np.cumsum(sizes)[:-1]
    parts = zip(np.split(found.energies, ends), np.split(found.forces, ends), stresses(found.gradient), strict=True)
    predictions = [Prediction(float(of_atoms.sum()), force, tension, of_atoms) for of_atoms, force, tension in parts]
    if found.of_members is None:
        return predictions
    energies, gradients, forces = found.of_members
    stress_deviations = np.std([stresses(one) for one in gradients], axis=0, ddof=1)
    of_members = zip(np.split(energies, ends, axis=1), np.split(forces, ends, axis=1), stress_deviations, strict=True)
    predictions = [
        replace(
            prediction,
            energy_deviation=float(of_atoms.sum(1).std(ddof=1)),
            forces_deviation=force.std(0, ddof=1),
            stress_deviation=spread,
        )
        for prediction, (of_atoms, force, spread) in zip(predictions, of_members, strict=True)
    ]
    return calibrated(predictions, [], sizes, model.calibration)


def _joined(graphs: Sequence[StagedGraph]) -> StagedGraph:
    """Return periodic graphs, in which every layer works on all nodes and edges, as one that is not connected."""
    n_nodes = [len(graph.species_codes) for graph in graphs]
    n_edges = [len(graph.edge_vectors) for graph in graphs]
    first_node, first_edge = np.cumsum([0, *n_nodes]), np.cumsum([0, *n_edges])
    reverse_edge = [
        torch.where(graph.reverse_edge < size, graph.reverse_edge + int(first), int(first_edge[-1]))
        for graph, size, first in zip(graphs, n_edges, first_edge, strict=False)
    ]
    n_layers = len(graphs[0].node_counts)
    return StagedGraph(
        torch.cat([graph.species_codes for graph in graphs]),
        torch.cat([graph.edge_index + int(first) for graph, first in zip(graphs, first_node, strict=False)], dim=1),
        torch.cat([graph.edge_vectors for graph in graphs]),
        [int(first_node[-1])] * n_layers,
        [int(first_edge[-1])] * n_layers,
        torch.cat(reverse_edge),
    )
