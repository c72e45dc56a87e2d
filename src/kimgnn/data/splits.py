"""Which structures train, which validate, which test. A seed gives the same split again, and the one KLIFF makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kimgnn.errors import DataError, ManifestError

ROUNDING = 1e-9
"""Keeps 0.29 x 100 from being 28.999999999999996, hence 28."""


@dataclass(frozen=True)
class Split:
    """Indices of structures in the data set, disjoint."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """What the manifest says about one part."""

    name: str
    where: str
    size: int | None
    indices: NDArray[np.int64] | None


def split_indices(n: int, training: Mapping[str, Any], seed: int) -> Split:
    """Split ``n`` structures as a manifest's ``training`` block says.

    A part is given by an index file or list (``train_indices``), or by a size (``train_size``): a whole number of
    structures, or a fraction of all ``n``, rounded down. Parts given by indices are set aside; the others are drawn
    from a permutation of what is left, training from its front, validation from its end, testing before that.
    Without a word about it, training gets all that is left, validation and testing nothing.

    Args:
        n: Structures in the data set.
        training: May have ``training_dataset`` (``train_size``, ``train_indices``), ``validation_dataset``
            (``val_size``, ``val_indices``) and ``test_dataset`` (``test_size``, ``test_indices``).
        seed: Of the permutation.

    Raises:
        ManifestError: A size that is none, or sizes that exceed ``n``.
        DataError: An index file that cannot be read, an index out of range, there twice or in two parts.
    """
    train = _part(n, training, "training_dataset", "train")
    validation = _part(n, training, "validation_dataset", "val")
    test = _part(n, training, "test_dataset", "test")
    _check_disjoint([part for part in (train, validation, test) if part.indices is not None])

    listed = [part.indices for part in (train, validation, test) if part.indices is not None]
    # np.random.seed(seed) and np.random.permutation, KLIFF's, draw from this generator too.
    shuffled = np.random.RandomState(seed).permutation(n)
    rest = shuffled[~np.isin(shuffled, np.concatenate(listed))] if listed else shuffled
    n_validation = 0 if validation.indices is not None else validation.size or 0
    n_test = 0 if test.indices is not None else test.size or 0
    n_train = 0 if train.indices is not None else train.size
    if n_train is None:
        n_train = len(rest) - n_validation - n_test
    if n_train + n_validation + n_test > len(rest) or n_train < 0:
        raise ManifestError(
            "the parts are larger than the data set",
            where="training",
            value=f"{max(n_train, 0)} to train, {n_validation} to validate, {n_test} to test",
            allowed=f"{len(rest)} structures in all",
        )
    ends = len(rest) - n_validation
    split = Split(
        train=rest[:n_train] if train.indices is None else train.indices,
        validation=rest[ends:] if validation.indices is None else validation.indices,
        test=rest[ends - n_test : ends] if test.indices is None else test.indices,
    )
    if len(split.train) == 0:
        raise ManifestError("nothing is left to train on", where=train.where, value=f"{n} structures in the data set")
    return split


def _part(n: int, training: Mapping[str, Any], block: str, prefix: str) -> _Part:
    values = training.get(block) or {}
    where = f"training.{block}"
    size = _count(values.get(f"{prefix}_size"), n, f"{where}.{prefix}_size")
    source = values.get(f"{prefix}_indices")
    if source is None:
        return _Part(prefix, where, size, None)
    indices = _indices(source, n, f"{where}.{prefix}_indices")
    if size is not None and size != len(indices):
        raise ManifestError(
            f"{prefix}_size is not the number of {prefix}_indices", where=where, value=size, allowed=str(len(indices))
        )
    return _Part(prefix, where, size, indices)


def _count(size: Any, n: int, where: str) -> int | None:
    if size is None:
        return None
    if isinstance(size, float) and 0 < size < 1:
        count = int(size * n + ROUNDING)
        if count == 0:
            raise ManifestError(
                "the fraction is less than one structure", where=where, value=size, allowed=f"1/{n} or more"
            )
        return count
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ManifestError(
            "not a size", where=where, value=size, allowed="a whole number of structures, or a fraction between 0 and 1"
        )
    return size


def _indices(source: Any, n: int, where: str) -> NDArray[np.int64]:
    if isinstance(source, str | Path):
        where = str(source)
        try:
            source = [int(word) for word in Path(source).read_text(encoding="utf-8").split()]
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the indices: {error}", where=where) from error
    indices = np.asarray(source, dtype=np.int64).reshape(-1)
    outside = indices[(indices < 0) | (indices >= n)]
    if len(outside):
        raise DataError("an index is out of range", where=where, value=int(outside[0]), allowed=f"0 to {n - 1}")
    unique, counts = np.unique(indices, return_counts=True)
    if (counts > 1).any():
        raise DataError("an index is there twice", where=where, value=int(unique[counts > 1][0]))
    return indices


def _check_disjoint(parts: list[_Part]) -> None:
    owner: dict[int, str] = {}
    for part in parts:
        for index in part.indices.tolist() if part.indices is not None else []:
            if index in owner:
                raise DataError(
                    f"a structure is listed to {owner[index]} and to {part.name}", where=part.where, value=index
                )
            owner[index] = part.name
