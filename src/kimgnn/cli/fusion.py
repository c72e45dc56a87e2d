"""``kimgnn fusion``: the network alone, and with its composition joined to it in each way."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.compare import Output, Seeds
from kimgnn.cli.experiments import REMEDY, failures, finish, require_rows, told_of, train_all
from kimgnn.cli.log import set_up_log

if TYPE_CHECKING:
    from kimgnn.training.experiments import Experiment, Member

NONE: Final = "none"
FUSIONS: Final = ("early", "attention", "intermediate", "late")


def fusion(
    manifest: Annotated[
        Path, typer.Argument(help="A manifest, with model.composition or without.", show_default=False)
    ],
    seeds: Seeds = 3,
    output: Output = None,
) -> None:
    """Train a network alone and with features of the composition, fused in each of the four ways, on the same splits.

    Says which of them are better than the network alone by more than the spread, and which are not.
    """
    set_up_log()
    from kimgnn.evaluation.comparison import criteria
    from kimgnn.evaluation.comparison_plots import bar_plot, time_plot
    from kimgnn.training.experiments import begin, member_of

    members, left_out = _members(member_of(manifest))
    if left_out:
        print(left_out, file=sys.stderr)
    model = members[0].manifest["model"]["name"]
    folder = output or Path(members[0].manifest["workspace"]["name"]) / f"{model}_fusion"
    with alone(folder, REMEDY):
        experiment = begin(folder, members, seeds)
        train_all(experiment)
        rows = experiment.rows(asked_only=True)
        require_rows(rows, folder)
        found = criteria(rows, experiment.tasks)
        paragraphs = told_of(rows, found, NONE, "fusion") + _late_weights(experiment, members[-1])
        paragraphs += ([left_out] if left_out else []) + failures(rows)
        pictures = {"bars.png": bar_plot(rows, found), "time_accuracy.png": time_plot(rows, found)}
        finish(folder, "fusion.md", "Composition and structure", paragraphs, pictures)


def _members(asked: Member) -> tuple[list[Member], str]:
    """Return the network alone and with each fusion that it can have, and why it cannot have the late one, if so."""
    from kimgnn.errors import ManifestError
    from kimgnn.manifest import load_manifest
    from kimgnn.training.experiments import Member

    block = asked.manifest["model"]["composition"] or {}
    members, left_out = [], ""
    for name in (NONE, *FUSIONS):
        changed = deepcopy(asked.manifest)
        changed["model"]["composition"] = None if name == NONE else block | {"fusion": name}
        try:
            members.append(Member(name, load_manifest(changed).to_dict()))
        except ManifestError as error:
            if name != "late":  # which alone asks for more than a network
                raise
            left_out = f"late fusion is left out: {error}"
    return members, left_out


def _late_weights(experiment: Experiment, late: Member) -> list[str]:
    """Say how much of the late fusion's predictions is the network's, by head."""
    found = [run["late_weights"] for run in experiment.runs_of(late) if run["late_weights"]]
    if not found:
        return []
    shares = {name: ", ".join(f"{weights[name]:.2g}" for weights in found) for name in found[0]}
    told = "; ".join(f"{name} {values}" for name, values in shares.items())
    return [f"Weight of the network beside the forest in late fusion, chosen on validation data, by seed: {told}."]
