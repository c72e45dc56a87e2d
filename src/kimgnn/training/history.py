"""The history of a run that may have been interrupted."""

from pathlib import Path

import numpy as np

from kimgnn.evaluation.history import History, read_history


def run_history(run: Path) -> History:
    """Return every metric against the epoch; of an epoch that was trained again, the last time counts.

    Args:
        run: The run's directory, with one CSV log for each time it was started.
    """
    logs = sorted(run.glob("logs/csv_logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    values: dict[str, dict[int, float]] = {}
    for log in logs:
        for name, (epochs, found) in read_history(log).items():
            values.setdefault(name, {}).update(zip(epochs.tolist(), found.tolist(), strict=True))
    return {
        name: (np.array(sorted(by_epoch)), np.array([by_epoch[epoch] for epoch in sorted(by_epoch)]))
        for name, by_epoch in values.items()
    }
