"""Splits by count, fraction, index file and list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimgnn.data.splits import split_indices
from kimgnn.errors import KimgnnError


def training(**parts: object) -> dict[str, dict[str, object]]:
    blocks = {"train": "training_dataset", "val": "validation_dataset", "test": "test_dataset"}
    manifest: dict[str, dict[str, object]] = {}
    for key, value in parts.items():
        manifest.setdefault(blocks[key.split("_")[0]], {})[key] = value
    return manifest


def sizes(n: int, **parts: object) -> list[int]:
    split = split_indices(n, training(**parts), seed=1)
    return [len(split.train), len(split.validation), len(split.test)]


def test_default_is_to_train_on_everything() -> None:
    """Nobody asked for validation or test: there is none."""
    assert sizes(10) == [10, 0, 0]
    assert sorted(split_indices(10, {"training_dataset": None}, 0).train) == list(range(10))


def test_counts_and_fractions() -> None:
    """Counts are taken as they are, fractions of the whole set are rounded down, training gets the rest."""
    assert sizes(100, train_size=60, val_size=30) == [60, 30, 0]
    assert sizes(100, val_size=0.1, test_size=0.29) == [61, 10, 29]
    assert sizes(15, train_size=0.9, val_size=0.1) == [13, 1, 0]
    assert sizes(10, train_size=1, val_size=1, test_size=1) == [1, 1, 1]
    assert sizes(4, train_size=4, val_size=0) == [4, 0, 0]


@given(
    st.integers(1, 200), st.floats(0, 0.4, exclude_min=True), st.integers(0, 60), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_parts_are_disjoint_and_repeatable(n: int, fraction: float, count: int, seed: int) -> None:
    """No structure is in two parts, none is lost, and the seed alone decides."""
    manifest = training(val_size=fraction, test_size=count)
    try:
        split = split_indices(n, manifest, seed)
    except KimgnnError:
        assert int(fraction * n + 1e-9) == 0 or int(fraction * n + 1e-9) + count >= n
        return
    assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(n))
    again = split_indices(n, manifest, seed)
    np.testing.assert_array_equal(again.train, split.train)
    np.testing.assert_array_equal(again.test, split.test)


def test_it_is_kliffs_split() -> None:
    """The same seed gives the structures that stock KLIFF draws."""
    np.random.seed(7)
    indices = np.random.permutation(50)
    split = split_indices(50, training(train_size=30, val_size=10), seed=7)
    np.testing.assert_array_equal(split.train, indices[:30])
    np.testing.assert_array_equal(split.validation, indices[-10:])


def test_index_files_and_lists(tmp_path: Path) -> None:
    """Listed structures go where they are listed, in that order; the others are drawn from what is left."""
    path = tmp_path / "validation.txt"
    path.write_text("3\n1\n")
    split = split_indices(6, training(val_indices=str(path), test_indices=[5]), seed=0)
    assert split.validation.tolist() == [3, 1]
    assert split.test.tolist() == [5]
    assert sorted(split.train) == [0, 2, 4]
    split = split_indices(6, training(train_indices=[4, 0], val_size=2), seed=0)
    assert split.train.tolist() == [4, 0]
    assert set(split.validation) < {1, 2, 3, 5}
    np.savetxt(path, split.train, fmt="%d")
    assert split_indices(6, training(train_indices=path), seed=5).train.tolist() == [4, 0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train_size": 8, "val_size": 3}, "larger than the data set.*8 to train, 3 to validate, 0 to test.*10"),
        ({"val_size": 11}, "larger than the data set"),
        ({"val_size": 10}, "nothing is left to train on"),
        ({"train_size": 0}, "nothing is left to train on"),
        ({"train_size": -1}, r"training\.training_dataset\.train_size: not a size"),
        ({"val_size": 1.5}, r"training\.validation_dataset\.val_size: not a size"),
        ({"test_size": True}, "not a size"),
        ({"val_size": 0.01}, "less than one structure"),
        ({"val_indices": [1, 10]}, r"val_indices: an index is out of range \(got 10\). Allowed: 0 to 9"),
        ({"val_indices": [-1]}, "out of range"),
        ({"test_indices": [2, 2]}, "there twice"),
        ({"train_indices": [1, 2], "val_indices": [2]}, "a structure is listed to train and to val"),
        ({"train_indices": [1, 2], "train_size": 3}, "train_size is not the number of train_indices"),
        ({"train_indices": "nowhere.txt"}, "nowhere.txt: cannot read the indices"),
    ],
)
def test_bad_splits(parts: dict[str, object], message: str) -> None:
    """Each says which part, what it got and what would do."""
    with pytest.raises(KimgnnError, match=message):
        split_indices(10, training(**parts), seed=0)


def test_index_file_of_words(tmp_path: Path) -> None:
    """A file that holds no indices is named."""
    path = tmp_path / "words.txt"
    path.write_text("one two\n")
    with pytest.raises(KimgnnError, match=r"words\.txt: cannot read the indices"):
        split_indices(10, training(val_indices=str(path)), seed=0)
