"""Raw values become numbers and classes, NaN where missing; what is neither is told by its id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.data.targets import (
    COLUMN_OF,
    COLUMNS,
    TARGETS,
    VALUES,
    TargetSpec,
    check_targets,
    encode_targets,
    encode_value,
)
from kimgnn.errors import DataError

GAP = TargetSpec("gap", "number")
METAL = TargetSpec("metal", "class", classes=("metal", "insulator"))


def configuration(name: str, **values: Any) -> Configuration:
    """A dimer with raw values."""
    made = Configuration(
        cell=np.eye(3), species=["H", "H"], coords=np.zeros((2, 3)), PBC=[True] * 3, energy=None, identifier=name
    )
    made.metadata = {VALUES: values, COLUMNS: tuple(values), COLUMN_OF: {key: key for key in values}}
    return made


def targets(spec: TargetSpec, *raw: Any) -> list[Configuration]:
    """Configurations with raw values of one target, encoded."""
    encoded, problems = encode_targets(
        [configuration(f"mp-{n}", **{spec.name: value}) for n, value in enumerate(raw)], [spec]
    )
    assert not problems
    return encoded


@pytest.mark.parametrize("raw", [1.5, "1.5", " 1.5 ", "[1.5]", [1.5], np.float32(1.5), np.array([[1.5]])])
def test_numbers(raw: Any) -> None:
    """A number is one in any form that a file has it in."""
    value = encode_value(raw, GAP, 2)
    assert value.dtype == np.float64
    assert value.tolist() == [1.5]


@pytest.mark.parametrize("raw", [None, "", "NaN", "null", float("nan"), np.float32("nan"), [None], [float("nan")]])
def test_missing(raw: Any) -> None:
    """What is missing is NaN, of the shape that the target has."""
    assert np.isnan(encode_value(raw, GAP, 2)).tolist() == [True]


def test_a_class_may_be_called_as_what_is_missing_elsewhere() -> None:
    """Sodium is not n/a."""
    spec = TargetSpec("cation", "class", classes=("Li", "Na", "none"))
    assert [encode_value(raw, spec, 2).item() for raw in ("Na", " none ")] == [1.0, 2.0]
    assert np.isnan([encode_value(raw, spec, 2).item() for raw in ("", "n/a", "na", None)]).all()


def test_missing_has_the_shape_of_the_target() -> None:
    """So it has for vectors, atoms and classes."""
    assert encode_value(None, TargetSpec("dipole", "number", components=3), 2).shape == (3,)
    assert encode_value("", TargetSpec("charge", "number", per_atom=True), 2).shape == (2, 1)
    assert np.isnan(encode_value(None, METAL, 2)).tolist() == [True]


def test_vectors_and_atoms() -> None:
    """Vectors, values of atoms and vectors of atoms keep their order."""
    assert encode_value("[1, 2, 3]", TargetSpec("d", "number", components=3), 2).tolist() == [1, 2, 3]
    assert encode_value(np.arange(9).reshape(3, 3), TargetSpec("e", "number", components=9), 2).tolist() == [*range(9)]
    assert encode_value([1, 2], TargetSpec("q", "number", per_atom=True), 2).tolist() == [[1], [2]]
    moments = encode_value([[1, 2, 3], [4, 5, None]], TargetSpec("m", "number", 3, per_atom=True), 2)
    np.testing.assert_equal(moments, [[1, 2, 3], [4, 5, np.nan]])


@pytest.mark.parametrize(
    ("raw", "spec", "message"),
    [
        ("wide", GAP, "not a number .*'wide'"),
        (["a"], GAP, "not a number"),
        ({"value": 1}, GAP, "not a number"),
        (True, GAP, "a truth value .*classification head"),
        (float("-inf"), GAP, "infinite"),
        ("1e999", GAP, "infinite"),
        ("inf", GAP, "not a number"),
        ([1, 2], GAP, r"wrong shape .*\(2,\).*Allowed: one number"),
        (1.0, TargetSpec("d", "number", 3), r"wrong shape .*\(\).*Allowed: 3 numbers"),
        ([1, 2, 3], TargetSpec("q", "number", per_atom=True), "Allowed: one number for each of the 2 atoms"),
        ([[1, 2]], TargetSpec("q", "number", per_atom=True), "wrong shape"),
        ([[1, 2], [3]], TargetSpec("q", "number", 2), "not a number"),
        ("semimetal", METAL, r"no such class .*'semimetal'.*metal, insulator, or their index, 0 to 1"),
        (2, METAL, "no such class"),
        (-1, METAL, "no such class"),
        (0.5, METAL, "no such class"),
        ("x" * 100, METAL, r"'x{57}\.\.\.'"),
        (3, TargetSpec("c", "class"), "Allowed: 0, 1"),
        (0, TargetSpec("c", "class", classes=("1", "2", "3")), "Allowed: 1, 2, 3"),
        (True, TargetSpec("c", "class", classes=("a", "b", "c")), "no such class"),
        ("wide", TargetSpec("c", "class", threshold=0.5), "not a number"),
        ([1, 2], TargetSpec("c", "class", threshold=0.5), "not one number"),
    ],
)
def test_bad_values(raw: Any, spec: TargetSpec, message: str) -> None:
    """What is no value of the target is refused with what is allowed."""
    with pytest.raises(DataError, match=message):
        encode_value(raw, spec, 2)


@pytest.mark.parametrize(
    ("raw", "classes", "index"),
    [
        ("insulator", ("metal", "insulator"), 1),
        (1, ("metal", "insulator"), 1),
        ("1.0", ("metal", "insulator"), 1),
        (False, ("metal", "insulator"), 0),
        ("True", ("metal", "insulator"), 1),
        (np.bool_(True), (), 1),
        (0, (), 0),
        ("1", (), 1),
        (True, ("True", "False"), 0),
        (True, ("false", "true"), 1),
        (False, ("TRUE", "FALSE"), 1),
        (2, ("1", "2", "3"), 1),
        (3.0, ("1", "2", "3"), 2),
        ("cubic", ("triclinic", "cubic", "hexagonal"), 1),
        (2, ("triclinic", "cubic", "hexagonal"), 2),
    ],
)
def test_classes(raw: Any, classes: tuple[str, ...], index: int) -> None:
    """A class is found by its name first; then a truth value and a number are its index."""
    assert encode_value(raw, TargetSpec("c", "class", classes=classes), 2).tolist() == [index]


def test_threshold() -> None:
    """At the threshold is the first class, above it the second."""
    spec = TargetSpec("metal", "class", classes=("metal", "insulator"), threshold=0.1)
    assert [encode_value(raw, spec, 2).item() for raw in (0, "0.1", 0.2, -1)] == [0, 0, 1, 0]
    assert np.isnan(encode_value("", spec, 2)).all()


def test_every_configuration_has_every_target() -> None:
    """Also one of a source without values; bad ones are told by id and column, all of them, and left out."""
    bare = configuration("bare")
    bare.metadata.clear()
    mixed = [configuration("a", gap="x", metal="y"), configuration("b", gap=1.0), bare]
    encoded, problems = encode_targets(mixed, [GAP, METAL])
    assert [item.identifier for item in encoded] == ["b", "bare"]
    assert [problem.where for problem in problems] == ["a (gap)", "a (metal)"]
    assert [sorted(item.metadata[TARGETS]) for item in encoded] == [["gap", "metal"]] * 2
    assert np.isnan(encoded[1].metadata[TARGETS]["gap"]).all()


def test_learnable() -> None:
    """Targets with different values, all of them there, need no word."""
    check_targets(targets(GAP, 1.0, 2.0), [GAP])
    check_targets(targets(METAL, "metal", "insulator"), [METAL])
    vector = TargetSpec("d", "number", 2)
    check_targets(targets(vector, [1, 0], [2, 0]), [vector])


def test_missing_labels_are_counted() -> None:
    """How many structures lack a target is told; so is a class that never occurs."""
    with pytest.warns(UserWarning, match="1 of 3 structures have no gap; they are left out of that term"):
        check_targets(targets(GAP, 1.0, None, 2.0), [GAP])
    three = TargetSpec("c", "class", classes=("a", "b", "c"))
    with pytest.warns(UserWarning, match=r"dataset\.targets\.c: no structure to train on is of class b"):
        check_targets(targets(three, "a", "c"), [three])


@pytest.mark.parametrize(
    ("spec", "raw", "message"),
    [
        (GAP, [None, ""], "no structure to train on has a value in this column .*'gap'"),
        (GAP, [1.0, 1.0, None], r"have the same value \(got 1\.0\)"),
        (METAL, ["metal", "metal"], r"of one class \(got 'metal'\)\. Allowed: at least two of metal, insulator"),
        (METAL, [None], "no structure to train on has a value"),
        (TargetSpec("d", "number", 2), [[1, None], [2, None]], "no structure to train on has a value"),
        (TargetSpec("d", "number", 2), [[1, 0], [1, 0]], "have the same value"),
        (TargetSpec("q", "number", per_atom=True), [[0, 0], [0, 0]], "have the same value"),
    ],
)
def test_unlearnable(spec: TargetSpec, raw: list[Any], message: str) -> None:
    """Nothing can be learnt from no label, one value, or one class."""
    with pytest.raises(DataError, match=message):
        check_targets(targets(spec, *raw), [spec])


def test_all_that_cannot_be_learnt_is_told_at_once() -> None:
    """A mistyped column is told with what there is."""
    one, two = TargetSpec("band_gp", "number"), TargetSpec("energy", "number")
    encoded, _ = encode_targets([configuration("a", band_gap=1.0), configuration("b", band_gap=2.0)], [one, two])
    with pytest.raises(DataError) as caught:
        check_targets(encoded, [one, two])
    first, second = map(str, caught.value.problems)
    assert "dataset.targets.band_gp: no structure to train on has a value under this name" in first
    assert "Allowed: band_gap. Did you mean 'band_gap'?" in first
    assert "Name its column: dataset.targets: {energy: COLUMN}." in second
