"""Which structures are worth a label: those that the committee is unsure of, and no two alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME = 1e-9
"""A feature that varies by less than this fraction of its size does not vary."""


def scaled(
    features: NDArray[np.float64], known: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of candidates and of known structures in the unit of their spread.

    Each feature is divided by its standard deviation over all of them, and all features by the root of their number, so
    that structures are at a distance of 1 from their mean, in the root mean square. What does not vary is left out.

    Args:
        features: (n_candidates, n_features).
        known: (n_known, n_features).
    """
    together = np.concatenate([features, known])
    spread = together.std(0)
    varies = spread > SAME * np.abs(together).max(0)
    together = (together[:, varies] - together[:, varies].mean(0)) / (spread[varies] * np.sqrt(max(1, varies.sum())))
    return together[: len(features)], together[len(features) :]


def select(
    deviations: NDArray[np.float64],
    features: NDArray[np.float64],
    known: NDArray[np.float64],
    count: int,
    threshold: float = 0.0,
    apart: float = 0.0,
) -> list[int]:
    """Return the candidates to label, in the order in which they are chosen.

    One after the other: the one with the largest product of its deviation and its distance to the nearest structure
    that is known or chosen. With equal deviations that is farthest-point sampling; a near-duplicate of what is chosen
    has no distance, however unsure the committee is of it.

    Args:
        deviations: (n_candidates,) eV/Å.
        features: (n_candidates, n_features).
        known: (n_known, n_features), of the structures that have labels.
        count: Most candidates to choose.
        threshold: eV/Å; only candidates with a larger deviation are chosen.
        apart: Only candidates farther than this from what is known or chosen, in the unit of `scaled`, are.
    """
    if not len(features):
        return []
    features, known = scaled(features, known)
    nearest = np.full(len(features), np.inf)
    for place in known:
        np.minimum(nearest, np.linalg.norm(features - place, axis=1), out=nearest)
    chosen: list[int] = []
    while len(chosen) < count:
        # Without anything known, all are equally far from it.
        distances = np.where(np.isinf(nearest), 1.0, nearest)
        worth = np.where((deviations > threshold) & (distances > apart), deviations * distances, -np.inf)
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        if worth[best] == -np.inf:
            break
        chosen.append(best)
        np.minimum(nearest, np.linalg.norm(features - features[best], axis=1), out=nearest)
    return chosen
