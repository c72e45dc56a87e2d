"""Weights from a mapping and from KLIFF's text and YAML files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kliff.dataset import Configuration, Dataset

from kimgnn.data.weights import apply_weights
from kimgnn.errors import DataError


@pytest.fixture
def pair() -> list[Configuration]:
    return [
        Configuration(np.eye(3), ["Si"] * n, np.zeros((n, 3)), [True] * 3, energy=0.0, forces=np.zeros((n, 3)))
        for n in (1, 2)
    ]


def table(configurations: list[Configuration]) -> list[list[object]]:
    return [list(item.weight.to_dict().values()) for item in configurations]


def written(folder: Path, text: str, name: str = "weights.dat") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_one_row_for_all(pair: list[Configuration], tmp_path: Path) -> None:
    """KLIFF's example file: headers in any case, a 0 is 'not used'."""
    apply_weights(pair, written(tmp_path, "Config Energy Forces Stress\n1.0 0.0 10.0 0.0\n"))
    assert table(pair) == [[1.0, None, 10.0, None]] * 2


def test_a_row_for_each(pair: list[Configuration], tmp_path: Path) -> None:
    """Rows go to the configurations in order, as KLIFF's own reader gives them."""
    path = written(tmp_path, "# Config Energy Forces Stress\n1 2 3 4\n5 6 7 8\n")
    apply_weights(pair, str(path))
    assert table(pair) == [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    Dataset.add_weights(pair, path)
    assert table(pair) == [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]


def test_missing_columns(pair: list[Configuration], tmp_path: Path) -> None:
    """A label without a column is not used; a configuration without one counts once (KLIFF: KeyError)."""
    apply_weights(pair, written(tmp_path, "Forces\n10\n"))
    assert table(pair) == [[1.0, None, 10.0, None]] * 2
    apply_weights(pair, {"energy": 2})
    assert table(pair) == [[1.0, 2.0, None, None]] * 2


def test_yaml_with_a_weight_for_each_atom(pair: list[Configuration], tmp_path: Path) -> None:
    """Forces may be weighted atom by atom; KLIFF's list of equal configuration weights is that weight."""
    text = "- {config: [2.0, 2.0], energy: 0.0, forces: [1.0]}\n- {forces: [1.0, 3.0], stress: 0.5}\n"
    apply_weights(pair, written(tmp_path, text, "weights.yaml"))
    assert pair[0].weight.config_weight == 2.0
    assert pair[1].weight.forces_weight.tolist() == [[1.0], [3.0]]
    assert pair[1].weight.energy_weight is None


def test_nothing_given(pair: list[Configuration]) -> None:
    """KLIFF's weights of 1 stay."""
    apply_weights(pair, None)
    assert table(pair) == [[1.0, 1.0, 1.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.dat", "", "cannot read|holds no weights"),
        ("w.dat", "Config Enrgy\n1 2\n", r"row 1: unknown weight \(got 'enrgy'\).*Did you mean 'energy'"),
        ("w.dat", "Config\n1\n2\n3\n", r"do not fit the data \(got '3 rows'\). Allowed: 1 or 2 rows"),
        ("w.dat", "Config Energy\n1\n", "cannot read the weights"),
        ("w.dat", "Config\n-1\n", "must be a number, 0 or more"),
        ("w.dat", "Config\nnan\n", "must be a number, 0 or more"),
        ("w.dat", "Config\nmuch\n", "must be a number, 0 or more"),
        ("w.yaml", "- {forces: [1, 2, 3]}\n", "the weight of forces has the wrong length"),
        ("w.yaml", "- {config: [1, 2]}\n", "the weight of config has the wrong length"),
        ("w.yaml", "3\n", "holds no weights"),
        ("w.yaml", "- [1\n", "cannot read the weights"),
    ],
)
def test_bad_files(pair: list[Configuration], tmp_path: Path, name: str, text: str, message: str) -> None:
    """A file that does not fit is refused, never cut short or filled up; KLIFF's YAML reader does both."""
    with pytest.raises(DataError, match=message):
        apply_weights(pair, written(tmp_path, text, name))


def test_missing_file(pair: list[Configuration], tmp_path: Path) -> None:
    """The file's name is in the message."""
    with pytest.raises(DataError, match=r"absent\.dat: cannot read the weights"):
        apply_weights(pair, tmp_path / "absent.dat")
