"""Which structures are worth a label: those that the committee is unsure of, and no two alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

SAME = 1e-9
"""A feature that varies by less than this fraction of its size does not vary."""


def scaled(
    features: NDArray[np.float64], known: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of candidates' atoms and of known atoms in the unit of their spread.

    Each feature is divided by its standard deviation over all of them, and all features by the root of their number, so
    that atoms are at a distance of 1 from their mean, in the root mean square. What does not vary is left out.

    Args:
        features: (n_atoms, n_features).
        known: (n_known, n_features).
    """
    together = np.concatenate([features, known])
    spread = together.std(0)
    varies = spread > SAME * np.abs(together).max(0)
    together = (together[:, varies] - together[:, varies].mean(0)) / (spread[varies] * np.sqrt(max(1, varies.sum())))
    return together[: len(features)], together[len(features) :]


def select(
    deviations: NDArray[np.float64],
    features: Sequence[NDArray[np.float64]],
    known: NDArray[np.float64],
    count: int,
    threshold: float = 0.0,
    apart: float = 0.0,
) -> list[int]:
    """Return the candidates to label, in the order in which they are chosen.

    One after the other: the one with the largest product of its deviation and its novelty, which is how far the newest
    of its atoms is from the nearest atom of a structure that is known or chosen. With equal deviations that is
    farthest-point sampling of environments; what is made of environments that are known is not new, however large its
    cell, and a near-duplicate of what is chosen is not either, however unsure the committee is of it.

    Args:
        deviations: (n_candidates,) eV/Å.
        features: (n_atoms, n_features) of each candidate.
        known: (n_known, n_features), of the atoms that have labels.
        count: Most candidates to choose.
        threshold: eV/Å; only candidates with a larger deviation are chosen.
        apart: Only candidates with a larger novelty, in the unit of `scaled`, are.
    """
    if not len(features):
        return []
    ends = np.cumsum([len(one) for one in features])
    atoms, places = scaled(np.concatenate(features), known)
    nearest = cKDTree(places).query(atoms)[0] if len(places) else np.full(len(atoms), np.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        novelty = np.maximum.reduceat(nearest, np.concatenate([[0], ends[:-1]]))
        # Without anything known, all are equally new.
        novelty = np.where(np.isinf(novelty), 1.0, novelty)
        worth = np.where((deviations > threshold) & (novelty > apart), deviations * novelty, -np.inf)
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        if worth[best] == -np.inf:
            break
        chosen.append(best)
        own = atoms[ends[best] - len(features[best]) : ends[best]]
        np.minimum(nearest, cKDTree(own).query(atoms)[0], out=nearest)
    return chosen
