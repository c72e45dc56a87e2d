"""`LineGraph`: a crystal's graph with the triplets of bonds that enclose angles, as ALIGNN takes it."""

from __future__ import annotations

from kimgnn.errors import ManifestError
from kimgnn.transforms.angles import MAX_TRIPLETS, find_line_graph
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.nearest import Ties
from kimgnn.transforms.structure import Edges, Structure


class LineGraph(CrystalGraph):
    """KLIFF configuration transform to a `CrystalGraph` and its line graph (Choudhary & DeCost 2021).

    A triplet is an edge, and one that begins at the atom where that one ends. By default all edges form triplets, as in
    the paper: with 12 neighbours, 144 an atom. Fewer are often enough, and several times as fast.

    Args:
        cutoff: Å, above 0.
        max_neighbors: Edges that an atom receives, at least 1; ``None`` for all within the cutoff.
        ties: See `CrystalGraph`.
        angle_neighbors: Only edges from so many nearest neighbours form triplets; for a graph of nearest neighbours.
        angle_cutoff: Å; only edges up to this length form triplets; for a graph of all neighbours within the cutoff.
        max_triplets: Triplets an atom, averaged over the structure, beyond which it is refused.
        species: Chemical symbols that may occur; ``None`` allows all.
        n_layers: Message-passing layers of the network.
        copy_to_config: Also store each graph as its configuration's ``fingerprint``.

    Raises:
        ManifestError: As `CrystalGraph`; or ``angle_neighbors``, ``angle_cutoff`` or ``max_triplets`` is not positive
            or not for this graph.
    """

    def __init__(
        self,
        cutoff: float = 8.0,
        max_neighbors: int | None = 12,
        ties: Ties = "break",
        angle_neighbors: int | None = None,
        angle_cutoff: float | None = None,
        max_triplets: int = MAX_TRIPLETS,
        species: list[str] | None = None,
        n_layers: int = 1,
        copy_to_config: bool = False,
    ) -> None:
        super().__init__(cutoff, max_neighbors, ties, species, n_layers, copy_to_config)
        where = "transforms.configuration.kwargs"
        if angle_neighbors is not None:
            if max_neighbors is None:
                raise ManifestError(
                    "is for a graph of nearest neighbours",
                    where=f"{where}.angle_neighbors",
                    value=angle_neighbors,
                    remedy="Give max_neighbors too, or choose bonds by angle_cutoff.",
                )
            if not 1 <= angle_neighbors <= max_neighbors:
                allowed = f"1 to max_neighbors, {max_neighbors}"
                raise ManifestError(
                    "is out of range", where=f"{where}.angle_neighbors", value=angle_neighbors, allowed=allowed
                )
        if angle_cutoff is not None:
            if max_neighbors is not None:
                raise ManifestError(
                    "is for a graph of all neighbours within the cutoff",
                    where=f"{where}.angle_cutoff",
                    value=angle_cutoff,
                    remedy="Set max_neighbors: null, or choose bonds by angle_neighbors.",
                )
            if not 0 < angle_cutoff <= cutoff:
                allowed = f"above 0, at most the cutoff, {cutoff:g} Å"
                raise ManifestError(
                    "is out of range", where=f"{where}.angle_cutoff", value=angle_cutoff, allowed=allowed
                )
        if max_triplets < 1:
            raise ManifestError("must be at least 1", where=f"{where}.max_triplets", value=max_triplets)
        self.angle_neighbors = angle_neighbors
        self.angle_cutoff = angle_cutoff
        self.max_triplets = max_triplets

    def __repr__(self) -> str:
        return (
            f"LineGraph(cutoff={self.cutoff}, max_neighbors={self.max_neighbors}, ties={self.ties!r}, "
            f"angle_neighbors={self.angle_neighbors}, angle_cutoff={self.angle_cutoff}, species={self.species}, "
            f"n_layers={self.n_layers})"
        )

    def find_edges(self, structure: Structure) -> Edges:
        """Return the edges to the nearest neighbours, and their triplets.

        Raises:
            DataError: There are more than ``max_triplets`` an atom.

        Warns:
            UserWarning: As `CrystalGraph.find_edges`.
        """
        return find_line_graph(
            structure,
            super().find_edges(structure),
            self.ties,
            self.angle_neighbors,
            self.angle_cutoff,
            self.max_triplets,
        )
