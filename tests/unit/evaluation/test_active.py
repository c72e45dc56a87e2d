"""Labels needed for an error, and the table and picture of a run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimgnn.evaluation.active import ArmRow, compared, labels_needed, write_curves


def test_labels_needed_on_an_exponential_are_exact() -> None:
    """Errors that halve with every ten labels: an error of 1/√2 needs five."""
    labels, errors = [0, 10, 20], [1.0, 0.5, 0.25]
    assert labels_needed(labels, errors, 2**-0.5) == pytest.approx(5.0)
    assert labels_needed(labels, errors, 0.25) == pytest.approx(20.0)
    assert labels_needed(labels, errors, 0.2) is None
    assert labels_needed(labels, errors, 1.5) == 0.0


def test_an_error_that_rises_again_does_not_count_back() -> None:
    assert labels_needed([0, 10, 20, 30], [1.0, 0.5, 0.9, 0.25], 0.5) == pytest.approx(10.0)
    assert labels_needed([0, 10, 20, 30], [1.0, 0.5, 0.9, 0.25], 0.25) == pytest.approx(30.0)


@given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=8), st.floats(0.01, 10.0))
def test_what_is_needed_lies_where_the_curve_first_comes_down(errors: list[float], error: float) -> None:
    labels = list(range(0, 10 * len(errors), 10))
    needed = labels_needed(labels, errors, error)
    if min(errors) > error:
        assert needed is None
        return
    first = next(index for index, value in enumerate(errors) if value <= error)
    assert needed is not None
    assert labels[max(0, first - 1)] <= needed <= labels[first] + 1e-9


def rows() -> list[ArmRow]:
    found = []
    for number, (active, random) in enumerate(zip([1.0, 0.4, 0.2], [1.0, 0.6, 0.4], strict=True)):
        for arm, error in (("active", active), ("random", random)):
            metrics = {"forces_rmse": error, "energy_rmse": 10 * error}
            found.append(ArmRow(arm, number, 10 * number, 8 + 10 * number, metrics, 100, 50, 2.0 * error, error, 10))
    return found


def test_arms_are_compared_at_the_best_error_of_random_selection() -> None:
    assert compared(rows()) == (
        "Random selection comes down to a forces RMSE (eV/Å) of 0.4 with 20 labels, active selection with 10, "
        "50 % of them."
    )
    assert compared([row for row in rows() if row.arm == "active"]) == ""
    worse = [row for row in rows() if row.arm == "random" or row.round < 1]
    worse.append(ArmRow("active", 1, 10, 18, {"forces_rmse": 0.7}))
    assert compared(worse).endswith("active selection with 10 labels to 0.7.")


def test_table_and_picture(tmp_path: Path) -> None:
    text = write_curves(tmp_path, rows(), 0.3)
    assert (tmp_path / "active.md").read_text() == text + "\n"
    assert "| active |     2 |     20 |" in text
    with open(tmp_path / "active.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["forces RMSE (eV/Å)"]) for row in written] == [1.0, 1.0, 0.4, 0.6, 0.2, 0.4]
    assert (tmp_path / "active.png").read_bytes().startswith(b"\x89PNG")


def test_without_errors_or_rounds(tmp_path: Path) -> None:
    """No test set, and nothing explored yet: a table with dashes, and a picture."""
    text = write_curves(tmp_path, [ArmRow("active", 0, 0, 5, {})], 0.0)
    assert "–" in text
    assert (tmp_path / "active.png").read_bytes().startswith(b"\x89PNG")
