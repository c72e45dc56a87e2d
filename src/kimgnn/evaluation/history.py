"""The history of a run, from the CSV log that Lightning writes."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

History: TypeAlias = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Name of a metric -> epochs ``(n,)`` and values ``(n,)``."""


def read_history(*paths: str | Path) -> History:
    """Return every metric of the ``metrics.csv`` files of a run against the epoch, in order of epoch.

    A row holds only what was logged at that moment; what was logged at several steps of an epoch is averaged. A run
    that was resumed has a file for each part: where two parts have an epoch, the later one counts, and so it is for a
    step that one file has twice.
    """
    history: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for path in paths:
        for name, epochs in _values(path).items():
            history[name] |= {epoch: float(np.mean(list(steps.values()))) for epoch, steps in epochs.items()}
    return {
        name: (np.array(sorted(means)), np.array([means[e] for e in sorted(means)])) for name, means in history.items()
    }


def _values(path: str | Path) -> dict[str, dict[int, dict[int, float]]]:
    """Return name -> epoch -> step -> value of one file."""
    values: defaultdict[str, defaultdict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            epoch, step = row.pop("epoch"), row.pop("step")
            for name, text in row.items():
                if epoch and text:
                    values[name][int(epoch)][int(step)] = float(text)
    return dict(values)
