"""``kimgnn importance``: what a trained network owes to the composition, and what to the structure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kimgnn.cli.log import set_up_log
from kimgnn.errors import DataError, ModelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def importance(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run directory of a network with model.composition.", show_default=False),
    ],
    split: Annotated[
        Literal["test", "validation", "train"], typer.Option(help="The part of the run's data that is looked at.")
    ] = "test",
    repeats: Annotated[int, typer.Option(min=1, help="Permutations.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the permutations.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write into; RUN/importance by default.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Take the composition or the structure away, permuted or zeroed, and tell by how much the errors grow.

    Of attention fusion also the weights, by element and by crystal system. Tables as CSV, and pictures.
    """
    set_up_log()
    from kimgnn.evaluation.importance import AttentionShare, Importance, attention_shares
    from kimgnn.evaluation.importance import importance as find
    from kimgnn.evaluation.importance_plots import attention_plot, attention_table, importance_plot, importance_table
    from kimgnn.evaluation.predict import predict
    from kimgnn.manifest import load_manifest
    from kimgnn.models.tasks import tasks_of
    from kimgnn.training.run_directory import RunDirectory
    from kimgnn.training.trainer import GNNLightningTrainer

    folder = output or run / "importance"
    if folder.exists() and not force:
        raise DataError("exists already", where=str(folder), remedy="Give another --output, or --force.")
    if not (run / "manifest.yaml").is_file():
        raise ModelError("not a run directory", where=str(run), remedy="Give the folder that `kimgnn train` made.")
    if not RunDirectory(run).finished:
        raise ModelError(
            "the run is not finished", where=str(run), remedy=f"Finish it: kimgnn train MANIFEST --resume {run}"
        )
    plain = load_manifest(run / "manifest.yaml").to_dict()
    plain["workspace"]["resume"] = str(run)
    trainer = GNNLightningTrainer(plain)
    structures = trainer.splits[split]
    if not structures:
        there = [name for name, part in trainer.splits.items() if part]
        raise DataError("the run has no such part", where="--split", value=split, allowed=", ".join(there))
    potential: Any = trainer.best_potential()
    tasks = tasks_of(plain["model"]["heads"])
    found = find(potential.network, tasks, structures, trainer.graph_of, repeats, seed)
    shares = attention_shares(predict(potential, structures, trainer.graph_of), structures)

    folder.mkdir(parents=True, exist_ok=True)
    print(importance_table(found))
    _write(folder / "importance", [field.name for field in fields(Importance)], found, importance_plot(found))
    if shares:
        print(f"\n{attention_table(shares)}")
        _write(folder / "attention", [field.name for field in fields(AttentionShare)], shares, attention_plot(shares))
    print(f"\ntables and pictures in {folder}")


def _write(path: Path, columns: Sequence[str], rows: Sequence[Any], picture: Figure) -> None:
    """Write a table and its picture, ``.csv`` and ``.png``."""
    from kimgnn.files import atomic_write

    with atomic_write(path.with_suffix(".csv")) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    with atomic_write(path.with_suffix(".png"), "wb") as file:
        picture.savefig(file, format="png", dpi=150)
