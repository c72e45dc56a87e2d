"""``kimgnn active``: active learning, round after round."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kimgnn.cli.alone import alone
from kimgnn.cli.log import set_up_log


def active(
    manifest: Annotated[Path, typer.Argument(help="The manifest, YAML, with an active block.", show_default=False)],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try labels that failed and were skipped once more, of all rounds.")
    ] = False,
) -> None:
    """Train a committee, explore with it, have labelled what it is unsure of, train again; run again, it goes on."""
    set_up_log()
    from kimgnn.active.loop import curve_rows, go_on, prepare
    from kimgnn.active.state import ACTIVE
    from kimgnn.evaluation.active import write_curves

    project = prepare(manifest)
    with alone(project.folder, "Wait for it, or give another workspace.name or model.name."):
        try:
            state = go_on(project, retry_failed)
        except KeyboardInterrupt:
            print(f"To go on: kimgnn active {manifest}", file=sys.stderr)
            raise
        print(write_curves(project.folder, curve_rows(state), project.active.threshold))
        if not state.stopped:
            print(f"Compute the structures, put the results beside them, and go on: kimgnn active {manifest}")
            return
        print(f"It ends by {state.stopped}. Export it with: kimgnn export {state.rounds[-1].runs[ACTIVE]}")
