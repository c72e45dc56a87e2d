"""What heads learn: raw values of a source -> numbers, classes by index, NaN where missing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from kliff.dataset import Configuration
from numpy.typing import NDArray

from kimgnn.class_names import are_numbers, class_index
from kimgnn.data.parsing import decoded, is_missing
from kimgnn.errors import DataError, Problem, did_you_mean

VALUES: Final = "values"
"""Metadata of a configuration: target name -> raw value; absent where its source has none."""

TARGETS: Final = "targets"
"""Metadata of a configuration: target name -> float64 array, (n_components,) or (n_atoms, n_components)."""

COLUMNS: Final = "value_columns"
"""Metadata of a configuration: all columns and keys that its source has for it."""

COLUMN_OF: Final = "target_columns"
"""Metadata of a configuration: target name -> the column or key it was looked up under."""

NUMBERS: Final = "finite numbers, empty where missing"


@dataclass(frozen=True)
class TargetSpec:
    """How a target's raw values are read.

    Attributes:
        name: Of the target.
        kind: A ``number`` or a ``class``.
        components: Numbers in each value: 1, or the length of a vector.
        per_atom: A value for each atom instead of one for the structure; numbers only.
        classes: Names of the classes, in order; two without names when empty.
        threshold: A number at or below it is class 0, one above it class 1.
    """

    name: str
    kind: Literal["number", "class"]
    components: int = 1
    per_atom: bool = False
    classes: tuple[str, ...] = ()
    threshold: float | None = None


def encode_targets(
    configurations: Sequence[Configuration], specs: Sequence[TargetSpec]
) -> tuple[list[Configuration], list[Problem]]:
    """Give configurations their `TARGETS` from their `VALUES`, all of ``specs`` to each, NaN where missing.

    Args:
        configurations: The data set.
        specs: Its targets.

    Returns:
        The configurations whose values are all right, and what is wrong with the values of the others.
    """
    encoded, problems = [], []
    for configuration in configurations:
        raw, targets, wrong = configuration.metadata.get(VALUES, {}), {}, []
        for spec in specs:
            try:
                targets[spec.name] = encode_value(raw.get(spec.name), spec, len(configuration.species))
            except DataError as error:
                (problem,) = error.problems
                where = f"{configuration.identifier or 'dataset'} ({_column(configuration, spec.name)})"
                wrong.append(Problem(where, problem.message, problem.value, problem.allowed, problem.remedy))
        configuration.metadata = {TARGETS: targets}
        problems += wrong
        if not wrong:
            encoded.append(configuration)
    return encoded, problems


def encode_value(raw: Any, spec: TargetSpec, n_atoms: int) -> NDArray[np.float64]:
    """Return one raw value as an array, (n_components,) or (n_atoms, n_components).

    Raises:
        DataError: It is not a finite number, not of the right shape, or of no class.
    """
    shape = (n_atoms, spec.components) if spec.per_atom else (spec.components,)
    # A class may be called Na, or none.
    if is_missing(raw) and not (isinstance(raw, str) and raw.strip() in spec.classes):
        return np.full(shape, np.nan)
    if spec.kind == "class":
        return np.array([_class(raw, spec)], dtype=np.float64)
    array = _numbers(raw)
    if array.size != np.prod(shape) or (spec.per_atom and array.shape[:1] != (n_atoms,)):
        raise DataError("the target has the wrong shape", value=array.shape, allowed=_allowed_shape(spec, n_atoms))
    return array.reshape(shape)


def check_targets(configurations: Sequence[Configuration], specs: Sequence[TargetSpec]) -> None:
    """Check that every target can be learnt from these configurations.

    Args:
        configurations: The training set, with `TARGETS`.
        specs: The targets.

    Raises:
        DataError: No structure carries a target, all that do have the same, or all are of one class.

    Warns:
        UserWarning: Some structures lack a target (they are left out of its loss), or a class never occurs.
    """
    problems = []
    for spec in specs:
        values = [configuration.metadata[TARGETS][spec.name] for configuration in configurations]
        labelled = sum(bool(np.isfinite(value).any()) for value in values)
        rows = np.concatenate([value.reshape(-1, spec.components) for value in values]) if values else np.empty((0, 1))
        problem = _unlearnable(spec, rows, configurations)
        if problem is not None:
            problems.append(problem)
        elif labelled < len(values):
            warnings.warn(
                f"{len(values) - labelled} of {len(values)} structures have no {spec.name}; "
                f"they are left out of that term of the loss.",
                stacklevel=2,
            )
    if problems:
        raise DataError(problems=problems)


def _unlearnable(
    spec: TargetSpec, rows: NDArray[np.float64], configurations: Sequence[Configuration]
) -> Problem | None:
    """Return why a target's values, (n, n_components), cannot be learnt."""
    where = f"dataset.targets.{spec.name}"
    present = [np.unique(column[np.isfinite(column)]) for column in rows.T]
    if any(len(found) == 0 for found in present):
        return _absent(spec, where, configurations)
    if spec.kind == "class":
        names = spec.classes or ("0", "1")
        (found,) = present
        if len(found) == 1:
            message = "all structures to train on are of one class"
            remedy = "Change the threshold, the classes or the training set, or leave the head out."
            return Problem(where, message, names[int(found[0])], f"at least two of {', '.join(names)}", remedy)
        never = [name for index, name in enumerate(names) if index not in found]
        if never:
            warnings.warn(f"{where}: no structure to train on is of class {', '.join(never)}.", stacklevel=3)
    elif all(len(found) == 1 for found in present):
        remedy = "Nothing can be learnt from it: check the column, or leave the head out."
        value = present[0].item() if spec.components == 1 else [found.item() for found in present]
        return Problem(where, "all structures to train on have the same value", value, remedy=remedy)
    return None


