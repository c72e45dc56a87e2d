"""The report of a run: what its files say, and that each stands alone."""

from __future__ import annotations

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.report import Report
from kimgnn.evaluation.run_report import Split, Timing, write_run_report
from kimgnn.models.tasks import Task

GAP = Task("gap", "regression", "band_gap", "eV")
METAL = Task("metal", "classification", "is_metal", classes=("insulator", "metal"))
TOTAL = Task("total <E>/f.u.", "regression", "total", "eV", extensive=True)
TASKS = [GAP, METAL, TOTAL]
MANIFEST = {
    "workspace": {"seed": 7},
    "dataset": {"path": "/home/somebody/crystals"},
    "model": {"name": "demo", "architecture": "cgcnn", "heads": [{"type": "property", "target": "band_gap"}]},
}
HISTORY = {
    "train_loss": (np.arange(3), np.array([3.0, 2.0, 1.0])),
    "val_gap_mae": (np.arange(3), np.array([0.3, 0.2, 0.1])),
    "val_metal_accuracy": (np.arange(3), np.array([0.5, 0.7, 0.9])),
}


def split(n: int, seed: int, energy: bool = False) -> Split:
    """Crystals whose gap follows their composition, and predictions that are 0.1 eV too high."""
    rng = np.random.default_rng(seed)
    configurations, predictions = [], []
    for index in range(n):
        species = rng.choice(["Si", "C"], rng.integers(2, 6)).tolist()
        gap = species.count("C") / len(species)
        item = Configuration(np.eye(3) * 9.0, species, rng.random((len(species), 3)), [True] * 3,
                             energy=-4.0 * len(species), identifier=f"mp-{seed}-{index}")  # fmt: skip
        item.metadata = {
            "targets": {
                "band_gap": np.array([gap if index else np.nan]),
                "is_metal": np.array([float(gap < 0.5)]),
                "total": np.array([gap * len(species)]),
            }
        }
        chance = 0.9 if gap < 0.5 else 0.1
        properties = {
            "gap": np.array([gap + 0.1]),
            "metal": np.array([1 - chance, chance]),
            "total <E>/f.u.": np.array([(gap + 0.1) * len(species)]),
        }
        configurations.append(item)
        total = -4.1 * len(species) if energy else None
        predictions.append(Prediction(total, properties=properties, deviations={"gap": np.array([0.1])}))
    return Split(configurations, predictions)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    splits = {"train": split(30, 0), "val": split(5, 1), "test": split(12, 2)}
    folder = tmp_path_factory.mktemp("run") / "report"
    return write_run_report(folder, splits, TASKS, HISTORY, MANIFEST, Timing(60.0, 30, 2.0, 1234.5), 4321)


class Links(HTMLParser):
    """Collects what a page asks a browser to load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "srcset") or (tag, name) == ("link", "href")
        ]
        if tag not in ("meta", "img", "link"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_stands_alone(report: Report) -> None:
    """Every picture is in it, whole; it loads nothing; its tags are closed; names are escaped."""
    page = Links()
    page.feed(report.path.read_text(encoding="utf-8"))
    assert page.stack == []
    assert len(page.loaded) == len(report.pictures) == 6
    for source, name in zip(page.loaded, report.pictures.values(), strict=True):
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (report.path.parent / name).read_bytes()
    text = "".join(page.text)
    assert "total <E>/f.u. (eV)" in text
    for expected in ("30 epochs in 60.0 s on cpu: 2 s an epoch, 1234 structures a second", "4,321 learned numbers",
                     "architecture: cgcnn", "Worst structures, test", "this network", "random forest"):  # fmt: skip
        assert expected in text


def test_the_pictures_are_named_after_what_they_show(report: Report) -> None:
    """A head's name makes a file name that every system takes."""
    assert report.pictures == {
        "Labels": "labels.png",
        "Parity: gap": "parity_gap.png",
        "ROC: metal": "roc_metal.png",
        "Confusion: metal": "confusion_metal.png",
        "Parity: total <E>/f.u.": "parity_total_E_f.u..png",
        "Learning curves": "learning_curves.png",
    }


