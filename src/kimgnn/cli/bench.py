"""``kimgnn bench``: what choices of a training gain and cost on this machine."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.experiments import REMEDY, require_rows, train_all
from kimgnn.cli.log import set_up_log
from kimgnn.errors import ManifestError
from kimgnn.files import atomic_write

if TYPE_CHECKING:
    from kimgnn.evaluation.precision import PrecisionRow
    from kimgnn.training.experiments import Experiment, Member

bench_app = typer.Typer(help="What choices of a training gain and cost on this machine.", no_args_is_help=True)

RESULT = "precision.json"
NO_CUDA = "no CUDA device"
NO_FP16 = "float16 is not trained with on a CPU"


@bench_app.callback()
def bench() -> None:
    """What choices of a training gain and cost on this machine."""


@bench_app.command()
def precision(
    manifest: Annotated[Path, typer.Argument(help="The manifest, YAML; of an architecture.", show_default=False)],
    epochs: Annotated[int, typer.Option(min=1, help="Passes through the training set, in each precision.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default=False)] = None,
) -> None:
    """Train the same network for a few epochs in float32, bf16 and fp16, as far as the device can.

    Each is trained in a process of its own, from the same weights, on the same batches. Tells time and memory beside
    those of float32, and the errors on the test set.
    """
    set_up_log()
    from kimgnn.evaluation.precision import as_json, not_measured, precision_table
    from kimgnn.training.experiments import begin, member_of
    from kimgnn.training.lightning_run import choose_accelerator

    given = member_of(manifest).manifest
    if given["model"]["architecture"] is None:
        raise ManifestError("needs an architecture", where=f"{manifest}: model.architecture", value=None)
    device = choose_accelerator(given["training"]["accelerator"])
    folder = output or Path(given["workspace"]["name"]) / "precision"
    members = members_of(given, device, epochs)
    with alone(folder, REMEDY):
        experiment = begin(folder, members, 1)
        train_all(experiment)
        require_rows(experiment.rows(asked_only=True), folder)
        rows = rows_of(experiment, device)
        with atomic_write(folder / RESULT) as file:
            json.dump({"manifest": str(manifest), "epochs": epochs, "rows": as_json(rows)}, file, indent=1)
    print("", precision_table(rows), "", *not_measured(rows), f"\nin {folder}: {RESULT}", sep="\n")


def members_of(given: dict[str, Any], device: str, epochs: int) -> list[Member]:
    """Return the trainings of a plain manifest that the device is able to do."""
    from kimgnn.training.experiments import Member

    members = []
    for label, mixed in {"float32": None, "bf16": "bf16", "fp16": "fp16"}.items():
        if label == "fp16" and device != "cuda":
            continue
        plain = deepcopy(given)
        plain["model"]["precision"] = "single"
        plain["training"] |= {
            "mixed_precision": mixed,
            "epochs": epochs,
            "early_stopping": None,
            "max_time": None,
            "accelerator": device,
        }
        members.append(Member(label, plain))
    return members


def rows_of(experiment: Experiment, device: str) -> list[PrecisionRow]:
    """Return what was measured, and why the rest was not."""
    from kimgnn.evaluation.precision import PrecisionRow

    failed = {row.label: row.error.splitlines()[0] for row in experiment.rows(asked_only=True) if row.error}
    rows = [PrecisionRow(label, device, reason) for label, reason in failed.items()]
    for member in experiment.members:
        for run in experiment.runs_of(member):
            memory = run["gpu_memory" if device == "cuda" else "memory"]
            rows.append(PrecisionRow(member.label, device, "", run["seconds"] / run["steps"], memory, run["metrics"]))
    if device == "cpu":
        rows.append(PrecisionRow("fp16", "cpu", NO_FP16))
        rows += [PrecisionRow(label, "cuda", NO_CUDA) for label in ("float32", "bf16", "fp16")]
    return rows
