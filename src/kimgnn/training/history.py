"""The history of a run that may have been interrupted, or of an ensemble's runs."""

from pathlib import Path

import numpy as np

from kimgnn.evaluation.history import History, read_history
from kimgnn.training.run_directory import MEMBERS


def run_history(run: Path) -> History:
    """Return every metric against the epoch; of an epoch that was trained again, the last time counts.

    Args:
        run: The run's directory, with one CSV log for each time it was started. Of an ensemble, the mean over its
            networks is returned, as long as all of them were trained.
    """
    if (run / MEMBERS).is_dir():
        return _mean([run_history(path) for path in sorted((run / MEMBERS).iterdir()) if path.is_dir()])
    logs = sorted(run.glob("logs/csv_logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    return read_history(*logs)


def _mean(histories: list[History]) -> History:
    histories = [history for history in histories if history]  # of one that failed before its first epoch
    means: History = {}
    for name in histories[0] if histories else ():
        if all(name in history for history in histories):
            n_epochs = min(len(history[name][0]) for history in histories)
            values = np.mean([history[name][1][:n_epochs] for history in histories], axis=0)
            means[name] = (histories[0][name][0][:n_epochs], values)
    return means
