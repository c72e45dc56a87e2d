"""Transfer between tasks, and suggested weights."""

from __future__ import annotations

import pytest
import yaml

from kimgnn.evaluation.comparison import Criterion, RunRow, differences
from kimgnn.evaluation.tasks import (
    transfer,
    weights_by_balance,
    weights_by_loss,
    weights_yaml,
    with_alone_merged,
)


def test_negative_transfer_is_named_where_it_is_significant() -> None:
    """gap loses by ten spreads, eps gains as much, peak loses by less than one."""
    values = {
        "gap": ([0.10, 0.11, 0.09], [0.20, 0.21, 0.19]),
        "eps": ([2.0, 2.1, 1.9], [1.0, 1.1, 0.9]),
        "peak": ([50.0, 51.0, 49.0], [50.5, 51.5, 49.5]),
    }
    rows = []
    for head, (alone, together) in values.items():
        rows += [RunRow(f"alone: {head}", seed, {f"{head}_mae": value}) for seed, value in enumerate(alone)]
        rows += [RunRow("together", seed, {f"{head}_mae": value}) for seed, value in enumerate(together)]
    found = [Criterion(f"{head}_mae", head, f"{head} MAE") for head in values]
    told = differences(with_alone_merged(rows), found, "alone")
    assert [one.reference for one in told] == ["alone"] * 3
    negative, positive = transfer(told)
    assert negative.startswith("Negative transfer: gap MAE (together, p = 0.0")
    assert positive.startswith("Positive transfer: eps MAE (together, p = 0.0")
    assert "peak" not in negative + positive
    assert transfer(told[2:]) == ["No negative transfer is significant at 0.05 (which is no proof that there is none)."]
    once = [row for row in rows if row.seed == 0]
    assert transfer(differences(with_alone_merged(once), found, "alone"))[0].startswith("Negative transfer cannot be")


def test_weights_are_inverse_to_what_is_reached_alone() -> None:
    assert weights_by_loss({"a": 1.0, "b": 3.0}) == {"a": pytest.approx(1.5), "b": pytest.approx(0.5)}
    assert list(weights_by_loss({"a": 1.0, "likelihood": -2.0})) == ["a"]
    assert weights_by_balance({"a": 2.0, "b": 6.0}) == {"a": pytest.approx(0.5), "b": pytest.approx(1.5)}


def test_weights_can_be_pasted_into_the_manifest() -> None:
    heads = [
        {"type": "energy"},
        {"type": "property", "target": "gap", "unit": "Å"},
        {"type": "property", "target": "b"},
    ]
    loss = {"weights": {"config": 1.0, "energy": 2.0, "forces": 4.0, "stress": 0.0}}
    text = weights_yaml(heads, loss, {"energy": 0.5, "gap": 1.23456}, "fixed")
    pasted = yaml.safe_load(text)
    assert pasted["model"]["heads"] == [heads[0], heads[1] | {"weight": 1.23}, heads[2]]
    assert pasted["training"]["loss"] == {"balance": "fixed", "weights": {"energy": 1.0, "forces": 2.0}}
    learned = weights_yaml(heads, loss, {"energy": 0.5, "forces": 0.25, "gap": 1.0}, "fixed")
    assert yaml.safe_load(learned)["training"]["loss"]["weights"] == {"energy": 1.0, "forces": 1.0}
