"""How many structures go into one batch: so many, or as many as have so many atoms or edges together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Bounds:
    """What a batch has at most.

    Attributes:
        structures: Structures.
        atoms: Atoms of all its structures; any number when absent.
        edges: Edges of all its structures; any number when absent.
    """

    structures: int
    atoms: int | None = None
    edges: int | None = None

    def __str__(self) -> str:
        limits = {"atoms": self.atoms, "edges": self.edges}
        return " or ".join(f"{limit} {name}" for name, limit in limits.items() if limit is not None)

    @property
    def by_size(self) -> bool:
        """Whether the sizes of structures matter."""
        return self.atoms is not None or self.edges is not None

    def exceeded_by(self, atoms: int, edges: int) -> bool:
        """Whether a batch has too many atoms or edges."""
        return (self.atoms is not None and atoms > self.atoms) or (self.edges is not None and edges > self.edges)

    def batches(self, items: Iterable[Item], size: Callable[[Item], tuple[int, int]]) -> Iterator[list[Item]]:
        """Yield items in batches, in their order; one that exceeds the bounds by itself is alone.

        Args:
            items: Structures.
            size: Structure -> its atoms and edges.
        """
        batch: list[Item] = []
        total = (0, 0)
        for item in items:
            own = size(item)
            grown = (total[0] + own[0], total[1] + own[1])
            if batch and (len(batch) == self.structures or self.exceeded_by(*grown)):
                yield batch
                batch, grown = [], own
            batch.append(item)
            total = grown
        if batch:
            yield batch
