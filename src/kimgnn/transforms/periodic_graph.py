"""`PeriodicGraph`: one node an atom, one edge for each periodic image within the cutoff. What we train on."""

from __future__ import annotations

from kimgnn.transforms.graph_transform import GraphTransform
from kimgnn.transforms.neighbors import find_neighbors
from kimgnn.transforms.structure import Edges, Structure


class PeriodicGraph(GraphTransform):
    """KLIFF configuration transform to the graph of one periodic cell, with `RadialGraph`'s keys.

    An edge joins atoms ``sender`` and ``receiver`` when ``|coords[receiver] - coords[sender] + shift| < cutoff``, once
    for each lattice translation that does so, an atom and its own images included. Every pair is there in both
    directions, and edges are sorted by receiver. Cells may be smaller than the cutoff, skewed, periodic along any of
    their vectors or none; atoms may lie outside the cell.

    Args:
        cutoff: Å, above 0.
        species: Chemical symbols that may occur; ``None`` allows all.
        n_layers: Message-passing layers of the network. ``edge_index0`` to ``edge_index{n_layers-1}`` are one tensor.
        copy_to_config: Also store each graph as its configuration's ``fingerprint``.

    Raises:
        ManifestError: ``cutoff`` or ``n_layers`` is not positive, or a species is not an element.
    """

    def __init__(
        self, cutoff: float, species: list[str] | None = None, n_layers: int = 1, copy_to_config: bool = False
    ) -> None:
        super().__init__(cutoff, species, n_layers, copy_to_config)

    def __repr__(self) -> str:
        return f"PeriodicGraph(cutoff={self.cutoff}, species={self.species}, n_layers={self.n_layers})"

    def find_edges(self, structure: Structure) -> Edges:
        """Return all neighbours within the cutoff, in pairs."""
        _, coords, cell, pbc, name = structure
        return Edges.of_all(find_neighbors(coords, cell, pbc, self.cutoff, name))
