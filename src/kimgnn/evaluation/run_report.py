"""The report of a run: one HTML file that stands alone, what it was made of, `test_results.csv` and a model card."""

from __future__ import annotations

import base64
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml
from ase.formula import Formula
from jinja2 import Environment, PackageLoader, StrictUndefined

from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.columns import (
    ATTENTION,
    class_columns,
    csv_cells,
    label_uncertainty_columns,
    uncertainty_columns,
    value_columns,
)
from kimgnn.evaluation.floor import composition_floor
from kimgnn.evaluation.heads import (
    HeadResult,
    Values,
    compare_heads,
    compare_labels,
    target_of,
)
from kimgnn.evaluation.history import History
from kimgnn.evaluation.metrics import (
    HEAD_METRICS,
    Parity,
    compare,
    format_metric,
    metrics_tables,
    with_unit,
)
from kimgnn.evaluation.model_card import ModelFacts, write_model_card
from kimgnn.evaluation.plots import label_plot
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.regression import drawn, drawn_as
from kimgnn.evaluation.report import UNCERTAINTY, Report, save_figure, undefined_metrics, write_report
from kimgnn.evaluation.tables import Table
from kimgnn.evaluation.uncertainty import Uncertainty
from kimgnn.fields import ENERGY, FORCES, STRESS
from kimgnn.files import atomic_write
from kimgnn.models.tasks import LABEL_TASKS, Task
from kimgnn.transforms.graph import configuration_name, label_of

if TYPE_CHECKING:
    from kliff.dataset import Configuration

WORST: Final = 10
"""Structures told of each head, the worst first."""

NETWORK: Final = "this network"
"""What the network is called beside the floor."""


@dataclass(frozen=True)
class Split:
    """A part of the data, and what the best weights say about it.

    Attributes:
        configurations: Structures, with ``metadata["targets"]`` where there are property or classification heads.
        predictions: One a structure.
    """

    configurations: Sequence[Configuration]
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class Timing:
    """How long training took.

    Attributes:
        seconds: Of the whole training.
        epochs: Trained in that time.
        seconds_per_epoch: Of a usual epoch.
        structures_per_second: Of training.
        device: Where.
        networks: Of an ensemble; times and epochs are added up over them.
    """

    seconds: float
    epochs: int
    seconds_per_epoch: float
    structures_per_second: float
    device: str = "cpu"
    networks: int = 1


