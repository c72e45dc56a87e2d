"""The history of a run that may have been interrupted."""

from pathlib import Path

from kimgnn.evaluation.history import History, read_history


def run_history(run: Path) -> History:
    """Return every metric against the epoch; of an epoch that was trained again, the last time counts.

    Args:
        run: The run's directory, with one CSV log for each time it was started.
    """
    logs = sorted(run.glob("logs/csv_logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    return read_history(*logs)
