"""Weights of an earlier training that a new one begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from kimgnn.errors import KimgnnError, TrainingError
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network, NetworkSpec

WHERE: Final = "training.initial_weights"

FITTED: Final = {"reference_energies", "scale", "reference", "mean", "spread", "classes", "class_weights"}
"""Options of heads that may be fitted to the training set."""


def take_up(path: str, spec: NetworkSpec, member: int = 0) -> Network:
    """Return the trained network of a run, to be trained further.

    What its heads were fitted to, such as reference energies and scale, stays as it was: with other ones its weights
    would mean something else.

    Args:
        path: A run directory (its best checkpoint), or a checkpoint.
        spec: What the manifest and the training set would build anew.
        member: Of an ensemble, the one to take where ``spec`` is of one network.

    Raises:
        TrainingError: It cannot be read, or is another network.
    """
    try:
        network = load_checkpoint(path).network
    except KimgnnError as error:
        problem = error.problems[0]
        raise TrainingError(problem.message, where=WHERE, value=path, remedy=problem.remedy) from error
    if isinstance(network, Ensemble) and spec.members == 1:
        if member >= len(network.members):
            allowed = f"{len(network.members)}"
            raise TrainingError("has too few members", where=WHERE, value=path, allowed=allowed)
        network = network.members[member]  # type: ignore[assignment]
    before, now = replace(network.spec, heads=[]).to_dict(), replace(spec, heads=[]).to_dict()
    differ = [name for name in now if before[name] != now[name]]
    if _asked(network.spec) != _asked(spec):
        differ.append("heads")
    if differ:
        raise TrainingError(
            f"is of a network with another {', '.join(differ)}",
            where=WHERE,
            value=path,
            remedy="Give the same model block and species as that run had, or leave it out.",
        )
    return network


def _asked(spec: NetworkSpec) -> list[dict[str, Any]]:
    """Return the heads without what they were fitted to."""
    return [{key: value for key, value in head.items() if key not in FITTED} for head in spec.heads]
