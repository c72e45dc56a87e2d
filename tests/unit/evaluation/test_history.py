"""Lightning's CSV log."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kimgnn.evaluation.history import read_history


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_training_and_validation_rows_are_brought_together(tmp_path):
    """A row holds what one hook logged; each metric gets its own epochs."""
    log = _write(tmp_path / "metrics.csv", "epoch,step,train_loss,val_loss", "0,9,,2.0", "0,9,1.0,", "1,19,0.5,")
    history = read_history(log)
    assert set(history) == {"train_loss", "val_loss"}
    np.testing.assert_array_equal(history["train_loss"], ([0, 1], [1.0, 0.5]))
    np.testing.assert_array_equal(history["val_loss"], ([0], [2.0]))


def test_steps_of_an_epoch_are_averaged_and_a_repeated_step_replaced(tmp_path):
    """After a resume the steps since the checkpoint stand in the log twice; the second time counts."""
    log = _write(tmp_path / "metrics.csv", "epoch,step,train_loss", "0,0,9.0", "0,1,3.0", "0,0,1.0")
    np.testing.assert_array_equal(read_history(log)["train_loss"], ([0], [2.0]))


def test_rows_without_an_epoch_are_no_history(tmp_path):
    """The learning-rate monitor logs rows without an epoch."""
    log = _write(tmp_path / "metrics.csv", "epoch,step,lr,val_loss", ",3,0.1,", "0,9,,nan")
    history = read_history(log)
    assert set(history) == {"val_loss"}
    assert np.isnan(history["val_loss"][1]).all()


def test_a_resumed_run_continues_its_first_part(tmp_path):
    """The epoch that was cut off stands in both files; the one that was finished counts."""
    first = _write(tmp_path / "first.csv", "epoch,step,train_loss", "0,9,4.0", "1,19,3.0")
    second = _write(tmp_path / "second.csv", "epoch,step,train_loss,val_loss", "1,19,2.0,5.0", "2,29,1.0,")
    history = read_history(first, second)
    np.testing.assert_array_equal(history["train_loss"], ([0, 1, 2], [4.0, 2.0, 1.0]))
    np.testing.assert_array_equal(history["val_loss"], ([1], [5.0]))
