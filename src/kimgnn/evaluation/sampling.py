"""Predictions by samples of a network's dropout, the same for a structure whatever it is predicted with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.models.ensemble import with_dropout
from kimgnn.physics.potential import Potential

if TYPE_CHECKING:
    from kliff.dataset import Configuration


def predict_as_asked(
    potential: torch.nn.Module,
    configurations: Sequence[Configuration],
    transform: Callable[[Configuration], Any],
    manifest: Mapping[str, Any],
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    max_atoms: int | None = None,
    max_edges: int | None = None,
) -> list[Prediction]:
    """Return what a network says, by as many samples of its dropout as its manifest asks for.

    With samples, structures are predicted one by one, each from the workspace's seed: their answers depend on nothing
    but themselves. The other arguments are those of `kimgnn.evaluation.predict.predict`.

    Args:
        potential: Of a network; it is left in evaluation mode where it is sampled.
        configurations: Structures.
        transform: Structure to graph.
        manifest: Plain; of older checkpoints too.
        batch_size: Structures at a time, at most.
        device: Where to compute.
        max_atoms: Atoms at a time, at most.
        max_edges: Edges likewise.
    """
    samples = dropout_samples(manifest)
    if not samples:
        return predict(potential, configurations, transform, batch_size, device, max_atoms, max_edges)
    network: Any = potential.network
    sampled, seed = Potential(with_dropout(network, samples)), manifest["workspace"]["seed"]
    device = torch.device(device)
    predictions = []
    try:
        for configuration in configurations:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(seed)
                predictions += predict(sampled, [configuration], transform, 1, device)
    finally:
        potential.eval()  # the layers of dropout too, which it shares
    return predictions


def dropout_samples(manifest: Mapping[str, Any]) -> int:
    """Return how often a manifest wants its network sampled; 0 for not at all."""
    return int((manifest.get("model", {}).get("uncertainty") or {}).get("dropout_samples", 0))
