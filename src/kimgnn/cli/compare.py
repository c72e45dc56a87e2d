"""``kimgnn compare``: several networks on the same data, the same splits and several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.experiments import REMEDY, failures, finish, require_rows, told_of, train_all
from kimgnn.cli.log import set_up_log
from kimgnn.errors import ManifestError

Seeds = Annotated[int, typer.Option(min=1, help="How often each is trained, with other weights at the start.")]
Output = Annotated[
    Path | None,
    typer.Option(help="Folder of the results, which later calls add to.", show_default=False),
]


def compare(
    manifests: Annotated[
        list[Path], typer.Argument(help="Manifests of the same data; the first one says who is in which split.")
    ],
    seeds: Seeds = 3,
    output: Output = None,
) -> None:
    """Train networks on the same splits with several seeds, and say which differences are more than the spread.

    What is trained already is not trained again, and what a folder has of other manifests is shown beside.
    """
    set_up_log()
    from kimgnn.evaluation.comparison import criteria
    from kimgnn.evaluation.comparison_plots import bar_plot, time_plot
    from kimgnn.training.experiments import RESULTS, begin, member_of

    members = [member_of(path) for path in manifests]
    folder = output or Path(members[0].manifest["workspace"]["name"]) / "comparison"
    if len(members) == 1 and not (folder / RESULTS).is_file():
        raise ManifestError(
            "a single manifest has nothing to be compared with",
            where="MANIFESTS",
            value=str(manifests[0]),
            remedy="Name two or more, or in --output a folder that has results of others.",
        )
    with alone(folder, REMEDY):
        experiment = begin(folder, members, seeds)
        train_all(experiment)
        rows = experiment.rows()
        require_rows(rows, folder)
        found = criteria(rows, experiment.tasks)
        pictures = {"bars.png": bar_plot(rows, found), "time_accuracy.png": time_plot(rows, found)}
        paragraphs = told_of(rows, found, None, "network") + failures(rows)
        finish(folder, "comparison.md", "Comparison", paragraphs, pictures)
