"""Networks trained with several seeds on the same data: means, spreads, and which differences are more than those."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kimgnn.evaluation.metrics import HEAD_METRICS, MEASURES, with_unit
from kimgnn.evaluation.tables import Table
from kimgnn.fields import LABELS

if TYPE_CHECKING:
    from kimgnn.models.tasks import Task

LEVEL: Final = 0.05
"""Of the tests: of unreal differences, at most this share is called real."""

MAIN: Final = {"regression": ("mae_log10", "mae"), "classification": ("auc", "balanced_accuracy")}
"""Kind of a head -> metrics to compare it by: the first that every network has."""

RISING: Final = ("auc", "balanced_accuracy")
"""Metrics of which more is better."""


@dataclass(frozen=True)
class RunRow:
    """One training.

    Attributes:
        label: What was trained.
        seed: Of the weights.
        metrics: Of the test set.
        seconds: Of training, validation included; NaN where a part is missing.
        epochs: Trained.
        parameters: Numbers that were learned.
        memory: Largest memory of the process, MiB.
        gpu_memory: Largest memory of tensors on the GPU, MiB.
        device: Where.
        error: Why there is nothing else.
    """

    label: str
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    epochs: float = math.nan
    parameters: float = math.nan
    memory: float = math.nan
    gpu_memory: float | None = None
    device: str = ""
    error: str = ""


@dataclass(frozen=True)
class Criterion:
    """A metric that networks are compared by.

    Attributes:
        metric: Its name among the metrics of a run.
        head: Whose it is.
        title: What a reader calls it, with its unit.
        rising: More is better.
    """

    metric: str
    head: str
    title: str
    rising: bool = False


@dataclass(frozen=True)
class Difference:
    """What was found of two networks.

    Attributes:
        criterion: What is compared.
        reference: The one that the other is held against.
        other: The other one.
        values: Of both, one a seed.
        p: Of Welch's t-test, before any correction; ``None`` where it cannot be told.
        adjusted: After Holm's correction for all tests together.
        tests: How many these are.
    """

    criterion: Criterion
    reference: str
    other: str
    values: tuple[NDArray[np.float64], NDArray[np.float64]]
    p: float | None
    adjusted: float | None = None
    tests: int = 0

    @property
    def gain(self) -> float:
        """By how much the other one is better; negative where it is worse."""
        ours, others = (float(np.mean(values)) for values in self.values)
        return others - ours if self.criterion.rising else ours - others

    @property
    def outside(self) -> bool:
        """Whether it is more than seeds explain, at `LEVEL`."""
        return self.adjusted is not None and self.adjusted < LEVEL


def criteria(rows: Sequence[RunRow], tasks: Sequence[Task]) -> list[Criterion]:
    """Return what the networks are compared by: energy, forces and stress where tested, and a metric of each head."""
    done = [row for row in rows if not row.error]
    found = [
        Criterion(f"{label}_mae", label, f"{label} MAE ({MEASURES[label].error_unit})")
        for label in LABELS
        if any(f"{label}_mae" in row.metrics for row in done)
    ]
    for task in tasks:
        having = [row for row in done if f"{task.name}_count" in row.metrics]
        for metric in MAIN[task.kind]:
            name = f"{task.name}_{metric}"
            if having and all(name in row.metrics for row in having):
                unit = task.unit if metric == "mae" else ""
                title = with_unit(f"{task.name} {HEAD_METRICS[task.kind][metric]}", unit)
                found.append(Criterion(name, task.name, title, metric in RISING))
                break
    return found


def labels_of(rows: Iterable[RunRow]) -> list[str]:
    """Return what was trained, in the order of the rows."""
    return list(dict.fromkeys(row.label for row in rows))


def values_of(rows: Sequence[RunRow], label: str, metric: str) -> NDArray[np.float64]:
    """Return a metric of all trainings of ``label`` that have it, ``(n,)``."""
    return np.array([row.metrics[metric] for row in rows if row.label == label and metric in row.metrics])


def merged(rows: Sequence[RunRow]) -> list[RunRow]:
    """Return one row for a label and seed of which there are several: networks that share the work, a head each.

    Their metrics are put together, and times and parameters added; the largest memory is that of the largest. Where one
    failed, what is added is not known.
    """
    together = []
    for _, group in groupby(sorted(rows, key=lambda row: (row.label, row.seed)), lambda row: (row.label, row.seed)):
        parts = list(group)
        whole = replace(
            parts[0],
            metrics={name: value for row in parts for name, value in row.metrics.items()},
            seconds=sum(row.seconds for row in parts),
            epochs=sum(row.epochs for row in parts),
            parameters=sum(row.parameters for row in parts),
            memory=max((row.memory for row in parts if not math.isnan(row.memory)), default=math.nan),
            gpu_memory=max((row.gpu_memory for row in parts if row.gpu_memory), default=None),
            error="; ".join(row.error for row in parts if row.error) if all(row.error for row in parts) else "",
        )
        together.append(whole)
    order = labels_of(rows)
    return sorted(together, key=lambda row: (order.index(row.label), row.seed))


def welch(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return the two-sided p of Welch's t-test, of means of normal values whose variances need not be the same.

    ``None`` where there is nothing to tell it by: less than two values on a side, or no spread at all.
    """
    if min(len(one), len(other)) < 2 or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    if np.ptp(one) == 0 and np.ptp(other) == 0:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # of one side that does not spread
        return float(stats.ttest_ind(one, other, equal_var=False).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm, Scand. J. Statist. 6, 65, 1979).

    Args:
        ps: Of several tests; ``None`` is left out and stays.
    """
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected


def differences(rows: Sequence[RunRow], found: Sequence[Criterion], reference: str | None = None) -> list[Difference]:
    """Return every network held against one, by every criterion that both have.

    Where that one is the best, it was chosen by the values that are tested. p is corrected for all pairs of networks
    then, so that the level holds whichever turns out to be the best.

    Args:
        rows: The trainings.
        found: The criteria.
        reference: Which one; the best by each criterion when absent.
    """
    labels = labels_of(rows)
    told: list[Difference] = []
    untold: list[float | None] = []  # p of pairs without the best
    for criterion in found:
        values = {label: values_of(rows, label, criterion.metric) for label in labels}
        values = {label: array for label, array in values.items() if len(array)}
        held = reference
        if held is None and values:
            means = {label: float(np.mean(array)) for label, array in values.items()}
            held = (max if criterion.rising else min)(means, key=lambda label: means[label])
        if held not in values:
            continue
        for label, array in values.items():
            if label != held:
                told.append(Difference(criterion, held, label, (values[held], array), welch(values[held], array)))
        if reference is None:
            others = [array for label, array in values.items() if label != held]
            untold += [welch(one, other) for one, other in combinations(others, 2)]
    ps = [difference.p for difference in told] + untold
    tests = sum(p is not None for p in ps)
    return [replace(difference, adjusted=p, tests=tests) for difference, p in zip(told, holm(ps), strict=False)]


def verdict(difference: Difference) -> str:
    """Say in a sentence whether a difference is outside the spread."""
    ours, others = difference.values
    title, metric = difference.criterion.title, f"{difference.other} {spread(others)}"
    text = f"{title}: {metric} against {difference.reference} {spread(ours)}"
    fewest = min(len(ours), len(others))
    if difference.adjusted is None:
        why = "one seed has no spread" if fewest < 2 else "no spread to hold it against"
        return f"{text}: whether this is a difference cannot be told ({why})."
    better = "better" if difference.gain > 0 else "worse"
    p = f"p = {difference.adjusted:.2g}" if difference.adjusted >= 1e-4 else "p < 0.0001"
    if difference.outside:
        return f"{text}: {better}, outside the spread ({p})."
    return f"{text}: within the spread ({p})."


def how_told(rows: Sequence[RunRow], told: Sequence[Difference]) -> list[str]:
    """Say by what rule differences are told, and what they do not tell."""
    tested = [difference for difference in told if difference.p is not None]
    notes = []
    if tested:
        tests = tested[0].tests
        pairs = ", those of all pairs: the best was chosen first" if tests > len(tested) else ""
        notes.append(
            f"Outside the spread: Welch's t-test over the seeds, p < {LEVEL} after Holm's correction for "
            f"{tests} comparison{'s' if tests > 1 else ''}{pairs}. ± is the standard deviation over seeds."
        )
        fewest = min(len(values) for difference in tested for values in difference.values)
        if fewest < 5:
            notes.append(
                f"{fewest} seeds are few: only a difference of several spreads can be told, and one that is within the "
                "spread may still be real. More --seeds tell more, and keep these."
            )
        notes.append("The spread is that of the seed alone; on another split, networks may change places.")
    devices = {row.device for row in rows if row.device}
    if len(devices) > 1:
        notes.append(f"Times were taken on different devices and are not comparable: {'; '.join(sorted(devices))}.")
    return notes


def comparison_table(rows: Sequence[RunRow], found: Sequence[Criterion], title: str = "network") -> Table:
    """Return a row for each network: its metrics, times, parameters and memory, mean ± spread over seeds."""
    with_gpu = any(row.gpu_memory for row in rows)
    header = [title, *(criterion.title for criterion in found), "time", "epochs", "parameters", "peak memory (MiB)"]
    table = [header + (["GPU memory (MiB)"] if with_gpu else []) + ["seeds"]]
    for label in labels_of(rows):
        own = [row for row in rows if row.label == label]
        done = [row for row in own if not row.error]
        cells = [label, *(spread(values_of(done, label, criterion.metric)) for criterion in found)]
        cells.append(_times(row.seconds for row in done))
        cells += [_mean(row.epochs for row in done), _mean(row.parameters for row in done)]
        cells.append(_mean(row.memory for row in done))
        if with_gpu:
            cells.append(_mean(row.gpu_memory or math.nan for row in done))
        failed = len(own) - len(done)
        cells.append(f"{len(done)}" + (f" ({failed} failed)" if failed else ""))
        table.append(cells)
    return Table(table)


def spread(values: NDArray[np.float64]) -> str:
    """Return ``mean ± standard deviation`` over seeds, with as many digits as the deviation has two of."""
    if not len(values):
        return "–"
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    if not math.isfinite(mean) or not math.isfinite(deviation) or deviation == 0.0:
        return f"{mean:.4g}" + (" ± 0" if deviation == 0.0 else "")
    digits = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time as a reader takes it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.2f} h"


def _times(seconds: Iterable[float]) -> str:
    values = [value for value in seconds if not math.isnan(value)]
    return duration(float(np.mean(values))) if values else "–"


def _mean(values: Iterable[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{np.mean(known):,.0f}" if known else "–"
