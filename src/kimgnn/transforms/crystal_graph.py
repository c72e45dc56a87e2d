"""`CrystalGraph`: the nearest neighbours of each atom, as in CGCNN (Xie & Grossman, PRL 120, 145301, 2018)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import ManifestError
from kimgnn.transforms.graph_transform import GraphTransform
from kimgnn.transforms.nearest import Ties, find_nearest
from kimgnn.transforms.neighbors import find_neighbors
from kimgnn.transforms.structure import Edges, Structure


class CrystalGraph(GraphTransform):
    """KLIFF configuration transform to a graph of each atom's nearest neighbours, with `PeriodicGraph`'s fields.

    An atom is the receiver of edges from its ``max_neighbors`` nearest neighbours within the cutoff, images of itself
    among them. Who is near to whom is not mutual, so that edges form no pairs, and the energy of such a graph jumps
    where neighbours change places: it is for properties. With ``max_neighbors: null`` it is the graph of all neighbours
    within the cutoff, in pairs, which a potential needs.

    Args:
        cutoff: Å, above 0.
        max_neighbors: Edges that an atom receives, at least 1; ``None`` for all within the cutoff.
        ties: Neighbours of which not all belong to the nearest, though they are equally far away: ``break`` takes those
            first by atomic number, then by displacement along the cell vectors; ``keep`` takes them all.
        species: Chemical symbols that may occur; ``None`` allows all.
        n_layers: Message-passing layers of the network. ``edge_index0`` to ``edge_index{n_layers-1}`` are one tensor.
        copy_to_config: Also store each graph as its configuration's ``fingerprint``.

    Raises:
        ManifestError: ``cutoff``, ``max_neighbors`` or ``n_layers`` is not positive, ``ties`` is none of the two, or a
            species is not an element.
    """

    def __init__(
        self,
        cutoff: float = 8.0,
        max_neighbors: int | None = 12,
        ties: Ties = "break",
        species: list[str] | None = None,
        n_layers: int = 1,
        copy_to_config: bool = False,
    ) -> None:
        super().__init__(cutoff, species, n_layers, copy_to_config)
        where = "transforms.configuration.kwargs"
        if max_neighbors is not None and max_neighbors < 1:
            raise ManifestError("must be at least 1, or null", where=f"{where}.max_neighbors", value=max_neighbors)
        if ties not in ("break", "keep"):
            raise ManifestError("is no way to treat them", where=f"{where}.ties", value=ties, allowed="break, keep")
        self.max_neighbors = max_neighbors
        self.ties = ties

    def __repr__(self) -> str:
        return (
            f"CrystalGraph(cutoff={self.cutoff}, max_neighbors={self.max_neighbors}, ties={self.ties!r}, "
            f"species={self.species}, n_layers={self.n_layers})"
        )

    def find_edges(self, structure: Structure) -> Edges:
        """Return the edges to the nearest neighbours.

        Warns:
            UserWarning: An atom has fewer neighbours within the cutoff than asked for, or none.
        """
        _, coords, cell, pbc, name = structure
        if self.max_neighbors is None:
            edges = Edges.of_all(find_neighbors(coords, cell, pbc, self.cutoff, name))
        else:
            edges = find_nearest(structure, self.cutoff, self.max_neighbors, self.ties)
        self._tell_of_few(np.bincount(edges.edge_index[1], minlength=len(coords)), name)
        return edges

    def _tell_of_few(self, counts: NDArray[np.int64], name: str) -> None:
        """Warn of atoms with no neighbours, or fewer than asked for."""
        reach = f"within the cutoff of {self.cutoff:g} Å"
        if alone := int((counts == 0).sum()):
            warnings.warn(f"{name}: {alone} of {len(counts)} atoms have no neighbour {reach}", stacklevel=2)
        elif few := int((counts < (self.max_neighbors or 0)).sum()):
            warnings.warn(
                f"{name}: {few} of {len(counts)} atoms have fewer than {self.max_neighbors} neighbours {reach}",
                stacklevel=2,
            )
