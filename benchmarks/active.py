"""Active learning beside random selection: how many labels each needs for the same error, over several seeds.

    python benchmarks/active.py

Runs `kimgnn active` on a manifest with `baseline: random`, once a seed (of networks, exploration and random choice),
and draws the test errors against labels. What is compared: the labels that active selection needs for the error that
random selection has with all of its labels; beside it, the lowest error that random selection had with any number of
labels. Started again, it goes on; seeds may be run by several processes at a time (`--seeds 2`), and are then drawn
together by one more call.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness import RESULTS, Results
from kimgnn.active.loop import curve_rows, go_on, prepare
from kimgnn.evaluation.active import COLOURS, ERRORS, ArmRow, labels_needed
from kimgnn.manifest.trial import with_values

COMPARED = ("energy_rmse", "forces_rmse")
ARMS = ("active", "random")
COLUMNS = {
    "error": "s", "seed": "d", "of random": ".4g", "labels of random": ".0f", "labels of active": ".1f",
    "share %": ".0f", "lowest of random": ".4g", "its labels": ".0f", "for it, active": ".1f",
}  # fmt: skip
MANIFEST = Path(__file__).resolve().parents[1] / "manifests" / "silicon_active.yaml"


def rows_of(manifest: Path, seed: int, folder: Path) -> list[ArmRow]:
    """Return the trainings of a seed, done now where they are not done yet."""
    changed = with_values(yaml.safe_load(manifest.read_text(encoding="utf-8")), {
        "workspace.seed": seed, "workspace.name": str(folder / f"seed_{seed}"),
    })  # fmt: skip
    # Beside the manifest, for the paths in it.
    temporary = manifest.with_name(f".{manifest.stem}_{seed}.yaml")
    try:
        temporary.write_text(yaml.safe_dump(changed), encoding="utf-8")
        project = prepare(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    project.folder.mkdir(parents=True, exist_ok=True)
    return curve_rows(go_on(project))


def curve(rows: list[ArmRow], arm: str, metric: str) -> tuple[list[int], list[float]]:
    """Return labels and errors of an arm."""
    found = [(row.labels, row.metrics[metric]) for row in rows if row.arm == arm]
    labels, errors = zip(*found, strict=True)
    return list(labels), list(errors)


def draw(figure, rows: list[dict[str, Any]]) -> None:
    for axes, metric in zip(figure.subplots(1, len(COMPARED)), COMPARED, strict=True):
        curves = [row["curves"] for row in rows if row["error"] == ERRORS[metric]]
        for colour, arm in zip(COLOURS, ARMS, strict=True):
            labels, errors = curves[0]["labels"], np.array([one[arm] for one in curves])
            axes.plot(labels, np.exp(np.log(errors).mean(0)), "o-", color=colour, label=f"{arm} selection")
            axes.fill_between(labels, errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0)
            for one in errors:
                axes.plot(labels, one, color=colour, linewidth=0.6, alpha=0.6)
        axes.set(xlabel="labels", ylabel=f"test {ERRORS[metric]}", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("active"), help="of the runs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON and the picture")
    arguments = parser.parse_args()
    results = Results("active", f"Active learning beside random selection, {len(arguments.seeds)} seeds", COLUMNS)
    for seed in arguments.seeds:
        rows = rows_of(arguments.manifest, seed, arguments.folder)
        for metric in COMPARED:
            (labels, errors), (random_labels, random_errors) = (curve(rows, arm, metric) for arm in ARMS)
            last, lowest = random_errors[-1], min(random_errors)
            needed = labels_needed(labels, errors, last)
            results.add(
                **{"error": ERRORS[metric], "seed": seed, "of random": last, "labels of random": random_labels[-1]},
                **{"labels of active": needed},
                **{"share %": None if needed is None else 100 * needed / random_labels[-1]},
                **{"lowest of random": lowest, "its labels": labels_needed(random_labels, random_errors, lowest)},
                **{"for it, active": labels_needed(labels, errors, lowest)},
                curves={"labels": labels, "active": errors, "random": random_errors},
            )
    results.write(arguments.output, draw)


if __name__ == "__main__":
    main()
