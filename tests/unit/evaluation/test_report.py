"""The report's files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from kimgnn.evaluation import report
from kimgnn.evaluation.metrics import Parity
from kimgnn.evaluation.report import write_report

PARITY = Parity(np.array([0.0, 1.0, 2.0]), np.array([0.1, 1.1, 2.1]))
HISTORY = {"train_loss": (np.arange(3), np.array([3.0, 2.0, 1.0]))}


def test_report_holds_table_pictures_and_the_same_numbers_for_programs(tmp_path):
    """Every picture that the text shows exists and is a PNG; JSON and CSV hold the numbers of the table."""
    path = write_report(tmp_path / "report", {"train": {"energy": PARITY, "forces": PARITY}}, HISTORY, {"a": "Å"}).path
    text = path.read_text(encoding="utf-8")
    for name in ("parity_energy.png", "parity_forces.png", "learning_curves.png"):
        assert f"({name})" in text
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")
    assert "| train |" in text
    assert "a: Å" in text
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert metrics["train"]["energy_mae"] == pytest.approx(100.0)
    assert metrics["train"]["forces_rmse"] == pytest.approx(0.1)
    with open(path.parent / "metrics.csv", newline="") as file:
        rows = {(row["split"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    assert rows == {("train", name): value for name, value in metrics["train"].items()}


def test_report_without_history_or_labels_has_only_what_there_is(tmp_path):
    """No training log (a model that was given) and a split without labels are no errors."""
    path = write_report(tmp_path, {"test": {}}, {}, {}).path
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.csv", "metrics.json", "report.md"]
    assert "png" not in path.read_text()


def test_a_failure_while_writing_keeps_the_old_report(tmp_path, monkeypatch):
    """A full disk at a picture leaves the picture that was there, and no half file."""
    write_report(tmp_path, {"train": {"energy": PARITY}}, {}, {})
    before = (tmp_path / "parity_energy.png").read_bytes()

    def full(self: object, file: object, **kwargs: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.FigureCanvasAgg, "print_figure", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, {"train": {"energy": PARITY}}, {}, {})
    assert (tmp_path / "parity_energy.png").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
