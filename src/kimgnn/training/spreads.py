"""The spread of every label over the training set: the unit that makes the losses of different tasks alike."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from kliff.dataset import Configuration
from torch import nn

from kimgnn.fields import ENERGY
from kimgnn.heads.property import PropertyHead, apply_transform
from kimgnn.models.network import NetworkSpec
from kimgnn.transforms.graph import TARGETS, label_of


def label_spreads(
    labels: Sequence[str], configurations: Sequence[Configuration], spec: NetworkSpec | None, per_atom: bool
) -> dict[str, float]:
    """Return what the residuals of energy, forces and stress are divided by.

    The standard deviation of the energies above the reference energies, and the root mean square of the components of
    forces and stress.

    Args:
        labels: Those that are trained on.
        configurations: The training set.
        spec: The network's, with its reference energies.
        per_atom: Energies are compared per atom.
    """
    heads = [head for head in spec.heads if head["type"] == "energy"] if spec is not None else []
    reference: Mapping[str, float] = (
        heads[0]["reference_energies"] if heads and heads[0]["reference_energies"] != "none" else {}
    )
    spreads = {}
    for label in labels:
        values = []
        for item in configurations:
            value = np.ravel(label_of(item, label))
            if label == ENERGY:
                value = value - sum(reference.get(symbol, 0.0) for symbol in item.species)
                value = value / len(item.species) if per_atom else value
            values.append(value)
        joined = np.concatenate(values)
        spread = np.nanstd(joined) if label == ENERGY else np.sqrt(np.nanmean(joined**2))
        spreads[label] = float(spread) or 1.0
    return spreads


def target_spreads(heads: nn.ModuleDict, configurations: Sequence[Configuration]) -> dict[str, float]:
    """Return head -> standard deviation of what it learns, in units of the spread that it already divides by."""
    spreads = {}
    for name, head in heads.items():
        if not isinstance(head, PropertyHead):
            continue
        learned = [
            apply_transform(
                torch.from_numpy(np.atleast_2d(item.metadata[TARGETS][head.options.target])),
                head.options.learned,
                torch.tensor([len(item.species)]),
            ).numpy()
            for item in configurations
        ]
        spread = np.nanstd(np.concatenate(learned), axis=0) / head.spread.numpy()
        spreads[name] = float(np.sqrt(np.mean(spread**2))) or 1.0
    return spreads
