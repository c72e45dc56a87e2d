"""Several structures as one batch for a file of properties, and what it says of them apart again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kimgnn.export.property_contract import TRIPLETS_INPUT

PropertyGraph: TypeAlias = dict[str, NDArray[Any]]
"""The inputs of a file of properties, in the order of `PropertyDescription.input_names`."""

Values: TypeAlias = dict[str, NDArray[np.float64]]
"""Name of an output -> ``(components,)``, ``(n_atoms, components)`` or probabilities ``(n_classes,)``."""

MAX_STRUCTURES: Final = 64
"""Structures of a batch: more are not computed faster."""

MAX_PLACES: Final = 50_000
"""Places of the largest table of a batch (see `kimgnn.export.property_tables`): 40 MB of 100 features in float64."""

_COUNTED: Final = {
    "edge_index": "z",
    "edge_of_length": "length_of_edge",
    "length_of_edge": "edge_of_length",
    TRIPLETS_INPUT: "length_of_edge",
}
"""Input of places -> the input that they are places in."""


class _Size(NamedTuple):
    """What a batch has in all, and in the largest of its structures, at its busiest atom and edge."""

    structures: int
    atoms: int
    edges: int
    largest: int
    most_edges: int
    most_triplets: int

    @classmethod
    def of(cls, graph: PropertyGraph) -> Self:
        """Return that of one structure."""
        receiver, triplets = graph["edge_index"][1], graph.get(TRIPLETS_INPUT)
        most_triplets = 0 if triplets is None else _most(triplets[1])
        n_atoms = len(graph["z"])
        return cls(1, n_atoms, len(receiver), n_atoms, _most(receiver), most_triplets)

    def and_of(self, other: _Size) -> _Size:
        """Return that of both together."""
        return _Size(*(mine + theirs for mine, theirs in zip(self[:3], other[:3], strict=True)),
                     *map(max, self[3:], other[3:]))  # fmt: skip

    @property
    def places(self) -> int:
        """Places of the largest table."""
        return max(self.structures * self.largest, self.atoms * self.most_edges, self.edges * self.most_triplets)


def batches(graphs: Iterable[PropertyGraph]) -> Iterator[list[PropertyGraph]]:
    """Yield graphs in batches, in their order; one with more than `MAX_PLACES` is alone."""
    batch: list[PropertyGraph] = []
    total = _Size(0, 0, 0, 0, 0, 0)
    for graph in graphs:
        own = _Size.of(graph)
        grown = total.and_of(own)
        if batch and (len(batch) == MAX_STRUCTURES or grown.places > MAX_PLACES):
            yield batch
            batch, grown = [], own
        batch.append(graph)
        total = grown
    if batch:
        yield batch


def joined(graphs: Sequence[PropertyGraph]) -> PropertyGraph:
    """Return graphs as one, whose indices count along all of it."""
    batch = {}
    for name in graphs[0]:
        column = [graph[name] for graph in graphs]
        if name in _COUNTED:
            sizes = [len(graph[_COUNTED[name]]) for graph in graphs]
            starts = np.cumsum([0, *sizes[:-1]])
            column = [values + start for values, start in zip(column, starts, strict=True)]
        batch[name] = np.concatenate(column, axis=1 if name in ("edge_index", TRIPLETS_INPUT) else 0)
    return batch


def parted(outputs: Values, atom_counts: NDArray[np.int64], of_atoms: Collection[str]) -> list[Values]:
    """Return what a batch's outputs say of each structure.

    Args:
        outputs: Of the file.
        atom_counts: ``(n_structures,)``.
        of_atoms: Names of the outputs that have a row for each atom.
    """
    ends = atom_counts.cumsum()
    parts = {name: np.split(values, ends[:-1]) if name in of_atoms else list(values)
             for name, values in outputs.items()}  # fmt: skip
    return [{name: part[index] for name, part in parts.items()} for index in range(len(ends))]


def _most(index: NDArray[np.int64]) -> int:
    """Return how often the most frequent number occurs."""
    return int(np.bincount(index).max()) if len(index) else 0
