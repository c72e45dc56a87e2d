"""The report of a comparison: a table, the pictures, and the same numbers for programs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kimgnn.evaluation.class_plots import confusion_plot, roc_plot
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.heads import HeadResult, head_metrics
from kimgnn.evaluation.history import History
from kimgnn.evaluation.metrics import MEASURES, Parity, error_metrics, metrics_table
from kimgnn.evaluation.plots import learning_curves, parity_plot
from kimgnn.evaluation.regression import Regression
from kimgnn.evaluation.tables import aligned
from kimgnn.evaluation.uncertainty import Uncertainty
from kimgnn.evaluation.uncertainty_plots import class_plot, value_plot
from kimgnn.fields import LABELS
from kimgnn.files import atomic_write
from kimgnn.models.tasks import Task

UNCERTAINTY: Final = "Uncertainty: "
"""Before a head's name, the title of a picture."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The file to open.
        metrics: Split -> metric -> value.
        pictures: Title -> file, beside ``path``.
    """

    path: Path
    metrics: dict[str, dict[str, float]]
    pictures: dict[str, str]


def write_report(
    folder: str | Path,
    parities: Mapping[str, Mapping[str, Parity]],
    history: History,
    manifest: Mapping[str, Any],
    heads: Mapping[str, Mapping[str, HeadResult]] | None = None,
    uncertainty: Uncertainty | None = None,
) -> Report:
    """Write ``report.md``, ``metrics.json``, ``metrics.csv`` and the pictures, each complete or not at all.

    Args:
        folder: Where to; made if missing.
        parities: Split (``train``, ``val``, ``test``) -> label -> labels and predictions, as `compare` returns.
        history: Metrics against the epoch; may be empty.
        manifest: The run's manifest, quoted at the end of the report.
        heads: Split -> head -> labels and predictions, as `kimgnn.evaluation.heads.compare_heads` returns.
        uncertainty: How good deviations, intervals and probabilities are, where there are any.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    heads = {split: (heads or {}).get(split, {}) for split in parities}
    metrics = {split: error_metrics(found) | head_metrics(heads[split]) for split, found in parities.items()}
    if uncertainty is not None:
        metrics[uncertainty.split] |= uncertainty.metrics()
    confusions = {
        split: {
            f"{name}_confusion": result.confusion().tolist()
            for name, result in results.items()
            if isinstance(result, Classification)
        }
        for split, results in heads.items()
    }
    with atomic_write(folder / "metrics.json") as file:
        json.dump({split: values | confusions[split] for split, values in metrics.items()}, file, indent=2)
    with atomic_write(folder / "metrics.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "metric", "value"])
        writer.writerows([split, name, value] for split, values in metrics.items() for name, value in values.items())

    tasks = list({name: result.task for results in heads.values() for name, result in results.items()}.values())
    pictures: dict[str, str] = {}
    figures = _figures(parities, history, heads, tasks)
    for title, (name, figure) in (figures | _uncertainty_figures(uncertainty)).items():
        pictures[title] = save_figure(figure, folder / name)
    sections = ["# Report", "## Errors", metrics_table(metrics, tasks)]
    if notes := undefined_metrics(heads):
        sections.append("\n".join(f"- {note}" for note in notes))
    if uncertainty is not None:
        sections += ["## Uncertainty", *(aligned(table.rows, table.left) for table in uncertainty.tables())]
        sections += uncertainty.notes()
    for title, name in pictures.items():
        sections += [f"## {title}", f"![{title}]({name})"]
    sections += ["## Manifest", f"```yaml\n{yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True)}```"]
    with atomic_write(folder / "report.md") as file:
        file.write("\n\n".join(sections) + "\n")
    return Report(folder / "report.md", metrics, pictures)


def undefined_metrics(heads: Mapping[str, Mapping[str, HeadResult]]) -> list[str]:
    """Return a sentence for each metric that has no value, and why, for split -> head -> result."""
    return [
        f"{name}, {split}: {metric} is not defined: {reason}."
        for split, results in heads.items()
        for name, result in results.items()
        for metric, reason in result.undefined().items()
    ]


def save_figure(figure: Figure, path: Path) -> str:
    """Write a figure as PNG, whole or not at all, and return the file's name."""
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=150)
    return path.name


def _uncertainty_figures(uncertainty: Uncertainty | None) -> dict[str, tuple[str, Figure]]:
    """Return title -> file name and figure of every head that says how sure it is."""
    if uncertainty is None:
        return {}
    figures = {name: value_plot(found) for name, found in uncertainty.values.items()}
    figures |= {name: class_plot(found) for name, found in uncertainty.classes.items()}
    return {f"{UNCERTAINTY}{name}": (f"uncertainty_{_stem(name)}.png", figure) for name, figure in figures.items()}


def _stem(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _figures(
    parities: Mapping[str, Mapping[str, Parity]],
    history: History,
    heads: Mapping[str, Mapping[str, HeadResult]],
    tasks: Sequence[Task],
) -> dict[str, tuple[str, Figure]]:
    """Return title -> file name and figure."""
    figures: dict[str, tuple[str, Figure]] = {}
    for label in LABELS:
        found = {split: labels[label] for split, labels in parities.items() if label in labels}
        if found:
            figures[f"Parity: {label}"] = (f"parity_{label}.png", parity_plot(MEASURES[label], found))
    for task in tasks:
        stem = _stem(task.name)
        results = {split: named[task.name] for split, named in heads.items() if task.name in named}
        classified = {split: result for split, result in results.items() if isinstance(result, Classification)}
        compared = {split: result.parity() for split, result in results.items() if isinstance(result, Regression)}
        if compared:
            measure = next(measure for measure, _ in compared.values())
            figure = parity_plot(measure, {split: parity for split, (_, parity) in compared.items()})
            figures[f"Parity: {task.name}"] = (f"parity_{stem}.png", figure)
        if classified:
            figures[f"ROC: {task.name}"] = (f"roc_{stem}.png", roc_plot(classified))
            figures[f"Confusion: {task.name}"] = (f"confusion_{stem}.png", confusion_plot(classified))
    if history:
        figures["Learning curves"] = ("learning_curves.png", learning_curves(history, tasks))
    return figures
