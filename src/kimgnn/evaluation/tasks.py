"""What tasks gain and lose by sharing a network, and what they should count for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import yaml

from kimgnn.evaluation.comparison import LEVEL, Difference, RunRow, merged
from kimgnn.fields import LABELS
from kimgnn.models.tasks import head_name

ALONE: Final = "alone"
"""A network for each head."""

TOGETHER: Final = "together"
"""One network for all."""

BY_LOSS: Final = "1 / L, where L is the lowest loss that the head reaches alone (mean over seeds)"
BY_BALANCE: Final = "exp(-s) / c, as the learned balance found it (s: logarithm of a task's noise variance)"
"""Rules of suggested weights. The first is where the second ends if the losses stay as they are."""


def with_alone_merged(rows: Sequence[RunRow]) -> list[RunRow]:
    """Return the rows with the networks of single heads put together, seed by seed, as `ALONE`."""
    return merged([replace(row, label=ALONE) if row.label.startswith(f"{ALONE}: ") else row for row in rows])


def transfer(told: Sequence[Difference]) -> list[str]:
    """Say which heads lose, and which gain, by being learned together: significantly, or by no more than the spread.

    Args:
        told: Networks of all heads against those of single ones.
    """
    sentences = []
    for gained, name in ((False, "Negative"), (True, "Positive")):
        found = [one for one in told if one.outside and (one.gain > 0) == gained]
        if found:
            which = "; ".join(f"{one.criterion.title} ({one.other}, p = {one.adjusted:.2g})" for one in found)
            sentences.append(f"{name} transfer: {which}.")
    tested = sum(one.adjusted is not None for one in told)
    if tested and not any(one.outside and one.gain < 0 for one in told):
        sentences.append(f"No negative transfer is significant at {LEVEL} (which is no proof that there is none).")
    if not tested:
        sentences.append("Negative transfer cannot be told: that takes two seeds at least.")
    return sentences


def weights_by_loss(losses: Mapping[str, float]) -> dict[str, float]:
    """Return head -> suggested factor of its weight, `BY_LOSS`, their mean 1; without losses that are not positive.

    It is the minimum of ``exp(-s) L / c + s / 2`` over s (Kendall, Gal & Cipolla, CVPR 2018), at the losses given.
    """
    inverse = {name: 1.0 / loss for name, loss in losses.items() if loss > 0 and math.isfinite(loss)}
    return _of_mean_one(inverse)


def weights_by_balance(balance: Mapping[str, float]) -> dict[str, float]:
    """Return label or head -> suggested factor of its weight, `BY_BALANCE`, their mean 1."""
    return _of_mean_one(balance)


def weights_yaml(
    heads: Sequence[Mapping[str, Any]], loss: Mapping[str, Any], factors: Mapping[str, float], balance: str
) -> str:
    """Return the blocks of a manifest with suggested weights, to be pasted.

    Args:
        heads: As they were written.
        loss: The manifest's ``training.loss``, every default filled.
        factors: Head or label -> what multiplies its weight; ``energy`` stands for forces and stress where they have
            none of their own. What has none keeps its weight.
        balance: What the weights are for.
    """
    lines = ["model:", "  heads:"]
    for head in heads:
        weighed = dict(head)
        factor = factors.get(head_name(head))
        if head["type"] != "energy" and factor is not None:
            # A learned balance multiplies what the weight has multiplied; a loss alone was that of weight 1.
            weighed["weight"] = _rounded(factor)
        flow = yaml.safe_dump(weighed, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
        lines.append(f"    - {flow.strip()}")
    lines += ["training:", "  loss:", f"    balance: {balance}"]
    if "energy" in factors and not isinstance(loss["weights"], str):
        weights = {label: loss["weights"][label] for label in LABELS if loss["weights"][label]}
        scaled = {label: _rounded(weight * factors.get(label, factors["energy"])) for label, weight in weights.items()}
        lines.append(f"    weights: {yaml.safe_dump(scaled, default_flow_style=True, sort_keys=False).strip()}")
    return "\n".join(lines) + "\n"


def _of_mean_one(values: Mapping[str, float]) -> dict[str, float]:
    mean = sum(values.values()) / len(values) if values else 1.0
    return {name: value / mean for name, value in values.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
