"""``kimgnn data``: what a data set holds, and the same data set in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kimgnn.cli.data_cache import cache
from kimgnn.cli.log import set_up_log

if TYPE_CHECKING:
    from kimgnn.data.records import Record

data_app = typer.Typer(help="Data sets: what they hold, other formats, the cache.", no_args_is_help=True)
data_app.command()(cache)

Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="MANIFEST|FILES...",
        help="A manifest, whose data are read; or files and folders: tables, matbench, CGCNN's folders, ASE's formats.",
        show_default=False,
    ),
]


@data_app.command()
def stats(
    sources: Sources,
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("data_stats.png"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the picture.")] = False,
) -> None:
    """Show structures, elements, space groups and the distribution of every value; a picture of the same."""
    from kimgnn.data.stats import data_statistics
    from kimgnn.errors import DataError
    from kimgnn.evaluation.data_plots import statistics_plot, statistics_table
    from kimgnn.files import atomic_write

    if output.exists() and not force:
        raise DataError("exists already", where=str(output), remedy="Give another --output, or --force.")
    statistics = data_statistics(_records(sources))
    print(statistics_table(statistics))
    with atomic_write(output, "wb") as file:
        statistics_plot(statistics).savefig(file, format="png", dpi=150)
    print(f"\npicture in {output}")


@data_app.command()
def convert(
    sources: Sources,
    output: Annotated[
        Path,
        typer.Argument(
            help=".extxyz, .db, .csv, .jsonl, .json or .parquet (text also with .gz), or a new folder for CIFs.",
            show_default=False,
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file.")] = False,
) -> None:
    """Write a data set, with all its values, in the format that the output's name stands for."""
    from kimgnn.data.convert import write_records

    records = _records(sources)
    write_records(records, output, force)
    print(f"{len(records)} structures in {output}")


def _records(sources: list[Path]) -> list[Record]:
    """Return what a manifest or files hold; of files, what can be read."""
    set_up_log()
    from kimgnn.data.sources import read_records, source_of
    from kimgnn.manifest import load_manifest

    if len(sources) == 1 and sources[0].suffix in (".yaml", ".yml"):
        return read_records(load_manifest(sources[0]).to_dict()["dataset"])
    return [
        record for source in sources for record in read_records(source_of(source) | {"on_error": "skip"}, str(source))
    ]
