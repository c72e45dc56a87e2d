"""Structures to energies, forces and stress, in batches; and back into ASE's structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray
from torch_geometric.data import Batch

from kimgnn.fields import ATOMIC_ENERGIES, ENERGY, FORCES, STRESS

if TYPE_CHECKING:
    from kliff.dataset import Configuration


@dataclass(frozen=True)
class Prediction:
    """What a potential says about one structure.

    Attributes:
        energy: Total energy, eV.
        forces: ``(n_atoms, 3)``, eV/Å.
        stress: ``(6,)``, eV/Å³, tension-positive, Voigt xx yy zz yz xz xy; NaN for a structure without a volume.
        atomic_energies: ``(n_atoms,)``, eV; ``None`` from a network that knows only the total.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    atomic_energies: NDArray[np.float64] | None = None


def predict(
    potential: torch.nn.Module,
    configurations: Sequence[Configuration],
    transform: Callable[[Configuration], Any],
    batch_size: int = 32,
    device: str | torch.device = "cpu",
) -> list[Prediction]:
    """Return one prediction a structure, in their order; the potential is left in the mode it came in.

    Args:
        potential: A `kimgnn.physics.potential.Potential` or ``CoordinatePotential``; it is moved to ``device``.
        configurations: Structures; labels are not looked at.
        transform: Structure to graph, the one that the network was trained with.
        batch_size: Structures computed at a time.
        device: Where to compute.
    """
    was_training = potential.training
    potential.to(device).eval()
    predictions: list[Prediction] = []
    try:
        for start in range(0, len(configurations), batch_size):
            chunk = configurations[start : start + batch_size]
            batch = Batch.from_data_list([transform(configuration) for configuration in chunk]).to(device)
            output = {name: value.cpu().numpy() for name, value in potential(batch, forces=True, stress=True).items()}
            predictions += _split(output, [len(configuration.species) for configuration in chunk])
    finally:
        potential.train(was_training)
    return predictions


def with_predictions(atoms: Atoms, prediction: Prediction) -> Atoms:
    """Return a copy of a structure whose attached calculator holds the prediction, as ASE's writers expect it."""
    results: dict[str, Any] = {ENERGY: prediction.energy, FORCES: prediction.forces}
    if not np.isnan(prediction.stress).any():
        results[STRESS] = prediction.stress
    if prediction.atomic_energies is not None:
        results["energies"] = prediction.atomic_energies
    copied = atoms.copy()
    for name in results:  # labels that ASE's readers leave there beside the calculator
        copied.info.pop(name, None)
        copied.arrays.pop(name, None)
    copied.calc = SinglePointCalculator(copied, **results)
    return copied


def _split(output: dict[str, NDArray[np.float64]], sizes: list[int]) -> list[Prediction]:
    """Cut the tensors of a batch into structures of ``sizes`` atoms."""
    ends = np.cumsum(sizes)[:-1]
    forces = np.split(output[FORCES], ends)
    atomic = np.split(output[ATOMIC_ENERGIES], ends) if ATOMIC_ENERGIES in output else [None] * len(sizes)
    return [
        Prediction(float(energy), force, stress, atoms)
        for energy, force, stress, atoms in zip(output[ENERGY], forces, output[STRESS], atomic, strict=True)
    ]
