"""How often calibrated intervals hold test labels: of each run, of all together, and over other divisions of the same.

    python benchmarks/coverage.py RUN [RUN ...]

Runs are of one manifest with different `workspace.seed`. "Other divisions" put validation and test structures of a run
together, draw new calibration and test sets of the same sizes, and calibrate and judge again, without training.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import yaml

from kimgnn.evaluation.calibrated import Calibration
from kimgnn.evaluation.calibration import fit_calibration, normal_quantile
from kimgnn.evaluation.heads import compare_heads
from kimgnn.evaluation.regression import Regression
from kimgnn.evaluation.sampling import predict_as_asked
from kimgnn.evaluation.tables import aligned
from kimgnn.evaluation.uncertainty import judge_values
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.tasks import tasks_of
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS
from kimgnn.training.shared_data import read_shared
from kimgnn.transforms.graph_cache import with_cache

DIVISIONS = 300
METHODS = ("conformal", "scaling")


def held_out(run: Path) -> tuple[dict[str, dict[str, Regression]], Calibration]:
    """Return ``val`` and ``test`` -> head -> result with raw deviations, and the run's calibration."""
    manifest = yaml.safe_load((run / "manifest.yaml").read_text(encoding="utf-8"))
    trained = load_checkpoint(run)
    configurations = read_shared(manifest, str(run)).configurations
    transform = TRANSFORMS.get(trained.transform["name"])(**trained.transform["kwargs"])
    transform, tasks = with_cache(transform, manifest["dataset"]["cache"]), tasks_of(trained.spec.heads)
    results = {}
    for split in ("val", "test"):
        indices = (run / f"{split}_indices.txt").read_text(encoding="utf-8").split()
        part = [configurations[int(index)] for index in indices]
        found = predict_as_asked(Potential(trained.network), part, transform, trained.manifest)
        told = compare_heads(tasks, found, part)
        results[split] = {
            name: result for name, result in told.items() if getattr(result, "deviation", None) is not None
        }
    calibration = Calibration.from_dict(trained.calibration)
    if calibration is None:
        raise SystemExit(f"{run}: not calibrated")
    return results, calibration


def chosen(result: Regression, there: np.ndarray) -> Regression:
    """Return those values of a result that are chosen."""
    arrays = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "task"}
    return replace(result, **{name: values[there] for name, values in arrays.items()})


def joined(first: Regression, second: Regression) -> Regression:
    """Return the values of two results, of different structures."""
    arrays = {}
    for field in fields(first):
        if field.name != "task":
            one, other = getattr(first, field.name), getattr(second, field.name)
            arrays[field.name] = np.concatenate([one, other + (one.max() + 1 if field.name == "structure" else 0)])
    return replace(first, **arrays)


def coverage(fitted: Regression, judged: Regression, method: str, level: float) -> float:
    """Return the coverage on one set of intervals that were calibrated on another."""
    own = fit_calibration(method, level, {fitted.task.name: fitted}).values[fitted.task.name]  # type: ignore[arg-type]
    found = judge_values(judged, fitted, own, method, level).calibrated
    return found.at_level  # type: ignore[union-attr]


def of_divisions(results: Mapping[str, Regression], level: float) -> dict[str, np.ndarray]:
    """Return method -> coverage of each of `DIVISIONS` other divisions."""
    rng, share = np.random.default_rng(0), {method: [] for method in METHODS}
    together = joined(results["val"], results["test"])
    structures = np.unique(together.structure)
    n_fitted = len(np.unique(results["val"].structure))
    for _ in range(DIVISIONS):
        there = np.isin(together.structure, rng.permutation(structures)[:n_fitted])
        for method in METHODS:
            share[method].append(coverage(chosen(together, there), chosen(together, ~there), method, level))
    return {method: np.array(values) for method, values in share.items()}


def main(runs: list[Path]) -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    found = {run: held_out(run) for run in runs}
    level = next(iter(found.values()))[1].level
    rows = [["head", "run", "test labels", "raw", "calibrated"]]
    for name in next(iter(found.values()))[0]["test"]:
        held = []
        for run, (results, calibration) in found.items():
            test, val = results["test"][name], results["val"][name]
            told = judge_values(test, val, calibration.values[name], calibration.method, level)
            held.append((len(test.reference), told.raw.at_level, told.calibrated.at_level))  # type: ignore[union-attr]
            rows.append([name, run.name, str(held[-1][0]), *(f"{100 * share:.1f} %" for share in held[-1][1:])])
        if len(runs) > 1:
            counts, *shares = map(np.array, zip(*held, strict=True))
            pooled = [f"{100 * (counts @ share) / counts.sum():.1f} %" for share in shares]
            rows.append([name, "all", str(counts.sum()), *pooled])
    print(f"labels within intervals of {100 * level:g} %; raw: {normal_quantile(level):.3f} deviations\n")
    print(aligned(rows, left=2))

    rows = [["head", "run", "method", "mean", "deviation", "87 to 93 %"]]
    for name in next(iter(found.values()))[0]["test"]:
        for run, (results, _) in found.items():
            for method, share in of_divisions({split: results[split][name] for split in results}, level).items():
                within = np.mean((share >= 0.87) & (share <= 0.93))
                cells = [f"{100 * value:.1f} %" for value in (share.mean(), share.std(), within)]
                rows.append([name, run.name, method, *cells])
    print(f"\n{DIVISIONS} other divisions of the same structures into calibration and test\n")
    print(aligned(rows, left=3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run directory")
    main(parser.parse_args().runs)
