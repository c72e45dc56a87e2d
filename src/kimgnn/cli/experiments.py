"""Trains what is left of an experiment, one process after another, and writes what came out; for several commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimgnn.errors import TrainingError
from kimgnn.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kimgnn.evaluation.comparison import Criterion, RunRow
    from kimgnn.training.experiments import Experiment, Job

REMEDY = "Wait for it, or name another folder in --output."
"""Where another process works in the same folder."""


def train_all(experiment: Experiment) -> None:
    """Train what has no result yet, a process each; one that fails is told, recorded and left behind.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; what was under way is trained again next time.
    """
    from kimgnn.evaluation.comparison import duration

    sizes = experiment.division.sizes
    print(
        f"{sizes['train']} structures to train, {sizes['val']} to validate, {sizes['test']} to test; the same for all."
    )
    jobs = experiment.pending()
    n_all = len(experiment.members) * len(experiment.seeds)
    if len(jobs) < n_all:
        print(f"{n_all - len(jobs)} of {n_all} trainings are in {experiment.folder} already.")
    for number, job in enumerate(jobs, 1):
        try:
            outcome = _train(experiment, job)
        except KeyboardInterrupt:
            print("To go on, run the same again.", file=sys.stderr)
            raise
        experiment.record(job, outcome)
        told = f"{number}/{len(jobs)} {job.member.label}, seed {job.seed}: "
        if "error" in outcome:
            print(f"{told}failed and is left out: {outcome['error']}", file=sys.stderr, flush=True)
        else:
            shown = f"{duration(outcome['seconds'])}, {outcome['epochs']} epochs, {outcome['memory']:,.0f} MiB"
            print(told + shown, flush=True)


def write_pictures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write figures as PNG files of these names."""
    from kimgnn.evaluation.report import save_figure

    for name, figure in figures.items():
        save_figure(figure, folder / name)


def told_of(rows: Sequence[RunRow], found: Sequence[Criterion], reference: str | None, title: str) -> list[str]:
    """Return the table, a sentence for each difference, and by what rule they are told; paragraphs of Markdown."""
    from kimgnn.evaluation.comparison import comparison_table, differences, how_told, verdict
    from kimgnn.evaluation.tables import aligned

    told = differences(rows, found, reference)
    table = comparison_table(rows, found, title)
    paragraphs = [aligned(table.rows, table.left)]
    if told:
        paragraphs.append("\n".join(f"- {verdict(difference)}" for difference in told))
    return paragraphs + how_told(rows, told)


def failures(rows: Sequence[RunRow]) -> list[str]:
    """Return a paragraph that says what failed and why, if anything did."""
    failed = [f"- {row.label}, seed {row.seed}: {row.error.splitlines()[0]}" for row in rows if row.error]
    return ["\n".join(["Failed, and tried again next time:", "", *failed])] if failed else []


def finish(folder: Path, name: str, title: str, paragraphs: Sequence[str], pictures: Mapping[str, Figure]) -> None:
    """Print what was found, and write it as Markdown with its pictures."""
    write_pictures(folder, pictures)
    shown = [f"![{picture}]({picture})" for picture in pictures]
    with atomic_write(folder / name) as file:
        file.write("\n\n".join([f"# {title}", *paragraphs, *shown]) + "\n")
    print()
    print("\n\n".join(paragraphs))
    print(f"\nin {folder}: {', '.join([name, *pictures])}")


def require_rows(rows: Sequence[RunRow], folder: Path) -> None:
    """Refuse to tell of trainings none of which came to its end.

    Raises:
        TrainingError: With the reasons.
    """
    if all(row.error for row in rows):
        reasons = list(dict.fromkeys(row.error.splitlines()[0] for row in rows))
        raise TrainingError(
            f"no training came to its end: {'; '.join(reasons[:3])}",
            where=str(folder),
            remedy="Correct the manifests, and run the same again.",
        )


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let a request to end come as an exception, so that no process is left behind."""

    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(experiment: Experiment, job: Job) -> dict[str, Any]:
    """Train in a process of its own, which writes a log, and return what came out."""
    folder = experiment.folder / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    asked, outcome, log = (folder / f"{job.name}.{end}" for end in ("job.json", "outcome.json", "log"))
    outcome.unlink(missing_ok=True)
    with atomic_write(asked) as file:
        json.dump({"manifest": job.manifest, "structures": job.structures}, file, indent=1)
    command = [sys.executable, "-m", "kimgnn.cli.one_training", str(asked), str(outcome)]
    with open(log, "w", encoding="utf-8") as file, _ending_at_once():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait()
        except BaseException:  # Ctrl-C reaches the process too, unless it is in the background
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
    if outcome.is_file():
        found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
        if "error" not in found:
            for path in (asked, outcome):
                path.unlink()
        return found
    if status == 130:
        raise KeyboardInterrupt
    why = f"by signal {-status}" if status < 0 else f"with status {status}"
    hint = "; memory was short, perhaps" if status == -signal.SIGKILL else ""
    return {"error": f"the process ended {why}{hint}; see {log}"}
