"""Exported files of properties in Python: structures to what the heads predict. No KLIFF, Lightning or pydantic."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from kimgnn.errors import DataError, ModelError
from kimgnn.export.property_batches import (
    MAX_PLACES,
    MAX_STRUCTURES,
    PropertyGraph,
    Values,
    batches,
    joined,
    parted,
)
from kimgnn.export.property_contract import (
    COPIES_INPUT,
    DEVIATION,
    METADATA_FILE,
    PROPERTY_CONTRACT,
    STATES_INPUT,
    TRIPLETS_INPUT,
    PropertyDescription,
)
from kimgnn.models.tasks import Task
from kimgnn.nn.states import read_states
from kimgnn.transforms.angles import find_line_graph
from kimgnn.transforms.batches import Bounds
from kimgnn.transforms.distinct import distinct_edges, edges_by_length
from kimgnn.transforms.nearest import find_nearest, find_nearest_of_all
from kimgnn.transforms.neighbors import find_neighbors
from kimgnn.transforms.structure import Edges, Structure

Named: TypeAlias = tuple[Atoms, str]
"""A structure, and what messages call it."""


@dataclass(frozen=True)
class PropertyModel:
    """An exported file of properties, ready to predict.

    Attributes:
        evaluate: Inputs of the file to its outputs, which have a row for each structure or atom (of contracts 1 and 2,
            those of the one structure).
        description: What it predicts, for which elements, on which graph.
        metadata: All that the file tells of itself.
    """

    evaluate: Callable[[PropertyGraph], Values]
    description: PropertyDescription
    metadata: Mapping[str, str]

    @property
    def tasks(self) -> list[Task]:
        """What it predicts."""
        return self.description.tasks

    def predict(self, structures: Sequence[Atoms], names: Sequence[str] | None = None) -> list[Values]:
        """Return what the model says of each structure, by the names of its outputs, in the heads' units.

        Structures are computed several at a time; see `kimgnn.export.property_batches`.

        Args:
            structures: Periodic or not, with the model's state inputs in their ``info``.
            names: What messages call them; their formulas by default.

        Raises:
            DataError: A structure has no atoms, an element that the model was not trained on, a position or cell that
                is not finite, a periodic cell without volume, two atoms at one place, or not all of the model's states.
        """
        called = names or [atoms.get_chemical_formula() for atoms in structures]
        named = list(zip(structures, called, strict=True))
        if not self.description.in_batches:
            return [self.evaluate(property_graph(atoms, self.description, name)) for atoms, name in named]
        of_atoms = [task.name for task in self.tasks if task.per_atom]
        of_atoms += [name + DEVIATION for name in of_atoms]
        found: list[Values] = []
        for graph in property_graphs(named, self.description):
            found += parted(self.evaluate(graph), graph["atom_counts"], of_atoms)
        return found


def property_graphs(named: Sequence[Named], description: PropertyDescription) -> Iterator[PropertyGraph]:
    """Yield the inputs of a file of properties for structures and their names, several at a time.

    Of nearest neighbours, they are found for all of a batch at once; what bounds it is known before.

    Raises:
        DataError: As `PropertyModel.predict` does.
    """
    count = description.max_neighbors
    if count is None or description.triplets:
        yield from map(joined, batches(_graph_of([one], description) for one in named))
        return
    for batch in Bounds(MAX_STRUCTURES, MAX_PLACES // count).batches(named, lambda one: (len(one[0]), 0)):
        if len(batch) * max(len(atoms) for atoms, _ in batch) <= MAX_PLACES:
            yield _graph_of(batch, description)
        else:
            yield from map(joined, batches(_graph_of([one], description) for one in batch))


def property_graph(atoms: Atoms, description: PropertyDescription, name: str = "") -> PropertyGraph:
    """Return the inputs of a file of properties for a structure: the graph that the network was trained on.

    Raises:
        DataError: As `PropertyModel.predict` does.
    """
    return _graph_of([(atoms, name)], description)


def _graph_of(named: Sequence[Named], description: PropertyDescription) -> PropertyGraph:
    """Return the inputs for structures as one graph; several only of nearest neighbours."""
    known = {atomic_numbers[symbol] for symbol in description.species}
    structures = [_checked(atoms, description, known, name) for atoms, name in named]
    if len(structures) == 1:
        edges = find_edges(structures[0], description)
    else:
        edges = find_nearest_of_all(structures, description.cutoff, description.max_neighbors or 0, description.ties)
    z, positions = (np.concatenate([structure[part] for structure in structures]) for part in (0, 1))
    sender, receiver = edges.edge_index
    vectors = positions[receiver] - positions[sender] + edges.shifts
    inputs = {"z": z, "edge_index": edges.edge_index, "edge_vectors": vectors}
    if description.in_batches:
        inputs["atom_counts"] = np.array([len(structure.z) for structure in structures])
    if description.merges:
        owner = np.repeat(np.arange(len(structures)), inputs["atom_counts"])
        distinct = distinct_edges(edges, positions, owner)
        inputs["edge_index"], inputs["edge_vectors"] = edges.edge_index[:, distinct.edges], vectors[distinct.edges]
        inputs[COPIES_INPUT] = distinct.copies
        inputs["edge_of_length"], inputs["length_of_edge"] = distinct.of_length, distinct.lengths
    else:
        inputs["edge_of_length"], inputs["length_of_edge"] = edges_by_length(np.sqrt(np.square(vectors).sum(axis=1)))
    if edges.triplets is not None:
        inputs[TRIPLETS_INPUT] = edges.triplets
    if description.states:
        rows = [read_states(description.states, atoms.info, name or "the structure") for atoms, name in named]
        inputs[STATES_INPUT] = np.array(rows) if description.in_batches else np.array(rows[0])
    return {name: inputs[name] for name in description.input_names}


def _checked(atoms: Atoms, description: PropertyDescription, known: Collection[int], name: str) -> Structure:
    """Return a structure of which the network knows every element."""
    if len(atoms) == 0:
        raise DataError("the structure has no atoms", where=name)
    if foreign := sorted(set(atoms.numbers.tolist()).difference(known)):
        raise DataError(
            "the model was not trained on every element of the structure",
            where=name,
            value=", ".join(chemical_symbols[number] for number in foreign),
            allowed=", ".join(description.species),
        )
    return Structure(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc, name)


def find_edges(structure: Structure, description: PropertyDescription) -> Edges:
    """Return the edges of the graph that the network was trained on."""
    if description.max_neighbors is None:
        _, coords, cell, pbc, name = structure
        edges = Edges.of_all(find_neighbors(coords, cell, pbc, description.cutoff, name))
    else:
        edges = find_nearest(structure, description.cutoff, description.max_neighbors, description.ties)
    if not description.triplets:
        return edges
    return find_line_graph(
        structure,
        edges,
        description.ties,
        description.angle_neighbors,
        description.angle_cutoff,
        description.max_triplets,
    )


def is_property_file(path: str | Path) -> bool:
    """Return whether a file is of properties, and not of a potential; a file that cannot be read is not."""
    path = Path(path)
    try:
        if path.suffix == ".onnx":
            return "property_contract" in _onnx_session(path).get_modelmeta().custom_metadata_map
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{METADATA_FILE}") for name in archive.namelist())
    except (ModelError, OSError, zipfile.BadZipFile):
        return False


def load_property_model(path: str | Path) -> PropertyModel:
    """Load ``properties.pt`` or ``properties.onnx``, which say themselves what they predict.

    ONNX Runtime takes as many threads as torch does (``OMP_NUM_THREADS``, or `torch.set_num_threads`).

    Raises:
        ModelError: There is no such file, it is damaged, it is not a kimgnn file of properties or of another version,
            or the package that runs it is missing.
    """
    path = Path(path)
    if path.suffix not in PROPERTY_LOADERS:
        allowed = ", ".join(PROPERTY_LOADERS)
        raise ModelError("not the suffix of a file of properties", where=str(path), value=path.suffix, allowed=allowed)
    if not path.is_file():
        raise ModelError("no such file", where=str(path), remedy="Give the file of properties in an exported folder.")
    return PROPERTY_LOADERS[path.suffix](path)


def _load_torchscript(path: Path) -> PropertyModel:
    extra_files: dict[str, Any] = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(path), _extra_files=extra_files)  # type: ignore[no-untyped-call]
        metadata = json.loads(extra_files[METADATA_FILE] or "{}")
    except Exception as error:  # torch raises many kinds on a damaged file
        raise _damaged(path, "TorchScript", error) from error
    description = _described(path, metadata)

    def evaluate(graph: PropertyGraph) -> Values:
        # The optimiser specialises the code for the sizes it saw.
        with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            outputs = module(**{name: torch.from_numpy(values) for name, values in graph.items()})
        return {name: values.numpy() for name, values in outputs.items()}

    return PropertyModel(evaluate, description, metadata)


def _load_onnx(path: Path) -> PropertyModel:
    session = _onnx_session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    description = _described(path, metadata)
    names = description.output_names

    def evaluate(graph: PropertyGraph) -> Values:
        return dict(zip(names, session.run(names, graph), strict=True))

    return PropertyModel(evaluate, description, metadata)


PROPERTY_LOADERS: Final = {".pt": _load_torchscript, ".onnx": _load_onnx}
"""Suffix -> what loads such a file."""


def _onnx_session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed", where=str(path), remedy="pip install kimgnn[onnx]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # a plan of the memory for each number of edges
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds
        raise _damaged(path, "ONNX", error) from error


def _described(path: Path, metadata: Mapping[str, str]) -> PropertyDescription:
    found = metadata.get("property_contract", "(none)")
    if found not in map(str, range(1, PROPERTY_CONTRACT + 1)):
        raise ModelError(
            "not a file of properties that this version of kimgnn exported",
            where=str(path),
            value=f"property contract {found}",
            allowed=f"property contract 1 to {PROPERTY_CONTRACT}",
            remedy="Give the properties.* of an exported folder; if it is, export it again.",
        )
    return PropertyDescription.from_metadata(metadata)


def _damaged(path: Path, what: str, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0]
    return ModelError(
        f"the file is damaged or not {what} ({type(error).__name__}: {reason})",
        where=str(path),
        remedy="Export the model again, with the version of torch and kimgnn that it shall run with.",
    )
