"""The table and the picture of a search."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kimgnn.evaluation import tuning
from kimgnn.evaluation.tuning import TrialRow, write_importance, write_trials

ROWS = [
    TrialRow(0, "complete", 0.5, {"a.b": 1, "c": "x"}, 1.25, "runs/0"),
    TrialRow(1, "pruned", 0.9, {"a.b": 2, "c": "y"}, 0.5, "runs/1"),
    TrialRow(2, "fail", None, {"a.b": 3}, 0.1, "RuntimeError: out of memory"),
    TrialRow(3, "complete", 0.7, {"a.b": 4, "c": "x"}, 1.0, "runs/3"),
]


def test_a_row_for_each_trial(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", ROWS, "val_loss")
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["trial", "state", "val_loss", "a.b", "c", "seconds", "note"]
    assert rows[1] == ["0", "complete", "0.5", "1", "x", "1.2", "runs/0"]
    assert rows[3] == ["2", "fail", "", "3", "", "0.1", "RuntimeError: out of memory"]


@pytest.mark.parametrize(("minimize", "course"), [(True, [0.5, 0.5]), (False, [0.5, 0.7])])
def test_the_picture_shows_shares_and_the_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimize: bool, course: list[float]
) -> None:
    drawn: list[Figure] = []
    canvas = tuning.FigureCanvasAgg
    monkeypatch.setattr(tuning, "FigureCanvasAgg", lambda figure: drawn.append(figure) or canvas(figure))
    write_importance(tmp_path / "importance.png", {"a.b": 0.25, "c": 0.75}, ROWS, "val_loss", minimize)
    with Image.open(tmp_path / "importance.png") as picture:
        assert picture.width > 1000
    left, right = drawn[0].axes
    assert [bar.get_width() for bar in left.patches] == [0.25, 0.75]
    assert [label.get_text() for label in left.get_yticklabels()] == ["b\n(a)", "c"]
    (line,) = right.lines
    assert list(line.get_ydata()) == course
    assert [len(points.get_offsets()) for points in right.collections] == [2, 1]


@pytest.mark.parametrize("rows", [[], ROWS[1:3]])
def test_a_search_that_tells_nothing_has_a_picture_too(tmp_path: Path, rows: list[TrialRow]) -> None:
    write_importance(tmp_path / "importance.png", {}, rows, "val_loss", True)
    with Image.open(tmp_path / "importance.png") as picture:
        assert picture.height > 300
