"""Run directories: one a run, named as KLIFF names them, shared by all processes, written by one at a time."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from kimgnn.errors import TrainingError

_TIME_FORMAT = "%Y-%m-%d-%H-%M-%S"
_SUFFIX = r"(\d{4}(?:-\d\d){5}|job-.+?)(?:_(\d+))?"
"""What follows the model's name: the time, or the job, and a number where that was taken."""

MEMBERS: Final = "members"
"""Of the runs of an ensemble's networks, in its run directory."""

_VARIABLE = "KIMGNN_RUN_DIR"
"""Tells the processes that the first one starts which directory is theirs."""


def process_rank() -> int:
    """Return the rank of this process among those that train together, 0 for one that trains alone."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if variable in os.environ:
            return int(os.environ[variable])
    return 0


class RunDirectory:
    """A run's folder.

    Attributes:
        path: The folder.
        resumed: It was there already, and the run goes on.
    """

    def __init__(self, path: Path, resumed: bool = False) -> None:
        self.path = path
        self.resumed = resumed

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Checkpoint with the lowest validation loss (training loss without a validation set)."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last epoch that ended."""
        return self.checkpoints / "last.ckpt"

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on from: an epoch of a network, or the networks of an ensemble."""
        return self.last.exists() or (self.path / MEMBERS).exists()

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / ".finished").exists()

    def mark_finished(self) -> None:
        """Record that the run came to its end (KLIFF's mark)."""
        (self.path / ".finished").touch()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the directory.

        Raises:
            TrainingError: Another process is training in it.
        """
        with open(self.path / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    "another process is training in this run directory",
                    where=str(self.path),
                    remedy="Wait for it, stop it, or start a run of its own with workspace.resume: false.",
                ) from error
            except OSError:  # a file system without locks
                pass
            yield


def open_run_directory(
    workspace: Path, name: str, resume: bool | str, rank: int, now: datetime | None = None
) -> RunDirectory:
    """Return the directory that a run works in, made by rank 0 if it is new.

    Args:
        workspace: Folder of run directories.
        name: The model's name; a run is resumed only under exactly this name.
        resume: Continue the newest unfinished run, or the newest if all are finished; or the run in this directory. A
            new run begins where there is nothing to continue.
        rank: Of this process; those started by rank 0 work in its directory.
        now: Time in the name of a new directory.

    Raises:
        TrainingError: ``resume`` is no directory of a run, or the directory of this job is already there.
    """
    if rank > 0 and _VARIABLE in os.environ:
        path = Path(os.environ[_VARIABLE])
        return RunDirectory(path, resumed=RunDirectory(path).last.exists())
    directory = None
    if resume:
        directory = newest_run(workspace, name) if resume is True else _given(str(resume))
    if directory is None:
        directory = _new(workspace, name, rank, now or datetime.now())
    if rank == 0:
        os.environ[_VARIABLE] = str(directory.path)
    return directory


def _given(path: str) -> RunDirectory:
    directory = RunDirectory(Path(path), resumed=True)
    if not directory.checkpoints.is_dir():
        raise TrainingError(
            "not a run directory with checkpoints", where="workspace.resume", value=path,
            remedy="Give the folder of one run, or true for the newest one of this model's name.",
        )  # fmt: skip
    return directory


def newest_run(workspace: Path, name: str) -> RunDirectory | None:
    """Return the newest unfinished run of a name, or the newest if all are finished; ``None`` without one."""
    runs = []
    for path in workspace.glob("*"):
        if path.is_dir() and (match := re.fullmatch(f"{re.escape(name)}_{_SUFFIX}", path.name)):
            directory = RunDirectory(path, resumed=True)
            if not directory.begun:  # it failed before its first step
                continue
            runs.append((not directory.finished, match[1], int(match[2] or 0), directory))
    return max(runs, key=lambda run: run[:3])[3] if runs else None


def _new(workspace: Path, name: str, rank: int, now: datetime) -> RunDirectory:
    job = _job()
    path = workspace / f"{name}_{job or now.strftime(_TIME_FORMAT)}"
    if rank > 0:
        return RunDirectory(path)
    workspace.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            path.mkdir()
            return RunDirectory(path)
        except FileExistsError:
            if job:
                raise TrainingError(
                    "this job's run directory is already there", where=str(path),
                    remedy="Continue it with workspace.resume: true, or change model.name.",
                ) from None  # fmt: skip
            number += 1
            path = workspace / f"{name}_{now.strftime(_TIME_FORMAT)}_{number}"


def _job() -> str:
    """Return a name that processes started together share, where a launcher starts them all; else an empty string."""
    environment = os.environ
    if int(environment.get("SLURM_NTASKS") or 1) > 1:
        return f"job-{environment['SLURM_JOB_ID']}"
    if "TORCHELASTIC_RUN_ID" in environment and int(environment.get("WORLD_SIZE") or 1) > 1:
        run = environment["TORCHELASTIC_RUN_ID"]
        return f"job-{run}" if run != "none" else f"job-port{environment.get('MASTER_PORT', '')}"
    return ""
