"""``kimgnn tune``: the search for the best manifest, in one process or several."""

from __future__ import annotations

import math
import os
import pickle
import sys
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.log import set_up_log
from kimgnn.errors import KimgnnError, TrainingError

if TYPE_CHECKING:
    from kimgnn.training.tuning import Found, Search


def tune(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest, YAML, with a search space under tuning.space.", show_default=False)
    ],
    workers: Annotated[int, typer.Option(min=1, help="Trials to train at a time, each in its own process.")] = 1,
) -> None:
    """Search for the best values of a manifest; run again, it goes on. Writes best_manifest.yaml and a picture."""
    set_up_log()
    try:
        from kimgnn.training.tuning import begin, finish, prepare
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise TrainingError("needs the package optuna", remedy="Run: pip install 'kimgnn[tune]'.") from error

    search = prepare(manifest)
    remedy = "Wait for it, or name another file in tuning.storage; for several trials at a time take --workers."
    with alone(search.folder, remedy):
        left = begin(search)
        print(f"{left} of {search.tuning.trials} trials to go in {search.folder}")
        try:
            _train(search, left, workers)
        except KeyboardInterrupt:
            with suppress(KimgnnError):
                print(_told(finish(search), search))
            print(f"To go on: kimgnn tune {manifest}", file=sys.stderr)
            raise
        print(_told(finish(search), search))


def _train(search: Search, left: int, workers: int) -> None:
    """Train the trials that are left, here or in processes of their own."""
    # Processes begin afresh: a copy of this one would share its threads and its connection to the file.
    context = get_context("spawn")
    remaining = context.Value("i", left)
    deadline = time.time() + _seconds(search.tuning.timeout)
    if workers == 1:
        _work(pickle.dumps(search), remaining, deadline, 0, 1)
        return
    # As bytes, so that a process sets up its log before it imports what is in them.
    processes = [
        context.Process(target=_worker, args=(pickle.dumps(search), remaining, deadline, index, workers))
        for index in range(min(workers, left))
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(processes)} workers ended before their time (status {failed[0]})",
            remedy="Their messages are above. To go on, run the same again, with fewer --workers if memory was short.",
        )


def _work(search: bytes, remaining: Any, deadline: float, index: int, workers: int) -> None:
    from kimgnn.training.tuning import work

    def take() -> bool:
        with remaining.get_lock():
            remaining.value -= 1
            return bool(remaining.value >= 0)

    if workers > 1:
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        work(pickle.loads(search), take, deadline, index)
    except KimgnnError:
        remaining.value = 0  # what ended this process would end the others
        raise


def _worker(search: bytes, remaining: Any, deadline: float, index: int, workers: int) -> None:
    """What a process of its own does, from its first line on."""
    set_up_log()
    try:
        _work(search, remaining, deadline, index, workers)
    except KeyboardInterrupt:
        sys.exit(130)
    except KimgnnError as error:
        print(f"{type(error).__name__}:\n{error}", file=sys.stderr)
        sys.exit(1)


def _seconds(duration: str | None) -> float:
    """Return seconds of ``DD:HH:MM:SS``; no end without one."""
    if duration is None:
        return math.inf
    days, hours, minutes, seconds = map(int, duration.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _told(found: Found, search: Search) -> str:
    """Say what was found."""
    states = [row.state for row in found.rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [
        f"{len(states)} trials: {counts}",
        f"best: trial {found.number}, {search.tuning.metric} {found.value:.6g}",
        *(f"  {path}: {value}" for path, value in found.values.items()),
        f"train it with: kimgnn train {found.manifest}",
    ]
    return "\n".join(lines)
