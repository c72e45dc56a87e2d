"""What a committee says of many structures: how far its members are apart, and what the structures look like to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.evaluation.predict import predict
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS

MAX_ATOMS = 1024
"""In a batch."""


@dataclass(frozen=True)
class Judgement:
    """What a committee says of structures.

    Attributes:
        deviations: (n_atoms,) each, eV/Å: the root of the summed variances of an atom's three force components.
        features: (n_atoms, n_features) each: what the first member's trunk makes of an atom and its environment.
    """

    deviations: list[NDArray[np.float64]]
    features: list[NDArray[np.float64]]

    def of_structures(self, by: str) -> NDArray[np.float64]:
        """Return the deviation of each structure (n_structures,), eV/Å: ``max`` or ``mean`` over its atoms."""
        return np.array([getattr(np, by)(found) for found in self.deviations])


def judge(committee: Checkpoint, structures: Sequence[Atoms], batch_size: int = 32) -> Judgement:
    """Return what a committee says.

    Args:
        committee: An ensemble with an energy head.
        structures: Any; labels are not looked at.
        batch_size: Structures computed at a time, at most.

    Raises:
        DataError: A structure cannot be taken.
    """
    network: Any = committee.network
    transform = TRANSFORMS.get(committee.transform["name"])(**committee.transform["kwargs"])
    configurations = [configuration_from_atoms(atoms, labels=()) for atoms in structures]
    seen: list[torch.Tensor] = []
    hook = network.trunk.register_forward_hook(lambda module, given, output: seen.append(output.detach().double()))
    try:
        found = predict(Potential(network), configurations, transform, batch_size=batch_size, max_atoms=MAX_ATOMS)
    finally:
        hook.remove()
    deviations = [np.linalg.norm(np.asarray(prediction.forces_deviation), axis=1) for prediction in found]
    sizes = [len(atoms) for atoms in structures]
    features = [found.numpy() for found in torch.split(torch.cat(seen), sizes)] if structures else []
    return Judgement(deviations, features)
