"""Graphs kept from one run to the next, without labels: those are the configuration's, the graph is the structure's."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from kliff.dataset import Configuration
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kimgnn import __version__, fields
from kimgnn.cache import GRAPHS, Cache, user_folder
from kimgnn.errors import KimgnnError
from kimgnn.nn import triplets
from kimgnn.transforms.graph import AtomGraph, attach_labels, is_target
from kimgnn.transforms.graph_transform import GraphTransform

_FORMAT: Final = 1
_SLICE: Final = 64
_WORTH_PROCESSES: Final = 2000
_NOT_KEPT: Final = frozenset(
    {
        fields.IDX,
        *fields.LABELS,
        fields.CONFIG_WEIGHT,
        fields.ENERGY_WEIGHT,
        fields.FORCES_WEIGHT,
        fields.STRESS_WEIGHT,
    }
)
"""What belongs to a configuration, not to the structure that others may have too."""


class CachedTransform:
    """A transform that takes the graphs it has made before, in this run or another one, from a cache.

    A graph is found by species, positions, cell and periodicity to the last bit, by the transform's class and options,
    and by the code of the transforms. Labels, targets, weights and the index are the configuration's own. A graph that
    the transform warned of is not kept, so that the warning comes in every run, once.

    Args:
        transform: What makes the graphs; it looks at nothing but the structure.
        folder: Of the cache.
    """

    def __init__(self, transform: GraphTransform, folder: str | Path) -> None:
        self.transform = transform
        self.cache = Cache(folder, GRAPHS)
        kind = type(transform)
        options = sorted(item for item in vars(transform).items() if not item[0].startswith("_"))
        made_by = f"{__version__} {_code_hash()} vesin {version('vesin')}"
        self._told: set[tuple[bytes, str]] = set()
        self._recipe = f"{_FORMAT} {made_by} {kind.__module__}.{kind.__qualname__} {options}".encode()

    def __repr__(self) -> str:
        return f"CachedTransform({self.transform!r}, folder={str(self.cache.path.parent)!r})"

    def __call__(self, configuration: Configuration) -> AtomGraph:
        """Return the graph of ``configuration``, labels NaN where it has none.

        Raises:
            DataError: See `GraphTransform.forward`.
        """
        key = self.key(configuration)
        stored = self.cache.get(key)
        if stored is not None:
            graph = _of_arrays(load(stored))
            graph[fields.IDX] = torch.tensor(configuration.metadata.get("index", -1))
            attach_labels(graph, configuration)
            if self.transform.copy_to_config:
                configuration.fingerprint = graph
            return graph
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            graph = self.transform(configuration)
        for warning in told:
            if (once := (key, str(warning.message))) not in self._told:
                self._told.add(once)
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if not told:
            self.cache.put(key, save(_to_arrays(graph)))
        return graph

    def fill(self, configurations: Sequence[Configuration], processes: int) -> None:
        """Make the graphs that the cache lacks, in several processes where that is worth starting them.

        What one of them cannot make is left to who asks for it, so that errors and warnings come from there.
        """
        missing = self.missing(configurations)
        if not missing or not self.cache.writable:
            return
        many = processes > 1 and len(missing) >= _WORTH_PROCESSES
        told = self._told.copy()
        for _ in DataLoader(_Missing(missing, self), batch_size=None, num_workers=processes if many else 0):
            pass
        self._told = told  # nothing was, there

    def missing(self, configurations: Sequence[Configuration]) -> list[Configuration]:
        """Return those whose graphs are not in the cache; after `fill`, those that are not kept."""
        return [item for item in configurations if self.key(item) not in self.cache]

    def key(self, configuration: Configuration) -> bytes:
        """Return the SHA-256 that a configuration's graph is kept under."""
        digest = hashlib.sha256(self._recipe)
        digest.update(" ".join(configuration.species).encode())
        for values in (configuration.coords, configuration.cell, configuration.PBC):
            array = np.ascontiguousarray(values, dtype=np.float64)
            digest.update(np.int64(array.size).tobytes() + array.tobytes())
        return digest.digest()


@lru_cache
def _code_hash() -> str:
    """Return the SHA-256 of the code that makes the graphs: a new version is not always numbered."""
    digest = hashlib.sha256()
    for path in [*sorted(Path(__file__).parent.glob("*.py")), Path(triplets.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def with_cache(transform: Any, choice: bool | str) -> Any:
    """Return a transform with the cache that ``dataset.cache`` chooses: none, the user's, or one in a folder.

    A transform that is no `GraphTransform` may look at more than the structure, and is returned as it is.
    """
    if choice and isinstance(transform, GraphTransform):
        return CachedTransform(transform, user_folder() if choice is True else choice)
    return transform


class _Missing(Dataset[int]):
    """Structures whose graphs are not in the cache; an item is a slice of them, which it puts there."""

    def __init__(self, configurations: list[Configuration], transform: CachedTransform) -> None:
        self._configurations = configurations
        self._transform = transform

    def __len__(self) -> int:
        return -(-len(self._configurations) // _SLICE)

    def __getitem__(self, index: int) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for configuration in self._configurations[index * _SLICE : (index + 1) * _SLICE]:
                with suppress(KimgnnError):
                    self._transform(configuration)
        return index


def _to_arrays(graph: AtomGraph) -> dict[str, NDArray[Any]]:
    """Return what is kept of a graph; of edge lists that are one tensor, the first."""
    first = graph[fields.EDGE_INDEX]
    return {
        name: tensor.contiguous().numpy()  # safetensors writes what lies in memory
        for name, tensor in graph.tensors().items()
        if name not in _NOT_KEPT and not is_target(name) and (tensor is not first or name == fields.EDGE_INDEX)
    }


def _of_arrays(arrays: Mapping[str, NDArray[Any]]) -> AtomGraph:
    """Return a graph without labels, the inverse of `_to_arrays`."""
    tensors: dict[str, Tensor] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for layer in range(1, int(tensors[fields.N_LAYERS])):
        tensors.setdefault(f"edge_index{layer}", tensors[fields.EDGE_INDEX])
    return AtomGraph(tensors)
