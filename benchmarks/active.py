"""Active learning beside random selection: how many labels each needs for the same error, over several seeds.

    python benchmarks/active.py

Runs `kimgnn active` on a manifest with `baseline: random`, once a seed (of networks, exploration and random choice),
and draws the test errors against labels. What is compared: the labels that active selection needs for the lowest error
that random selection reaches, over the labels that random selection needs for it. Started again, it goes on; seeds may
be run by several processes at a time (`--seeds 2`), and are then drawn together by one more call.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml

from harness import RESULTS, Results
from kimgnn.active.loop import curve_rows, go_on, prepare
from kimgnn.evaluation.active import COLOURS, COMPARED, ERRORS, ArmRow, labels_needed
from kimgnn.manifest.trial import with_values

ERROR = "lowest of random (eV/Å)"
DRAWN = ("labels", ERRORS[COMPARED])
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


def curve(rows: list[ArmRow], arm: str) -> tuple[list[int], list[float]]:
    """Return labels and errors of an arm."""
    found = [(row.labels, row.metrics[COMPARED]) for row in rows if row.arm == arm]
    labels, errors = zip(*found, strict=True)
    return list(labels), list(errors)


def draw(figure, curves: dict[str, list[tuple[list[int], list[float]]]]) -> None:
    axes = figure.subplots()
    for colour, (arm, found) in zip(COLOURS, curves.items(), strict=True):
        labels, errors = found[0][0], np.array([errors for _, errors in found])
        axes.plot(labels, np.exp(np.log(errors).mean(0)), "o-", color=colour, label=f"{arm} selection")
        axes.fill_between(labels, errors.min(0), errors.max(0), color=colour, alpha=0.15, linewidth=0)
        for one in errors:
            axes.plot(labels, one, color=colour, linewidth=0.6, alpha=0.6)
    axes.set(xlabel="labels", ylabel=f"test {ERRORS[COMPARED]}", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("active"), help="of the runs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON and the picture")
    arguments = parser.parse_args()
    columns = {"seed": "d", ERROR: ".3f", "labels of random": ".1f", "labels of active": ".1f", "share %": ".0f"}
    results = Results("active", f"Active learning beside random selection, {len(arguments.seeds)} seeds", columns)
    curves: dict[str, list[tuple[list[int], list[float]]]] = {"active": [], "random": []}
    for seed in arguments.seeds:
        rows = rows_of(arguments.manifest, seed, arguments.folder)
        for arm, found in curves.items():
            found.append(curve(rows, arm))
        (labels, errors), (random_labels, random_errors) = curves["active"][-1], curves["random"][-1]
        error = min(random_errors)
        needed, beside = labels_needed(labels, errors, error), labels_needed(random_labels, random_errors, error)
        results.add(
            **{"seed": seed, ERROR: error, "labels of random": beside, "labels of active": needed},
            **{"share %": None if needed is None or not beside else 100 * needed / beside},
            **{f"{arm} {what}": found[-1][index] for arm, found in curves.items() for index, what in enumerate(DRAWN)},
        )
    results.write(arguments.output, lambda figure, _: draw(figure, curves))


if __name__ == "__main__":
    main()