def write_run_report(
    folder: str | Path,
    splits: Mapping[str, Split],
    tasks: Sequence[Task],
    history: History,
    manifest: Mapping[str, Any],
    timing: Timing | None = None,
    n_parameters: int | None = None,
    seed: int = 0,
    uncertainty: Uncertainty | None = None,
) -> Report:
    """Write ``report.html``, ``report.md``, the metrics, the pictures, the results of a split and ``MODEL_CARD.md``.

    The split that counts is ``test``, or ``val``, or ``train``, the first that there is: the composition floor, the
    worst structures and ``{split}_results.csv`` are of it.

    Args:
        folder: Where to; made if missing.
        splits: ``train``, ``val``, ``test`` -> structures and predictions; without the empty ones.
        tasks: What the property and classification heads predict.
        history: Metrics against the epoch; may be empty.
        manifest: The run's manifest.
        timing: How long training took.
        n_parameters: Numbers that the network learned.
        seed: Of the floor's forest.
        uncertainty: How good deviations, intervals and probabilities are, where there are any.

    Returns:
        ``report.html``, the metrics of every split, and the pictures.

    Raises:
        DataError: A target has another shape than its head predicts.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parities: dict[str, dict[str, Parity]] = {}
    heads: dict[str, dict[str, HeadResult]] = {}
    for name, split in splits.items():
        parities[name] = compare(split.predictions, split.configurations)
        heads[name] = compare_heads(tasks, split.predictions, split.configurations)
    written = write_report(folder, parities, history, manifest, heads, uncertainty)

    judged = next(name for name in ("test", "val", *splits) if name in splits)
    chosen = splits[judged]
    results: dict[str, HeadResult] = {**compare_labels(chosen.predictions, chosen.configurations), **heads[judged]}
    floors = _floors(results, splits, judged, seed) if judged != "train" and "train" in splits else {}
    _write_results(folder / f"{judged}_results.csv", chosen, tasks)

    pictures = dict(written.pictures)
    targets = _targets(splits, tasks)
    if targets:
        name = save_figure(label_plot(targets), folder / "labels.png")
        pictures = {"Labels": name} | pictures
    facts = ModelFacts(
        manifest,
        metrics_tables(written.metrics, tasks),
        _floor_tables(results, floors),
        [_verdict(results[name], floor) for name, floor in floors.items()],
        _data_table(splits),
        _elements(splits),
        judged,
        timing,
        n_parameters,
        uncertainty.tables() if uncertainty else (),
        uncertainty.notes() if uncertainty else (),
    )
    write_model_card(folder / "MODEL_CARD.md", facts)
    environment = Environment(
        loader=PackageLoader("kimgnn.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    shown = {title: _embedded(folder / name) for title, name in pictures.items()}
    html = environment.get_template("report.html.j2").render(
        facts=facts,
        labels=_label_tables(targets),
        notes=undefined_metrics(heads),
        pictures={title: picture for title, picture in shown.items() if not title.startswith(UNCERTAINTY)},
        of_uncertainty={title: picture for title, picture in shown.items() if title.startswith(UNCERTAINTY)},
        classes=[task.name for task in tasks if task.kind == "classification"],
        worst={name: _worst(result, chosen.configurations) for name, result in results.items()},
        manifest=yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True),
    )
    with atomic_write(folder / "report.html") as file:
        file.write(html)
    return Report(folder / "report.html", written.metrics, pictures)


# -- Composition floor --------------------------------------------------------------------------------------------


def _floors(
    results: Mapping[str, HeadResult], splits: Mapping[str, Split], judged: str, seed: int
) -> dict[str, dict[str, HeadResult]]:
    """Return head -> model -> result, of the energy and of each head that something can be learned for."""
    train, test = splits["train"].configurations, splits[judged].configurations
    floors = {}
    for name, result in results.items():
        task = result.task
        if task in (LABEL_TASKS[FORCES], LABEL_TASKS[STRESS]):
            continue  # composition says nothing about them
        found = composition_floor(task, train, _labels(train, task), test, _labels(test, task), seed)
        if found:
            floors[name] = found
    return floors


def _labels(configurations: Sequence[Configuration], task: Task) -> Values:
    if task == LABEL_TASKS[ENERGY]:
        return [np.array([label_of(item, ENERGY)], dtype=np.float64) for item in configurations]
    return [target_of(item, task) for item in configurations]


def _floor_tables(results: Mapping[str, HeadResult], floors: Mapping[str, Mapping[str, HeadResult]]) -> list[Table]:
    """Return a table for each kind of head: the network, then what composition alone gives."""
    tables = []
    for kind, titles in HEAD_METRICS.items():
        rows: list[tuple[str, str, dict[str, float]]] = []
        for name, floor in floors.items():
            if results[name].task.kind == kind:
                title = with_unit(name, results[name].task.unit)
                models = {NETWORK: results[name], **floor}
                rows += [(title, model, result.metrics()) for model, result in models.items()]
        columns = [metric for metric in titles if any(metric in metrics for _, _, metrics in rows)]
        if rows:
            cells = [
                [title, model, *(format_metric(found.get(name)) for name in columns)] for title, model, found in rows
            ]
            tables.append(Table([["head", "model", *(titles[name] for name in columns)], *cells], left=2))
    return tables


def _verdict(result: HeadResult, floor: Mapping[str, HeadResult]) -> str:
    """Return whether the network is better than the best of composition alone, in a sentence."""
    own, others = result.metrics(), [found.metrics() for found in floor.values()]
    task = result.task
    if isinstance(result, Classification):
        units = {"auc" if "auc" in own else "log_loss": ""}
    else:
        units = {"mae_per_atom": f"{task.unit}/atom"} if task.extensive else {"mae": task.unit}
        units |= {"mae_log10": ""} if "mae_log10" in own else {}
    better, numbers = True, []
    for metric, unit in units.items():
        rising = metric == "auc"
        bar = (max if rising else min)(found[metric] for found in others)
        better &= own[metric] > bar if rising else own[metric] < bar
        numbers.append(f"{HEAD_METRICS[task.kind][metric]} {own[metric]:.3g} against {bar:.3g} {unit}".rstrip())
    return f"{task.name}: {'better' if better else 'NOT better'} than composition alone: {', '.join(numbers)}."


# -- Data ---------------------------------------------------------------------------------------------------------


def _data_table(splits: Mapping[str, Split]) -> Table:
    rows = [["split", "structures", "atoms", "smallest", "largest", "elements"]]
    for name, split in splits.items():
        sizes = [len(item.species) for item in split.configurations]
        elements = {symbol for item in split.configurations for symbol in item.species}
        rows.append([name, *map(str, (len(sizes), sum(sizes), min(sizes), max(sizes), len(elements)))])
    return Table(rows)


def _elements(splits: Mapping[str, Split]) -> dict[str, int]:
    """Return element -> how many training structures hold it, the most frequent first."""
    split = splits.get("train") or next(iter(splits.values()))
    counts = Counter(symbol for item in split.configurations for symbol in set(item.species))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _targets(splits: Mapping[str, Split], tasks: Sequence[Task]) -> dict[str, tuple[Task, dict[str, Any]]]:
    """Return name (unit) -> head's task, and split -> its labels as they are `drawn`; the energy's too."""
    shown = [LABEL_TASKS[ENERGY]] if any(split.predictions[0].energy is not None for split in splits.values()) else []
    found: dict[str, tuple[Task, dict[str, Any]]] = {}
    for task in [*shown, *tasks]:
        values = {}
        for name, split in splits.items():
            labels = _labels(split.configurations, task)
            sizes = [
                np.full(label.size, len(item.species)) for item, label in zip(split.configurations, labels, strict=True)
            ]
            values[name] = drawn(task, np.concatenate([np.ravel(label) for label in labels]), np.concatenate(sizes))
        if any(np.isfinite(labels).any() for labels in values.values()):
            found[with_unit(*drawn_as(task))] = (task, values)
    return found


def _label_tables(targets: Mapping[str, tuple[Task, Mapping[str, Any]]]) -> list[Table]:
    """Return how many labels there are, and how they are distributed: of numbers, of classes."""
    numbers = [["head", "split", "labels", "missing", "mean", "deviation", "smallest", "largest"]]
    classes = [["head", "split", "labels", "missing", "structures of each class"]]
    for title, (task, by_split) in targets.items():
        for split, values in by_split.items():
            known = values[np.isfinite(values)]
            row = [title, split, str(len(known)), str(len(values) - len(known))]
            if task.kind == "classification":
                counts = np.bincount(known.astype(np.int64), minlength=len(task.classes))
                shares = ", ".join(f"{kind} {count}" for kind, count in zip(task.classes, counts, strict=True))
                classes.append([*row, shares])
            elif len(known):
                spread = (known.mean(), known.std(), known.min(), known.max())
                numbers.append(row + [f"{value:.4g}" for value in spread])
            else:
                numbers.append(row + ["–"] * 4)
    return [Table(rows, left=2) for rows in (numbers, classes) if len(rows) > 1]


# -- Structures ---------------------------------------------------------------------------------------------------


def _worst(result: HeadResult, configurations: Sequence[Configuration]) -> Table:
    """Return the structures with the largest errors: identifier, formula, label, prediction, error."""
    structures, places = result.errors_of_structures()
    rows = []
    for structure, place in zip(structures[:WORST], places[:WORST], strict=True):
        item = configurations[int(structure)]
        row = [configuration_name(item), formula(item)]
        if isinstance(result, Classification):
            classes, chances = result.task.classes, result.probabilities[place]
            true, taken = int(result.reference[place]), int(result.predicted[place])
            rows.append([*row, classes[true], classes[taken] if taken >= 0 else "–", f"{chances[true]:.3g}"])
        else:
            scale = result.divisor[place]
            values = (result.reference[place], result.predicted[place], result.error[place])
            rows.append(row + [f"{value / scale:.5g}" for value in values])
    if isinstance(result, Classification):
        return Table([["structure", "formula", "class", "predicted", "probability of its class"], *rows], left=4)
    unit = result.parity()[0].unit
    titles = [with_unit(name, unit) for name in ("label", "predicted", "error")]
    return Table([["structure", "formula", *titles], *rows], left=2)


def formula(configuration: Configuration) -> str:
    """Return the formula of a whole structure, in Hill's order."""
    return str(Formula.from_list(list(configuration.species)).format("hill"))


