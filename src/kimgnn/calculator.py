"""`KimgnnCalculator`: a trained network in ASE without KIM, on the periodic graph. No KLIFF, Lightning or pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.calibrated import Calibration
from kimgnn.export.contract import ExportedPotential, StagedGraph, exported_members
from kimgnn.export.runtimes import LOADERS, RunnableModel, differentiated, load_exported, one_by_one
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.tasks import LABEL_TASKS
from kimgnn.transforms.neighbors import find_neighbors

DEVIATIONS: Final = ("energy_deviation", "energies_deviation", "forces_deviation", "stress_deviation")
"""What a committee gives besides: standard deviations, of its members or calibrated; eV, eV, eV/Å and eV/Å³."""

INTERVALS: Final = ("energy_interval", "forces_interval", "stress_interval")
"""What it gives besides where it is calibrated: lower and upper ends, ``(2, ...)``."""


class KimgnnCalculator(Calculator):
    """ASE calculator of a trained network or of an exported file.

    It gives ``energy`` (and the same as ``free_energy``), ``energies`` of the atoms, ``forces`` and, for structures
    periodic in three directions, ``stress``, in ASE's units and signs; of a committee, the means of its members and
    standard deviations: ``energy_deviation``, ``energies_deviation``, ``forces_deviation`` and ``stress_deviation``,
    the last two of each component. Each atom is one node, whatever the size of the cell: no ghosts. Everything is
    computed at once, and again only when positions, cell, periodicity or species change.

    Where the model was calibrated, so are the deviations of energy, forces and stress, and beside each of these is the
    interval of the model's level: ``energy_interval``, ``forces_interval``, ``stress_interval``. A deviation without an
    interval is raw, the spread of the members; that of atomic energies always is.

    Args:
        model: A run directory (its best checkpoint), a checkpoint, or an exported ``model.pt``, ``model.pt2`` or
            ``model.onnx``.
        calibrated: False gives raw deviations of every model.

    Attributes:
        model: What is evaluated.
        calibration: What makes deviations and intervals of raw deviations, its level with it; ``None`` where they stay
            raw.

    Raises:
        ModelError: ``model`` is not there, is damaged or foreign, is no potential, or needs a package that is missing.
    """

    name = "kimgnn"
    implemented_properties: ClassVar = ["energy", "free_energy", "energies", "forces", "stress"]
    ignored_changes: ClassVar = {"initial_charges", "initial_magmoms"}

    def __init__(self, model: str | Path, calibrated: bool = True) -> None:
        super().__init__()
        path = Path(model)
        self.model = load_exported(path) if path.suffix in LOADERS else _load_trained(path)
        self.calibration = Calibration.from_dict(self.model.calibration) if calibrated else None
        if self.model.evaluate_members is not None:
            besides = DEVIATIONS if self.calibration is None else DEVIATIONS + INTERVALS
            # Of this one, as ASE looks it up.
            self.implemented_properties = [*self.implemented_properties, *besides]  # type: ignore[misc]

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
        found = evaluate(self.model, graph)
        results = {"energy": float(found.energies.sum()), "energies": found.energies, "forces": found.forces}
        if periodic:
            results["stress"] = self._stress(graph, found.gradient)
        if found.of_members is not None:
            energies, gradients, forces = found.of_members
            said = {"energy": energies.sum(1), "energies": energies, "forces": forces}
            if periodic:
                said["stress"] = np.stack([self._stress(graph, gradient) for gradient in gradients])
            for name, of_members in said.items():
                results |= self._spread(name, results[name], of_members.std(0, ddof=1))
        self.results = results | {"free_energy": results["energy"]}

    def _stress(self, graph: StagedGraph, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        strain_derivative = gradient.T @ graph.edge_vectors.numpy()
        return full_3x3_to_voigt_6_stress(strain_derivative / self.atoms.get_volume())

    def _spread(self, name: str, value: Any, deviation: Any) -> dict[str, Any]:
        """Return the deviation and, where it is calibrated, the interval."""
        found = {f"{name}_deviation": deviation}
        if self.calibration is not None and name in LABEL_TASKS and name in self.calibration.values:
            scaled, ends = self.calibration.of_label(name, np.asarray(value), deviation, len(self.atoms))
            found = {f"{name}_deviation": scaled, f"{name}_interval": ends}
        return found | ({f"{name}_deviation": float(found[f"{name}_deviation"])} if name == "energy" else {})


class Evaluated(NamedTuple):
    """What a potential says of a graph; a committee, in the mean.

    Attributes:
        energies: ``(n_atoms,)``, eV.
        gradient: Of their sum, ``(n_edges, 3)``, eV/Å.
        forces: ``(n_atoms, 3)``, eV/Å.
        of_members: Energies ``(n_members, n_atoms)``, gradients ``(n_members, n_edges, 3)`` and forces ``(n_members,
            n_atoms, 3)`` of a committee's members.
    """

    energies: NDArray[np.float64]
    gradient: NDArray[np.float64]
    forces: NDArray[np.float64]
    of_members: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None


def evaluate(model: RunnableModel, graph: StagedGraph) -> Evaluated:
    """Return what a potential says of a graph without ghosts; of a committee, also what each member says."""
    if model.evaluate_members is None:
        energies, edge_gradient = model.evaluate(graph)
        return Evaluated(energies, edge_gradient, _forces(graph, edge_gradient))
    energies, gradients = model.evaluate_members(graph)
    forces = np.stack([_forces(graph, edge_gradient) for edge_gradient in gradients])
    return Evaluated(energies.mean(0), gradients.mean(0), forces.mean(0), (energies, gradients, forces))


def _forces(graph: StagedGraph, edge_gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `kimgnn.physics.derivatives.forces_from_edges`: torch's calls would cost a tenth of a step of a small cell."""
    sender, receiver = graph.edge_index.numpy()
    n_atoms = len(graph.species_codes)
    forces = [np.bincount(sender, g, n_atoms) - np.bincount(receiver, g, n_atoms) for g in edge_gradient.T]
    return np.stack(forces, axis=1)


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
    members = [differentiated(member) for member in exported_members(network)]
    return RunnableModel(
        differentiated(ExportedPotential(network)),
        network.spec.species,
        network.cutoff,
        network.num_layers,
        one_by_one(members) if len(members) > 1 else None,
        checkpoint.calibration,
    )
