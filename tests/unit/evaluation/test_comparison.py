"""Means, spreads and tests over seeds, on numbers known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kimgnn.evaluation.comparison import (
    Criterion,
    RunRow,
    comparison_table,
    criteria,
    differences,
    duration,
    holm,
    how_told,
    merged,
    spread,
    verdict,
    welch,
)
from kimgnn.evaluation.comparison_plots import bar_plot, time_plot
from kimgnn.models.tasks import Task

GAP = Task("gap", "regression", "gap", "eV")
EPS = Task("eps", "regression", "eps", transform="log10")
METAL = Task("metal", "classification", "metal", classes=("no", "yes"))


def rows(label: str, *values: float, metric: str = "gap_mae", **changes: float) -> list[RunRow]:
    costs = {"seconds": 60.0, "epochs": 3, "parameters": 1000, "memory": 500.0} | changes
    return [RunRow(label, seed, {metric: value, "gap_count": 8.0}, **costs) for seed, value in enumerate(values)]


def test_welch_is_that_of_the_textbook() -> None:
    """Equal variances and sizes of two: 2 degrees of freedom, where p = 1 - t / sqrt(2 + t²)."""
    t = 4 / math.sqrt(2 / 2 + 2 / 2)  # means 1 and 5, variances 2 and 2
    assert welch(np.array([0.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-12)
    # Variances 0 and 2: all degrees of freedom, 1, are those of the second; p = 1 - 2 atan(t) / π.
    t = 3 / math.sqrt(2 / 2)
    assert welch(np.array([2.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-12)


@pytest.mark.parametrize(("one", "other"), [([1.0], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0]), ([1.0, np.nan], [2.0, 3.0])])
def test_without_a_spread_there_is_no_test(one: list[float], other: list[float]) -> None:
    assert welch(np.array(one), np.array(other)) is None


def test_holm_corrects_for_the_number_of_tests() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_best_is_held_against_the_others() -> None:
    found = [Criterion("gap_mae", "gap", "gap MAE (eV)")]
    told = differences([*rows("a", 0.30, 0.31, 0.29), *rows("b", 0.10, 0.11, 0.09), *rows("c", 0.1, 0.12, 0.1)], found)
    assert [(one.reference, one.other) for one in told] == [("b", "a"), ("b", "c")]
    assert [one.outside for one in told] == [True, False]
    assert told[0].gain == pytest.approx(-0.2)
    assert verdict(told[0]).startswith(
        "gap MAE (eV): a 0.300 ± 0.010 against b 0.100 ± 0.010: worse, outside the spread"
    )
    assert "within the spread (p = " in verdict(told[1])
    # The best was chosen first: of three pairs one is not told, but counts.
    a, b, c = (np.array(values) for values in ([0.30, 0.31, 0.29], [0.10, 0.11, 0.09], [0.1, 0.12, 0.1]))
    assert [one.adjusted for one in told] == holm([welch(b, a), welch(b, c), welch(a, c)])[:2]
    assert told[1].adjusted == told[1].p  # the largest of three is corrected for itself alone
    assert "for 3 comparisons, those of all pairs" in how_told(rows("a", 0.3), told)[0]


def test_a_reference_given_beforehand_is_corrected_for_its_own_pairs() -> None:
    found = [Criterion("gap_mae", "gap", "gap MAE (eV)")]
    data = [*rows("a", 0.30, 0.31, 0.29), *rows("b", 0.10, 0.11, 0.09), *rows("c", 0.1, 0.12, 0.1)]
    told = differences(data, found, reference="a")
    assert [one.adjusted for one in told] == holm([one.p for one in told])
    assert "for 2 comparisons." in how_told(data, told)[0]


def test_more_is_better_of_an_auc() -> None:
    found = [Criterion("metal_auc", "metal", "metal AUC", rising=True)]
    both = [*rows("a", 0.8, 0.81, metric="metal_auc"), *rows("b", 0.9, 0.91, metric="metal_auc")]
    (told,) = differences(both, found)
    assert (told.reference, told.other) == ("b", "a")
    assert told.gain < 0
    (against,) = differences(both, found, reference="a")
    assert against.other == "b"
    assert against.gain > 0


def test_one_seed_tells_nothing() -> None:
    both = [*rows("a", 0.3), *rows("b", 0.1)]
    told = differences(both, [Criterion("gap_mae", "gap", "gap MAE (eV)")])
    assert verdict(told[0]).endswith("cannot be told (one seed has no spread).")
    assert how_told(both, told) == []


def test_few_seeds_and_other_devices_are_told() -> None:
    both = [*rows("a", 0.3, 0.2), *rows("b", 0.1, 0.2)]
    both = [RunRow(**{**vars(row), "device": f"device of {row.label}"}) for row in both]
    notes = " ".join(how_told(both, differences(both, [Criterion("gap_mae", "gap", "gap MAE (eV)")])))
    assert "2 seeds are few" in notes
    assert "for 1 comparison." in notes
    assert "device of a; device of b" in notes


def test_criteria_are_what_every_network_with_the_head_has() -> None:
    """A logarithm where it is learned and defined, balanced accuracy where an area is not."""
    one = RunRow("a", 0, {"energy_mae": 1.0, "eps_mae_log10": 0.1, "eps_mae": 1.0, "eps_count": 4.0})
    two = RunRow("b", 0, {"eps_mae": 1.0, "eps_count": 4.0, "metal_balanced_accuracy": 0.5, "metal_count": 4.0})
    failed = RunRow("c", 0, error="no")
    assert [item.metric for item in criteria([one, failed], [EPS])] == ["energy_mae", "eps_mae_log10"]
    found = criteria([one, two], [GAP, EPS, METAL])
    assert [item.metric for item in found] == ["energy_mae", "eps_mae", "metal_balanced_accuracy"]
    assert [item.rising for item in found] == [False, False, True]
    assert found[0].title == "energy MAE (meV/atom)"


def test_the_table() -> None:
    data = [*rows("a", 0.3, 0.2, 0.4), *rows("b", 0.1), RunRow("b", 1, error="it broke")]
    header, first, second = comparison_table(data, criteria(data, [GAP])).rows
    assert header == ["network", "gap MAE (eV)", "time", "epochs", "parameters", "peak memory (MiB)", "seeds"]
    assert first == ["a", "0.30 ± 0.10", "60.0 s", "3", "1,000", "500", "3"]
    assert second[1] == "0.1"
    assert second[-1] == "1 (1 failed)"
    with_gpu = [RunRow(**{**vars(row), "gpu_memory": 100.0}) for row in data[:1]]
    assert "GPU memory (MiB)" in comparison_table(with_gpu, []).rows[0]


def test_networks_that_share_the_work_are_put_together() -> None:
    parts = [*rows("alone", 0.1, 0.2), *rows("alone", 1.0, metric="eps_mae", seconds=30.0, memory=700.0)]
    parts.append(RunRow("alone", 1, error="it broke"))
    first, second = merged(parts)
    assert first.metrics == {"gap_mae": 0.1, "eps_mae": 1.0, "gap_count": 8.0}
    assert (first.seconds, first.parameters, first.memory) == (90.0, 2000, 700.0)
    assert math.isnan(second.seconds)  # what the part that failed would have taken is not known
    assert second.metrics["gap_mae"] == 0.2
    assert not second.error


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        ([1.23456], "1.235"),
        ([2.0, 2.0], "2 ± 0"),
        ([100.0, 120.0], "110 ± 14"),
        ([0.0012, 0.0014], "0.00130 ± 0.00014"),
    ],
)
def test_spread_has_two_digits(values: list[float], text: str) -> None:
    assert spread(np.array(values)) == text


def test_durations() -> None:
    assert [duration(seconds) for seconds in (1.24, 600.0, 9000.0)] == ["1.2 s", "10.0 min", "2.50 h"]


def test_pictures_show_every_network_and_seed() -> None:
    data = [*rows("a", 0.3, 0.2, seconds=10.0), *rows("b", 0.1, seconds=4000.0), RunRow("c", 0, error="it broke")]
    found = criteria(data, [GAP])
    (ax,) = bar_plot(data, found).axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert len(ax.patches) == 2
    np.testing.assert_allclose([patch.get_height() for patch in ax.patches], [0.25, 0.1])
    (ax,) = time_plot(data, found).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "training time (min)"
