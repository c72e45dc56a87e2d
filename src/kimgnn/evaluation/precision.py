"""What training in another precision gains and costs: time, memory and errors beside those of float32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kimgnn.evaluation.tables import aligned

REFERENCE = "float32"
"""The precision that others are compared with."""


@dataclass(frozen=True)
class PrecisionRow:
    """One training.

    Attributes:
        precision: ``float32``, ``bf16`` or ``fp16``.
        device: ``cpu`` or ``cuda``.
        why_not: Why there are no figures; empty where there are.
        step: Seconds of a training step, its share of validation among them.
        memory: The most that was held, MiB: on CUDA of tensors on the device, else of the process.
        metrics: Errors on the test set.
    """

    precision: str
    device: str
    why_not: str = ""
    step: float = math.nan
    memory: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)


def precision_table(rows: Sequence[PrecisionRow]) -> str:
    """Return a table, in Markdown: ratios and differences are to float32 on the same device."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics if not name.endswith("_count")))
    header = ["precision", "device", "ms a step", "times as fast", "MiB", "memory saved", *names]
    reference = {row.device: row for row in rows if row.precision == REFERENCE and not row.why_not}
    lines = [header]
    for row in rows:
        if row.why_not:
            lines.append([row.precision, row.device, *["–"] * (len(header) - 2)])
            continue
        base = reference.get(row.device, row)
        gains: list[str] = ["", ""]
        others: Mapping[str, float] = {}
        if base is not row:
            gains = [f"{base.step / row.step:.2f}", f"{1 - row.memory / base.memory:.0%}"]
            others = base.metrics
        errors = []
        for name in names:
            change = f" ({row.metrics[name] - others[name]:+.2g})" if name in row.metrics and name in others else ""
            errors.append(f"{row.metrics[name]:.4g}{change}" if name in row.metrics else "–")
        time, memory = f"{1000 * row.step:.1f}", f"{row.memory:,.0f}"
        lines.append([row.precision, row.device, time, gains[0], memory, gains[1], *errors])
    return aligned(lines, left=2)


def not_measured(rows: Sequence[PrecisionRow]) -> list[str]:
    """Return a line for each training without figures, with the reason."""
    return [f"- {row.precision} on {row.device}: not measured: {row.why_not}" for row in rows if row.why_not]


def as_json(rows: Sequence[PrecisionRow]) -> list[dict[str, Any]]:
    """Return the rows as JSON takes them."""
    return [
        {"precision": row.precision, "device": row.device, "not_measured": row.why_not}
        if row.why_not
        else {
            "precision": row.precision,
            "device": row.device,
            "seconds_per_step": row.step,
            "peak_mib": row.memory,
            "metrics": dict(row.metrics),
        }
        for row in rows
    ]