def _write_results(path: Path, split: Split, tasks: Sequence[Task]) -> None:
    """Write a row a structure: identifier, formula, and label and prediction of the energy and of each head."""
    rows: list[dict[str, Any]] = []
    for item, prediction in zip(split.configurations, split.predictions, strict=True):
        row: dict[str, Any] = {"id": configuration_name(item), "formula": formula(item), "atoms": len(item.species)}
        if prediction.energy is not None:
            label = np.array([label_of(item, ENERGY)], dtype=np.float64)
            row |= value_columns("energy target", "eV", label)
            row |= value_columns("energy prediction", "eV", np.array([prediction.energy]))
            row |= label_uncertainty_columns(ENERGY, prediction)
        for task in tasks:
            target, value = target_of(item, task), prediction.properties[task.name]
            if task.kind == "classification":
                known = not np.isnan(target).any()
                row[f"{task.name} target"] = task.classes[int(target.item())] if known else None
                row |= class_columns(f"{task.name} prediction", task, value)
            else:
                row |= value_columns(f"{task.name} target", task.unit, target)
                row |= value_columns(f"{task.name} prediction", task.unit, value)
            row |= uncertainty_columns(task.name, task, prediction)
        if prediction.attention is not None:
            row[ATTENTION] = prediction.attention
        rows.append(csv_cells(row))
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows(rows)


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
