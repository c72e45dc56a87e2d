"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kimgnn.errors import TrainingError


@contextmanager
def alone(folder: Path, remedy: str) -> Iterator[None]:
    """Keep other processes out of the folder, which is made if missing.

    Raises:
        TrainingError: Another process works there.
    """
    from kimgnn.training.run_directory import RunDirectory

    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(RunDirectory(folder).lock())
        except TrainingError as error:
            raise TrainingError("another process is at work here", where=str(folder), remedy=remedy) from error
        yield
