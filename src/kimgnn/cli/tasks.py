"""``kimgnn tasks``: what the heads of a network gain and lose by sharing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.compare import Output, Seeds
from kimgnn.cli.experiments import REMEDY, failures, finish, require_rows, told_of, train_all
from kimgnn.cli.log import set_up_log
from kimgnn.files import atomic_write

if TYPE_CHECKING:
    from kimgnn.evaluation.correlation import Correlation
    from kimgnn.training.experiments import Experiment, Member

WEIGHTS = "weights.yaml"


def tasks(
    manifest: Annotated[Path, typer.Argument(help="A manifest with several heads.", show_default=False)],
    seeds: Seeds = 3,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help="Train all together also with this balance (fixed, inverse_spread, uncertainty) or with this many "
            "layers of each head's own (split_depth=N); give it for each.",
            show_default=False,
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Train every head alone and all together, on the same splits and seeds, and say what they gain and lose by it.

    Also how labels and errors are correlated, and which weights are suggested.
    """
    set_up_log()
    from kimgnn.evaluation.comparison import criteria, differences
    from kimgnn.evaluation.comparison_plots import bar_plot
    from kimgnn.evaluation.correlation import correlation_plot
    from kimgnn.evaluation.tables import aligned
    from kimgnn.evaluation.tasks import ALONE, transfer, with_alone_merged
    from kimgnn.training import task_study
    from kimgnn.training.experiments import begin, member_of

    asked = member_of(manifest)
    singles = task_study.alone(asked.manifest)
    shared = task_study.together(asked.manifest, variants or [])
    folder = output or Path(asked.manifest["workspace"]["name"]) / f"{asked.manifest['model']['name']}_tasks"
    with alone(folder, REMEDY):
        experiment = begin(folder, [*shared, *singles.values()], seeds)
        train_all(experiment)
        each = experiment.rows(asked_only=True)
        rows = with_alone_merged(each)
        rows.sort(key=lambda row: row.label != ALONE)
        require_rows(rows, folder)
        found = criteria(rows, experiment.tasks)
        paragraphs = told_of(rows, found, ALONE, "heads")
        paragraphs += transfer(differences(rows, found, ALONE))
        paragraphs.append(
            "alone: a network for each head, trained on the structures that have its label; times, epochs and "
            "parameters are those of all of them together. Every network is tested on the same structures."
        )
        panels = _correlations(experiment, shared[0])
        for title, panel in panels.items():
            table = panel.table()
            paragraphs.append(f"{title}:\n\n{aligned(table.rows, table.left)}")
        paragraphs += [_suggest(folder, manifest, experiment, singles, shared), *failures(each)]
        pictures = {"bars.png": bar_plot(rows, found)}
        if panels:
            pictures["correlations.png"] = correlation_plot(panels)
        finish(folder, "tasks.md", "Tasks, alone and together", paragraphs, pictures)


def _correlations(experiment: Experiment, shared: Member) -> dict[str, Correlation]:
    """Return title -> correlations of labels in all structures, and of errors in the test structures."""
    from kimgnn.evaluation.correlation import correlate, scalar_labels, titles
    from kimgnn.training.measured_training import compared_tasks
    from kimgnn.training.task_study import residuals

    compared = compared_tasks(shared.manifest["model"]["heads"])
    named = titles(compared)
    found = {
        "correlation of labels, all structures": scalar_labels(compared, experiment.data.configurations),
        "correlation of errors, all heads together, test structures": residuals(experiment, shared),
    }
    return {
        title: correlate({named[name]: array for name, array in values.items()})
        for title, values in found.items()
        if len(values) > 1
    }


def _suggest(
    folder: Path, path: Path, experiment: Experiment, singles: Mapping[str, Member], shared: Sequence[Member]
) -> str:
    """Write suggested weights, and say by what rule."""
    from kimgnn.evaluation.tasks import BY_BALANCE, BY_LOSS, weights_by_balance, weights_by_loss, weights_yaml
    from kimgnn.manifest.source import read_yaml
    from kimgnn.training.task_study import learned_balance, losses_alone

    manifest = shared[0].manifest
    loss: dict[str, Any] = manifest["training"]["loss"]
    learned = learned_balance(experiment, shared)
    if learned:
        weights = {head: 1.0 for head in learned} | _head_weights(manifest)
        factors = weights_by_balance({name: value * weights[name] for name, value in learned.items()})
        rule, balance = BY_BALANCE, "fixed"
    else:
        factors, rule = weights_by_loss(losses_alone(experiment, singles)), BY_LOSS
        balance = loss["balance"] if loss["balance"] != "uncertainty" else "fixed"
    if len(factors) < 2:
        return "No weights are suggested: that takes a positive loss of two heads at least."
    text = weights_yaml(read_yaml(path)["model"]["heads"], loss, factors, balance)
    with atomic_write(folder / WEIGHTS) as file:
        file.write(f"# Suggested by kimgnn tasks: {rule}; their mean is 1.\n{text}")
    return f"Suggested weights, {rule}; their mean is 1 ({WEIGHTS}):\n\n```yaml\n{text}```"


def _head_weights(manifest: Mapping[str, Any]) -> dict[str, float]:
    from kimgnn.models.tasks import head_name

    return {head_name(head): head["weight"] for head in manifest["model"]["heads"] if "weight" in head}
