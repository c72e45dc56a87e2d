"""What the transforms to graphs of one node an atom have in common: all but who is whose neighbour."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms import ConfigurationTransform
from numpy.typing import NDArray

from kimgnn import fields
from kimgnn.errors import DataError, ExportError, ManifestError, did_you_mean
from kimgnn.transforms.distinct import distinct_edges
from kimgnn.transforms.graph import AtomGraph, attach_labels, check_species, configuration_name
from kimgnn.transforms.structure import Edges, Structure


class GraphTransform(ConfigurationTransform):
    """KLIFF configuration transform to an `AtomGraph`; see the classes made of it.

    Args:
        cutoff: Å, above 0.
        species: Chemical symbols that may occur; ``None`` allows all.
        n_layers: Message-passing layers of the network. ``edge_index0`` to ``edge_index{n_layers-1}`` are one tensor.
        copy_to_config: Also store each graph as its configuration's ``fingerprint``.

    Raises:
        ManifestError: ``cutoff`` or ``n_layers`` is not positive, or a species is not an element.
    """

    def __init__(self, cutoff: float, species: list[str] | None, n_layers: int, copy_to_config: bool) -> None:
        super().__init__(copy_to_config=copy_to_config)
        if not (np.isfinite(cutoff) and cutoff > 0):
            raise ManifestError(
                "the cutoff must be a positive distance", where="transforms.configuration.kwargs.cutoff", value=cutoff
            )
        if n_layers < 1:
            raise ManifestError(
                "at least one layer is needed", where="transforms.configuration.kwargs.n_layers", value=n_layers
            )
        for symbol in species or ():
            if atomic_numbers.get(symbol, 0) == 0:
                raise ManifestError(
                    "not a chemical element",
                    where="transforms.configuration.kwargs.species",
                    value=symbol,
                    remedy=did_you_mean(symbol, chemical_symbols[1:]),
                )
        self.cutoff = float(cutoff)
        self.species = None if species is None else list(species)
        self.n_layers = n_layers
        self.infl_dist = n_layers * self.cutoff

    @abstractmethod
    def find_edges(self, structure: Structure) -> Edges:
        """Return who hears from whom."""

    def forward(self, configuration: Configuration) -> AtomGraph:
        """Return the graph of ``configuration``, labels NaN where it has none.

        Raises:
            DataError: No atoms, a species that is unknown or not allowed, a position or cell that is not finite, a
                periodic cell without volume, or two atoms at one place.
        """
        structure = Structure(
            self._atomic_numbers(configuration),
            np.array(configuration.coords, dtype=np.float64).reshape(-1, 3),
            np.array(configuration.cell, dtype=np.float64).reshape(3, 3),
            np.array(configuration.PBC, dtype=bool),
            configuration_name(configuration),
        )
        edges = self.find_edges(structure)
        n_atoms = len(structure.z)

        graph = AtomGraph()
        graph.num_nodes = n_atoms
        graph[fields.Z] = torch.from_numpy(structure.z)
        graph[fields.SPECIES] = torch.from_numpy(self._species_index(structure.z))
        graph[fields.COORDS] = torch.from_numpy(structure.coords)
        graph[fields.CELL] = torch.from_numpy(structure.cell)
        graph[fields.PBC] = torch.from_numpy(structure.pbc[None])
        graph[fields.SHIFTS] = torch.from_numpy(edges.shifts)
        if edges.pairs is not None:
            graph[fields.EDGE_OF_PAIR], graph[fields.PAIR_OF_EDGE] = map(torch.from_numpy, edges.pairs)
        elif edges.triplets is None:
            distinct = map(torch.from_numpy, distinct_edges(edges, structure.coords))
            graph[fields.DISTINCT_EDGES], graph[fields.DISTINCT_COPIES] = next(distinct), next(distinct)
            graph[fields.DISTINCT_OF_LENGTH], graph[fields.LENGTH_OF_DISTINCT] = distinct
        if edges.triplets is not None:
            graph[fields.TRIPLETS] = torch.from_numpy(edges.triplets)
        edge_index = torch.from_numpy(edges.edge_index)
        for layer in range(self.n_layers):
            graph[f"edge_index{layer}"] = edge_index
        graph[fields.CONTRIBUTIONS] = torch.zeros(n_atoms, dtype=torch.int64)
        graph[fields.IMAGES] = torch.arange(n_atoms)
        graph[fields.N_LAYERS] = torch.tensor(self.n_layers)
        graph[fields.IDX] = torch.tensor(configuration.metadata.get("index", -1))
        return attach_labels(graph, configuration)

    def export_kim_model(self, path: Path, model: str) -> NoReturn:
        """Refuse: a KIM model is given atoms and ghosts by the simulator, and builds the staged graph of those.

        Raises:
            ExportError: Always.
        """
        raise ExportError(
            f"KLIFF cannot export a model trained on {type(self).__name__}",
            where="export",
            remedy="Export it with kimgnn: GNNLightningTrainer.save_kim_model(), or `kimgnn export`.",
        )

    def _atomic_numbers(self, configuration: Configuration) -> NDArray[np.int64]:
        present = check_species(configuration)
        if self.species is not None and not present <= set(self.species):
            raise DataError(
                "the structure has a species that the transform does not list",
                where=configuration_name(configuration),
                value=", ".join(sorted(present - set(self.species))),
                allowed=", ".join(self.species),
                remedy="Add it to transforms.configuration.kwargs.species.",
            )
        return np.array([atomic_numbers[symbol] for symbol in configuration.species], dtype=np.int64)

    def _species_index(self, z: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index in the species list; without a list, KLIFF's: by atomic number among those of the structure."""
        if self.species is None:
            return np.unique(z, return_inverse=True)[1]
        index = np.zeros(len(chemical_symbols), dtype=np.int64)
        for code, symbol in enumerate(self.species):
            index[atomic_numbers[symbol]] = code
        return index[z]
