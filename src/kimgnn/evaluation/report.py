"""The report of a run: a table, the pictures, and the same numbers for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kimgnn.evaluation.history import History
from kimgnn.evaluation.metrics import Parity, error_metrics, metrics_table
from kimgnn.evaluation.plots import learning_curves, parity_plot
from kimgnn.fields import LABELS
from kimgnn.files import atomic_write


def write_report(
    folder: str | Path,
    parities: Mapping[str, Mapping[str, Parity]],
    history: History,
    manifest: Mapping[str, Any],
) -> Path:
    """Write ``report.md``, ``metrics.json``, ``metrics.csv`` and the pictures, each complete or not at all.

    Args:
        folder: Where to; made if missing.
        parities: Split (``train``, ``val``, ``test``) -> label -> labels and predictions, as `compare` returns.
        history: Metrics against the epoch; may be empty.
        manifest: The run's manifest, quoted at the end of the report.

    Returns:
        The path of ``report.md``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {split: error_metrics(found) for split, found in parities.items()}
    with atomic_write(folder / "metrics.json") as file:
        json.dump(metrics, file, indent=2)
    with atomic_write(folder / "metrics.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "metric", "value"])
        writer.writerows([split, name, value] for split, values in metrics.items() for name, value in values.items())

    pictures: dict[str, str] = {}
    for label in LABELS:
        found = {split: labels[label] for split, labels in parities.items() if label in labels}
        if found:
            pictures[f"Parity: {label}"] = _save(parity_plot(label, found), folder / f"parity_{label}.png")
    if history:
        pictures["Learning curves"] = _save(learning_curves(history), folder / "learning_curves.png")

    sections = ["# Report", "## Errors", metrics_table(metrics)]
    for title, name in pictures.items():
        sections += [f"## {title}", f"![{title}]({name})"]
    sections += ["## Manifest", f"```yaml\n{yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True)}```"]
    with atomic_write(folder / "report.md") as file:
        file.write("\n\n".join(sections) + "\n")
    return folder / "report.md"


def _save(figure: Figure, path: Path) -> str:
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=150)
    return path.name
