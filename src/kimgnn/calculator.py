"""`KimgnnCalculator`: a trained network in ASE without KIM, on the periodic graph. No KLIFF, Lightning or pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from kimgnn.errors import DataError, ModelError
from kimgnn.export.contract import ExportedPotential, StagedGraph
from kimgnn.export.runtimes import LOADERS, RunnableModel, differentiated, load_exported
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.transforms.neighbors import find_neighbors


class KimgnnCalculator(Calculator):
    """ASE calculator of a trained network or of an exported file.

    It gives ``energy`` (and the same as ``free_energy``), ``energies`` of the atoms, ``forces`` and, for structures
    periodic in three directions, ``stress``, in ASE's units and signs. Each atom is one node, whatever the size of the
    cell: no ghosts. Everything is computed at once, and again only when positions, cell, periodicity or species change.

    Args:
        model: A run directory (its best checkpoint), a checkpoint, or an exported ``model.pt``, ``model.pt2`` or
            ``model.onnx``.

    Raises:
        ModelError: ``model`` is not there, is damaged or foreign, is no potential, or needs a package that is missing.
    """

    name = "kimgnn"
    implemented_properties: ClassVar = ["energy", "free_energy", "energies", "forces", "stress"]
    ignored_changes: ClassVar = {"initial_charges", "initial_magmoms"}

    def __init__(self, model: str | Path) -> None:
        super().__init__()
        path = Path(model)
        self.model = load_exported(path) if path.suffix in LOADERS else _load_trained(path)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises:
            DataError: The structure has no atoms, a species that the model lacks, a position or cell vector that is NaN
                or infinite, a periodic cell without volume, or two atoms at one place.
            PropertyNotImplementedError: The stress of a structure that is not periodic in three directions.
        """
        super().calculate(atoms, properties, system_changes)
        if system_changes:
            self.results = {}  # they are of other atoms, also when these are refused
        periodic = self.atoms.pbc.all()
        if "stress" in properties and not periodic:
            raise PropertyNotImplementedError("only a structure periodic in three directions has a stress")
        graph = periodic_graph(self.atoms, self.model)
        energies, edge_gradient = self.model.evaluate(graph)
        sender, receiver = graph.edge_index.numpy()
        n_atoms = len(self.atoms)
        # As in kimgnn.physics.derivatives, in NumPy: torch's calls would cost a tenth of a step of a small cell.
        forces = [np.bincount(sender, g, n_atoms) - np.bincount(receiver, g, n_atoms) for g in edge_gradient.T]
        results = {"energy": float(energies.sum()), "energies": energies, "forces": np.stack(forces, axis=1)}
        if periodic:
            strain_derivative = edge_gradient.T @ graph.edge_vectors.numpy()
            results["stress"] = full_3x3_to_voigt_6_stress(strain_derivative / self.atoms.get_volume())
        self.results = results | {"free_energy": results["energy"]}


def periodic_graph(atoms: Atoms, model: RunnableModel) -> StagedGraph:
    """Return the graph of a structure in which each atom is one node, and every layer works on all of them.

    Raises:
        DataError: The structure has no atoms, a species that the model lacks, a position or cell vector that is NaN or
            infinite, a periodic cell without volume, or two atoms at one place.
    """
    where = atoms.get_chemical_formula()
    if len(atoms) == 0:
        raise DataError("the structure has no atoms", where=where)
    codes = _species_codes(atoms.numbers, model.species, where)
    sender_receiver, shifts, reverse_edge = find_neighbors(
        atoms.positions, atoms.cell.array, atoms.pbc, model.cutoff, where
    )
    sender, receiver = sender_receiver
    vectors = atoms.positions[receiver] - atoms.positions[sender] + shifts
    return StagedGraph(
        torch.from_numpy(codes),
        torch.from_numpy(sender_receiver),
        torch.from_numpy(vectors),
        [len(atoms)] * model.num_layers,
        [len(vectors)] * model.num_layers,
        torch.from_numpy(reverse_edge),
    )


def _species_codes(numbers: NDArray[np.int64], species: list[str], where: str) -> NDArray[np.int64]:
    code_of = np.full(len(chemical_symbols), -1)
    code_of[[atomic_numbers[symbol] for symbol in species]] = np.arange(len(species))
    codes = code_of[numbers]
    if (codes < 0).any():
        raise DataError(
            "the model was not trained on every species of the structure",
            where=where,
            value=", ".join(chemical_symbols[number] for number in np.unique(numbers[codes < 0])),
            allowed=", ".join(species),
        )
    return codes


def _load_trained(path: Path) -> RunnableModel:
    checkpoint = load_checkpoint(path)
    network = checkpoint.network
    if "energy" not in network.heads:
        raise ModelError("it has no energy head, and is no potential", where=str(path))
    if network.state_inputs:
        raise ModelError("it takes states of a structure, which a calculator is not given", where=str(path))
    if checkpoint.transform.get("kwargs", {}).get("max_neighbors") is not None:
        raise ModelError(
            "it was trained on nearest neighbours, whose energy jumps where two of them change places",
            where=str(path),
            remedy="Predict with `kimgnn predict`, or train it on all of them: max_neighbors: null.",
        )
    return RunnableModel(
        differentiated(ExportedPotential(network)), network.spec.species, network.cutoff, network.num_layers
    )