def _absent(spec: TargetSpec, where: str, configurations: Sequence[Configuration]) -> Problem:
    columns = dict.fromkeys(name for item in configurations for name in item.metadata.get(COLUMNS, ()))
    column = _column(configurations[0], spec.name) if configurations else spec.name
    known = [str(name) for name in columns]
    if column in known:
        message = "no structure to train on has a value in this column"
        return Problem(where, message, column, remedy="Leave the head out, or train on structures that have it.")
    return Problem(
        where,
        "no structure to train on has a value under this name",
        column,
        ", ".join(known) or "nothing: the data have no values",
        did_you_mean(column, known) or f"Name its column: dataset.targets: {{{spec.name}: COLUMN}}.",
    )


def _column(configuration: Configuration, name: str) -> str:
    return str(configuration.metadata.get(COLUMN_OF, {}).get(name, name))


def _allowed_shape(spec: TargetSpec, n_atoms: int) -> str:
    n = spec.components
    each = "one number" if n == 1 else f"{n} numbers"
    return f"{each} for each of the {n_atoms} atoms" if spec.per_atom else each


def _numbers(raw: Any) -> NDArray[np.float64]:
    value = decoded(raw)
    try:
        array = np.asarray(value)
        if array.dtype.kind == "b":
            raise DataError(
                "the target is a truth value", value=raw, allowed="numbers", remedy="Take a classification head."
            )
        if array.dtype.kind in "US":
            raise ValueError
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("the target is not a number", value=_short(raw), allowed=NUMBERS) from error
    if np.isinf(array).any():
        raise DataError("the target is infinite", value=_short(raw), allowed=NUMBERS)
    return array


def _class(raw: Any, spec: TargetSpec) -> int:
    """Return the index of a class: by its name, by a threshold, as a truth value, or as the index itself."""
    if spec.threshold is not None:
        number = _numbers(raw)
        if number.size != 1:
            raise DataError("the target is not one number", value=_short(raw), allowed="one number to compare")
        return int(number.item() > spec.threshold)
    names = spec.classes or ("0", "1")
    index = class_index(raw, names)
    if index is not None:
        return index
    raise DataError("there is no such class", value=_short(raw), allowed=_allowed_classes(names))


def _allowed_classes(names: Sequence[str]) -> str:
    if are_numbers(names):
        return ", ".join(names)
    return f"{', '.join(names)}, or their index, 0 to {len(names) - 1}"


def _short(raw: Any) -> Any:
    """Return a value that is fit to be shown: the beginning of a long one."""
    text = raw if isinstance(raw, str) else repr(raw)
    return raw if len(text) <= 60 else f"{text[:57]}..."