def test_the_metrics_are_the_same_for_programs(report: Report) -> None:
    """JSON holds what is returned, and the confusion matrix; missing labels are not counted."""
    metrics = json.loads((report.path.parent / "metrics.json").read_text())
    assert metrics["test"].pop("metal_confusion") == [[sum(c), 0] if i == 0 else [0, sum(c)] for i, c in
                                                       enumerate(_confusion(report))]  # fmt: skip
    assert metrics["test"] == report.metrics["test"]
    assert metrics["test"]["gap_mae"] == pytest.approx(0.1)
    assert metrics["test"]["gap_count"] == 11
    assert metrics["test"]["metal_accuracy"] == 1.0
    assert metrics["test"]["total <E>/f.u._mae_per_atom"] == pytest.approx(0.1)


def _confusion(report: Report) -> list[list[int]]:
    """Count the classes in the results."""
    rows = _results(report.path.parent)
    return [[sum(row["metal target"] == kind for row in rows)] for kind in METAL.classes]


def _results(folder: Path) -> list[dict[str, str]]:
    with open(folder / "test_results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_results_hold_every_structure_with_units(report: Report) -> None:
    """Target and prediction of each head; an empty cell where a label is missing."""
    rows = _results(report.path.parent)
    assert [row["id"] for row in rows] == [f"mp-2-{index}" for index in range(12)]
    assert list(rows[0]) == [
        "id", "formula", "atoms", "gap target (eV)", "gap prediction (eV)", "gap deviation (eV)", "metal target",
        "metal prediction", "metal prediction P(insulator)", "metal prediction P(metal)",
        "total <E>/f.u. target (eV)", "total <E>/f.u. prediction (eV)",
    ]  # fmt: skip
    assert rows[0]["gap target (eV)"] == ""
    for row in rows[1:]:
        assert float(row["gap prediction (eV)"]) - float(row["gap target (eV)"]) == pytest.approx(0.1)
        assert row["metal target"] == row["metal prediction"]


def test_the_card_tells_what_it_is_and_where_it_ends(report: Report) -> None:
    """Counts, elements, metrics with units, the floor, licence, versions; no path of the machine."""
    card = (report.path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    for expected in (
        "# Model card: demo",
        "`cgcnn` with 4,321 learned numbers",
        "Source: crystals. Licence of the data: unknown",
        "| train |         30 |",
        "Elements (2)",
        "| gap (eV)",
        "random forest",
        "## Limits",
        "Seed 7.",
        "kimgnn 0.",
    ):
        assert expected in card
    assert "/home" not in card
    assert not re.search(r"\n{4,}", card)


def test_a_network_that_is_no_better_than_composition_is_said_to_be(report: Report) -> None:
    """The gap of these crystals follows composition, which a ridge finds: 0.1 eV is worse, and red."""
    assert "gap: NOT better than composition alone: MAE 0.1 against" in report.path.read_text(encoding="utf-8")


def test_a_potential_without_test_set_or_heads(tmp_path: Path) -> None:
    """The energy has its floor, in eV/atom, on the validation set; no timing, no history, nothing to fail on."""
    splits = {"train": split(20, 0, energy=True), "val": split(6, 1, energy=True)}
    report = write_run_report(tmp_path, splits, [], {}, {})
    text = report.path.read_text(encoding="utf-8")
    assert "energy: NOT better than composition alone: MAE per atom 0.1 against" in text
    assert "Timing" not in text
    assert "energy target (eV)" in (tmp_path / "val_results.csv").read_text(encoding="utf-8")
    assert "there is no test set" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_one_class_only_in_a_split_is_said(tmp_path: Path) -> None:
    """The page, the table and the ROC curve do not fail, and say that the AUC is not defined."""
    whole = split(20, 0)
    chosen = [index for index, item in enumerate(whole.configurations) if item.metadata["targets"]["is_metal"] == 1]
    part = Split([whole.configurations[i] for i in chosen], [whole.predictions[i] for i in chosen])
    report = write_run_report(tmp_path, {"train": whole, "test": part}, [METAL], {}, {})
    text = report.path.read_text(encoding="utf-8")
    assert "metal, test: auc is not defined: only class &#39;metal&#39; occurs." in text
    assert "metal_auc" not in report.metrics["test"]
