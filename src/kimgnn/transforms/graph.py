"""`AtomGraph`: KLIFF's `PyGGraph` with the labels and weights of `kimgnn.fields`, and what attaches them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from kliff.dataset.dataset import ConfigurationError
from kliff.transforms.configuration_transforms.graphs import PyGGraph
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from kimgnn import fields
from kimgnn.errors import DataError, did_you_mean

TARGETS: Final = "targets"
"""Metadata of a configuration: target -> values ``(n_components,)``, or ``(n_atoms, n_components)``; NaN missing."""

GraphT = TypeVar("GraphT", bound=PyGGraph)


class AtomGraph(PyGGraph):
    """A structure as a graph: one node an atom, tensors as in `kimgnn.fields.FIELDS`, collated by PyG's ``Batch``."""

    def __init__(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        Data.__init__(self)  # KLIFF's own sets fields to None, which is what they are; it takes ten times as long
        for name, tensor in (tensors or {}).items():
            self[name] = tensor
        if fields.Z in self:
            self.num_nodes = len(self[fields.Z])

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == fields.TRIPLETS:
            return 1
        return 0 if is_target(key) else super().__cat_dim__(key, value, *args, **kwargs)

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        # KLIFF would count up what is called surface_energy (a "face") or refractive_index.
        if is_target(key):
            return 0
        # KLIFF's max(images) + 1 has no value for a graph without nodes.
        if key == fields.IMAGES:
            return int(value.max()) + 1 if len(value) else 0
        if key in (fields.EDGE_OF_PAIR, fields.TRIPLETS, fields.DISTINCT_EDGES):
            return self[fields.EDGE_INDEX].shape[1]
        if key == fields.PAIR_OF_EDGE:
            return self[fields.EDGE_OF_PAIR].shape[0]
        if key == fields.DISTINCT_COPIES:
            return 0
        if key == fields.DISTINCT_OF_LENGTH:
            return self[fields.DISTINCT_EDGES].shape[0]
        if key == fields.LENGTH_OF_DISTINCT:
            return self[fields.DISTINCT_OF_LENGTH].shape[0]
        return super().__inc__(key, value, *args, **kwargs)

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are tensors, which are all but the number of nodes."""
        return {name: value for name, value in self._store._mapping.items() if isinstance(value, Tensor)}

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return every field as a NumPy array; `from_dict` is the way back."""
        return {key: np.asarray(value) for key, value in self._store.items()}


def is_target(key: str) -> bool:
    """Whether a field is a target, whatever its name."""
    return key.startswith(fields.target_field(""))


def configuration_name(configuration: Configuration) -> str:
    """Return what a message calls a configuration: its identifier, else its index in the dataset."""
    metadata = configuration.metadata
    name = configuration.identifier or metadata.get("identifier")
    return str(name) if name else f"configuration {metadata.get('index', '(no index)')}"


def check_species(configuration: Configuration) -> set[str]:
    """Return the chemical symbols of a configuration.

    Raises:
        DataError: It has no atoms, or a symbol is not an element.
    """
    symbols = set(configuration.species)
    where = configuration_name(configuration)
    if not symbols:
        raise DataError("the structure has no atoms", where=where)
    for symbol in sorted(symbols):
        if atomic_numbers.get(symbol, 0) == 0:
            remedy = did_you_mean(symbol, chemical_symbols[1:])
            raise DataError("not a chemical element", where=where, value=symbol, remedy=remedy)
    return symbols


def attach_labels(graph: GraphT, configuration: Configuration) -> GraphT:
    """Write a configuration's labels, targets and weights into its graph, in place, and return the graph.

    A label that the configuration lacks becomes NaN. A label weight of ``None`` (KLIFF's "not used") becomes 0, a
    configuration weight of ``None`` becomes 1.

    Args:
        graph: The graph of ``configuration``, ours or KLIFF's.
        configuration: Source of energy (eV), forces (n_atoms, 3) eV/Å, stress (6,) eV/Å³ and ``weight``.

    Raises:
        DataError: A label or a weight has the wrong shape.
    """
    n_atoms = len(configuration.species)
    weight = configuration.weight
    values = {
        fields.ENERGY: (label_of(configuration, fields.ENERGY), ()),
        fields.FORCES: (label_of(configuration, fields.FORCES), (n_atoms, 3)),
        fields.STRESS: (label_of(configuration, fields.STRESS), (1, 6)),
        fields.CONFIG_WEIGHT: (1.0 if weight.config_weight is None else weight.config_weight, ()),
        fields.ENERGY_WEIGHT: (0.0 if weight.energy_weight is None else weight.energy_weight, ()),
        fields.FORCES_WEIGHT: (0.0 if weight.forces_weight is None else weight.forces_weight, (n_atoms, 1)),
        fields.STRESS_WEIGHT: (0.0 if weight.stress_weight is None else weight.stress_weight, ()),
    }
    for name, (value, shape) in values.items():
        graph[name] = torch.from_numpy(_filled(value, shape, name, configuration))
    for target, value in configuration.metadata.get(TARGETS, {}).items():
        graph[fields.target_field(target)] = torch.from_numpy(np.atleast_2d(value))
    return graph


def label_of(configuration: Configuration, name: str) -> Any:
    """Return a configuration's ``energy``, ``forces`` or ``stress``, or NaN where it has none (KLIFF raises)."""
    try:
        return getattr(configuration, name)
    except ConfigurationError:
        return np.nan


def _filled(value: Any, shape: tuple[int, ...], name: str, configuration: Configuration) -> NDArray[np.float64]:
    """Return ``value`` as an array of ``shape``; one number fills it."""
    array = np.asarray(value, dtype=np.float64)
    if array.size == 1:
        return np.full(shape, array.item())
    if array.size != math.prod(shape):
        raise DataError(
            f"{name} has the wrong shape",
            where=configuration_name(configuration),
            value=array.shape,
            allowed=f"{shape}, or one number",
        )
    return np.array(array.reshape(shape))
