"""Labels by an ASE calculator, each in a file of its own as soon as it is computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from kimgnn.active.frames import NAME, bare, write_frames
from kimgnn.errors import DataError, ManifestError
from kimgnn.fields import ENERGY, FORCES, STRESS
from kimgnn.files import atomic_write

SUFFIX: Final = ".extxyz"
"""Of a label's file, after the structure's name."""

FAILED: Final = ".failed"
"""Of a file in its place that says why there is none."""


def calculator_factory(name: str, arguments: Mapping[str, Any]) -> Callable[[], Calculator]:
    """Return what makes a new calculator at each call.

    Args:
        name: Dotted: module and class, or function.
        arguments: What it is called with.

    Raises:
        ManifestError: There is no such module or name, or it takes no such arguments.
    """
    where = "active.label.calculator"
    module, _, attribute = name.rpartition(".")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        remedy = "Install the package that has it, or correct the name."
        raise ManifestError(f"cannot be imported: {error}", where=where, value=name, remedy=remedy) from error

    def make() -> Calculator:
        try:
            calculator = factory(**arguments)
        except Exception as error:  # of any kind: a calculator's own
            raise ManifestError(
                f"cannot be made: {type(error).__name__}: {error}",
                where="active.label.arguments",
                value=dict(arguments),
            ) from error
        if not hasattr(calculator, "get_property"):
            raise ManifestError("makes no ASE calculator", where=where, value=name)
        return calculator

    return make


def label_all(
    structures: Sequence[Atoms], make: Callable[[], Calculator], folder: Path, skip: bool, retry: bool = False
) -> None:
    """Compute the labels that are not there yet.

    Args:
        structures: With a name in their ``info``.
        make: Makes a calculator, a new one for each structure: many keep things of the one before.
        folder: Gets a file for each structure.
        skip: Leave out a structure for which the calculator fails, told in a file in the place of its label.
        retry: Try those that were left out before once more.

    Raises:
        DataError: A structure's labels cannot be computed.

    Warns:
        UserWarning: One is left out.
    """
    for atoms in structures:
        name = atoms.info[NAME]
        path, failed = folder / f"{name}{SUFFIX}", folder / f"{name}{FAILED}"
        if path.exists() or (failed.exists() and not retry):
            continue
        calculator = make()
        try:
            labelled = compute(atoms, calculator)
        except Exception as error:  # of any kind: a program that is missing, a field that does not converge
            reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            if not skip:
                raise DataError(
                    f"its labels cannot be computed: {reason}",
                    where=f"structure {name}",
                    remedy="Run the same again when that is mended (labels until now are kept), or set "
                    "active.label.on_error to skip.",
                ) from error
            warnings.warn(f"structure {name} is left out: {reason}", stacklevel=2)
            with atomic_write(failed) as file:
                file.write(reason + "\n")
            continue
        write_frames(path, [labelled])
        failed.unlink(missing_ok=True)


def compute(atoms: Atoms, calculator: Calculator) -> Atoms:
    """Return the structure with energy, forces and, where it has one, stress.

    Raises:
        DataError: A label is not finite, or of the wrong shape.
    """
    copy = bare(atoms)
    labels = {name: calculator.get_property(name, copy) for name in (ENERGY, FORCES)}
    if copy.pbc.all():
        try:
            labels[STRESS] = calculator.get_property(STRESS, copy)
        except PropertyNotImplementedError:
            pass
    return with_labels(atoms, labels)


def with_labels(atoms: Atoms, labels: Mapping[str, Any]) -> Atoms:
    """Return a copy of a structure, its name included, that carries labels.

    Args:
        atoms: The structure.
        labels: ``energy``, ``forces`` and perhaps ``stress``, in ASE's units and order.

    Raises:
        DataError: A label is missing, not finite, or of the wrong shape.
    """
    shapes = {ENERGY: (), FORCES: (len(atoms), 3), STRESS: (6,)}
    checked = {}
    for name, shape in shapes.items():
        if labels.get(name) is None:
            if name == STRESS:
                continue
            raise DataError(f"has no {name}")
        value = np.asarray(labels[name], dtype=float)
        if value.shape != shape:
            raise DataError(f"{name} is of another shape", value=value.shape, allowed=str(shape))
        if not np.isfinite(value).all():
            raise DataError(f"{name} is not finite")
        checked[name] = value
    copy = bare(atoms)
    copy.info |= atoms.info
    copy.calc = SinglePointCalculator(copy, **checked | {ENERGY: float(checked[ENERGY])})
    return copy
