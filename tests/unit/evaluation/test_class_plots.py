"""What the pictures of classes and labels show."""

from __future__ import annotations

import numpy as np
import pytest

from kimgnn.evaluation.class_plots import confusion_plot, roc_plot
from kimgnn.evaluation.classification import Classification
from kimgnn.evaluation.plots import label_plot
from kimgnn.models.tasks import Task

METAL = Task("metal", "classification", "m", classes=("insulator", "metal"))
KIND = Task("kind", "classification", "k", classes=("a", "b", "c"))


def result(task: Task, reference: list[int], seed: int = 0) -> Classification:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(len(task.classes)), len(reference))
    return Classification(task, np.array(reference), probabilities, np.arange(len(reference)))


def test_roc_of_two_classes_is_a_line_a_split_with_its_area():
    """The legend tells the AUC that the metrics tell; a split of one class says that it has none."""
    splits = {"train": result(METAL, [0, 1] * 20), "test": result(METAL, [1, 1], 1)}
    ax = roc_plot(splits).axes[0]
    train, test = (text.get_text() for text in ax.get_legend().get_texts())
    assert train == f"train: AUC {splits['train'].metrics()['auc']:.3f}"
    assert test == "test: not defined"
    line = ax.lines[1]
    assert (line.get_xdata()[0], line.get_ydata()[0]) == (0.0, 0.0)
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (1.0, 1.0)


def test_roc_of_more_classes_is_a_line_a_class_of_the_last_split():
    """Their mean area is the AUC of the metrics."""
    found = result(KIND, [0, 1, 2] * 10)
    texts = [text.get_text() for text in roc_plot({"test": found}).axes[0].get_legend().get_texts()]
    areas = [float(text.rpartition(" ")[2]) for text in texts]
    assert np.mean(areas) == pytest.approx(found.metrics()["auc"], abs=1e-3)


def test_a_confusion_matrix_shows_counts_and_shares():
    """Rows are the truth; a class that does not occur has no share; nothing is cut off at the edges."""
    found = Classification(METAL, np.array([0, 0, 0, 0]), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]]), np.arange(4))
    figure = confusion_plot({"test": found})
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["3\n75 %", "1\n25 %", "0", "0"]
    figure.draw_without_rendering()
    whole = figure.bbox
    for artist in (ax.title, ax.xaxis.label, ax.yaxis.label):
        box = artist.get_window_extent()
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_label_distributions_are_shares_of_what_is_there():
    """Missing labels do not count; each split adds up to 1; classes are bars."""
    numbers = Task("gap", "regression", "gap", "eV")
    values = {"train": np.array([0.0, 1.0, np.nan, 2.0]), "test": np.array([np.nan])}
    figure = label_plot({"gap (eV)": (numbers, values), "metal": (METAL, {"train": np.array([0.0, 1.0, 1.0, np.nan])})})
    gap, metal = figure.axes
    assert [text.get_text() for text in gap.get_legend().get_texts()] == ["train (3)"]
    assert gap.patches[0].get_data().values.sum() == pytest.approx(1.0)
    assert [bar.get_height() for bar in metal.patches] == pytest.approx([1 / 3, 2 / 3])
    assert gap.get_xlabel() == "gap (eV)"
