"""Structures to what a network says of them, in batches; and back into ASE's structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray
from torch import Tensor

from kimgnn.fields import (
    ATOMIC_ENERGIES,
    EDGE_INDEX,
    ENERGY,
    ENERGY_DEVIATION,
    FORCES,
    FORCES_DEVIATION,
    STRESS,
    STRESS_DEVIATION,
)
from kimgnn.heads.classification import probabilities
from kimgnn.heads.members import class_spread
from kimgnn.heads.property import PropertyHead
from kimgnn.models.ensemble import MEMBERS
from kimgnn.nn.fusion import ModalityWeights
from kimgnn.nn.states import StateInput, read_states
from kimgnn.transforms.batches import Bounds
from kimgnn.transforms.collate import collate

if TYPE_CHECKING:
    from kliff.dataset import Configuration


@dataclass(frozen=True)
class Prediction:
    """What a network says about one structure; ``None`` or absent where it has no such head.

    Attributes:
        energy: Total energy, eV.
        forces: ``(n_atoms, 3)``, eV/Å.
        stress: ``(6,)``, eV/Å³, tension-positive, Voigt xx yy zz yz xz xy; NaN for a structure without a volume.
        atomic_energies: ``(n_atoms,)``, eV; ``None`` also from a network that knows only the total.
        properties: Name of a property head -> ``(n_components,)``, or ``(n_atoms, n_components)`` by atom, in its unit;
            name of a classification head -> probabilities of the classes ``(n_classes,)``.
        deviations: Name of a head that says how sure it is (an ensemble's all do) -> the standard deviation, shape and
            unit as in ``properties``; of a classification head, that of the probabilities.
        intervals: Name of a head that was calibrated, or ``energy``, ``forces`` or ``stress`` -> ``(2, ...)``, the
            lower and the upper end of the interval that holds the true value with the probability of the model's level.
            A deviation of numbers is calibrated if there is an interval of the same name, and raw if there is none.
        sets: Name of a classification head that was calibrated -> ``(n_classes,)``, which classes are told: the true
            one is among them with the probability of the model's level.
        members: Name of a classification head of an ensemble -> ``(n_members, n_classes)``, logarithms of what each
            member says; for calibration, which leaves them out.
        energy_deviation: Of an ensemble, standard deviation of its members, eV.
        forces_deviation: Of an ensemble, ``(n_atoms, 3)``, the same of each component, eV/Å.
        stress_deviation: Of an ensemble, ``(6,)``, the same of each component, eV/Å³; NaN without a volume.
        attention: By attention fusion: the weight of the structure beside its composition, 0 to 1.
    """

    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    atomic_energies: NDArray[np.float64] | None = None
    properties: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    deviations: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    intervals: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sets: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    members: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    energy_deviation: float | None = None
    forces_deviation: NDArray[np.float64] | None = None
    stress_deviation: NDArray[np.float64] | None = None
    attention: float | None = None


def predict(
    potential: torch.nn.Module,
    configurations: Sequence[Configuration],
    transform: Callable[[Configuration], Any],
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    max_atoms: int | None = None,
    max_edges: int | None = None,
) -> list[Prediction]:
    """Return one prediction a structure, in their order; the potential is left in the mode it came in.

    Args:
        potential: A `kimgnn.physics.potential.Potential` or ``CoordinatePotential``; it is moved to ``device``.
        configurations: Structures; labels are not looked at.
        transform: Structure to graph, the one that the network was trained with.
        batch_size: Structures computed at a time, at most.
        device: Where to compute.
        max_atoms: Atoms computed at a time, at most; a structure with more is computed alone.
        max_edges: Edges likewise.
    """
    was_training = potential.training
    potential.to(device).eval()
    predictions: list[Prediction] = []
    weights: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, given, output: weights.append(output[:, 0]))
        for module in potential.modules()
        if isinstance(module, ModalityWeights)
    ]
    try:
        graphs = ((len(configuration.species), transform(configuration)) for configuration in configurations)
        bounds = Bounds(batch_size, max_atoms, max_edges)
        for chunk in bounds.batches(graphs, lambda item: (item[0], item[1][EDGE_INDEX].shape[1])):
            batch = collate([graph for _, graph in chunk]).to(device)
            sizes = [n_atoms for n_atoms, _ in chunk]
            found = _split(potential, potential(batch, forces=True, stress=True), sizes)
            if weights:  # heads with layers of their own have each their own weights
                mean = torch.stack(weights).mean(0).tolist()
                found = [replace(one, attention=weight) for one, weight in zip(found, mean, strict=True)]
                weights.clear()
            predictions += found
    finally:
        for hook in hooks:
            hook.remove()
        potential.train(was_training)
    return predictions


def give_states(configuration: Configuration, inputs: Sequence[StateInput], values: Mapping[str, Any]) -> None:
    """Give a structure what the network needs to know besides its atoms, where the transform finds it.

    Args:
        configuration: It is changed.
        inputs: What the network takes.
        values: Name -> value, such as the ``info`` of the structure in ASE.

    Raises:
        DataError: One is missing, or cannot be used.
    """
    if inputs:
        numbers = read_states(inputs, values, str(configuration.identifier or "the structure"))
        targets = {state.name: np.array([number]) for state, number in zip(inputs, numbers, strict=True)}
        configuration.metadata = {"targets": targets}


def with_predictions(atoms: Atoms, prediction: Prediction) -> Atoms:
    """Return a copy of a structure whose attached calculator holds the prediction, as ASE's writers expect it."""
    results: dict[str, Any] = {}
    if prediction.energy is not None:
        results = {ENERGY: prediction.energy, FORCES: prediction.forces}
    if prediction.stress is not None and not np.isnan(prediction.stress).any():
        results[STRESS] = prediction.stress
    if prediction.atomic_energies is not None:
        results["energies"] = prediction.atomic_energies
    copied = atoms.copy()
    for name in results:  # labels that ASE's readers leave there beside the calculator
        copied.info.pop(name, None)
        copied.arrays.pop(name, None)
    copied.calc = SinglePointCalculator(copied, **results)
    return copied


def _split(potential: torch.nn.Module, output: dict[str, Tensor], sizes: list[int]) -> list[Prediction]:
    """Cut the outputs of a batch into structures of ``sizes`` atoms, those of other heads than energy decoded."""
    by_structure: list[dict[str, Any]] = [{"properties": {}, "deviations": {}, "members": {}} for _ in sizes]

    def deal(kind: str, name: str, values: Tensor, by_atom: bool) -> None:
        parts = torch.split(values, sizes) if by_atom else values.unbind()
        for result, part in zip(by_structure, parts, strict=True):
            (result[kind] if kind else result)[name] = part.cpu().numpy()

    of_atoms = (FORCES, ATOMIC_ENERGIES, FORCES_DEVIATION)
    for name in (ENERGY, STRESS, ENERGY_DEVIATION, STRESS_DEVIATION, *of_atoms):
        if name in output:
            deal("", name, output[name], by_atom=name in of_atoms)
    for name in (ENERGY, ENERGY_DEVIATION):
        if name in output:
            for result in by_structure:
                result[name] = float(result[name])
    for name, head in _other_heads(potential).items():
        if isinstance(head, PropertyHead):
            n_atoms = torch.tensor(sizes, device=output[name].device)
            deal("properties", name, head.physical(output[name], n_atoms), head.per_atom)
            if (deviation := head.deviation(output[name], n_atoms)) is not None:
                deal("deviations", name, deviation, head.per_atom)
        else:
            deal("properties", name, probabilities(output[name]), by_atom=False)
            if name + MEMBERS in output:
                deal("deviations", name, class_spread(output[name + MEMBERS]), by_atom=False)
                deal("members", name, output[name + MEMBERS].transpose(0, 1), by_atom=False)
    return [Prediction(**result) for result in by_structure]


def _other_heads(potential: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return name -> head of the heads that are no energy head; a module that knows only energies has none."""
    heads = getattr(getattr(potential, "network", None), "heads", {})
    return {name: head for name, head in heads.items() if name != ENERGY}
