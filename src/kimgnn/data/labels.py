"""Labels of one ASE structure: found under the key asked for, checked, converted. Nothing is ever computed here."""

from __future__ import annotations

from typing import Any, Final

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from kliff.dataset import Configuration
from kliff.dataset.dataset import ConfigurationError
from numpy.typing import NDArray

from kimgnn.errors import DataError
from kimgnn.fields import ENERGY, FORCES, STRESS

KEYS: Final = "label_keys"
"""Metadata of a configuration: label -> the key it was looked up under."""

KEYS_PRESENT: Final = "label_keys_present"
"""Metadata of a configuration: label -> the keys under which its file has values of the right kind."""

ASE_RESULTS: Final = (ENERGY, "free_energy", FORCES, STRESS)
"""Keys that ASE's readers move into the results of a `SinglePointCalculator`."""

SYMMETRIC: Final = 1e-3
"""A stress whose off-diagonal pairs differ by more than this fraction of its largest component is not a stress."""

_SUBJECT: Final = {ENERGY: "the energy is", FORCES: "the forces are", STRESS: "the stress is"}


def find_label(atoms: ase.Atoms, label: str, key: str) -> Any:
    """Return what a file has under ``key``, or ``None``.

    It is looked for in ``atoms.info`` (in ``atoms.arrays`` for forces), exactly as spelled. Only ASE's own names may
    also come from the results that a reader attached, raw: ``get_forces()`` would zero those of constrained atoms.
    """
    store = atoms.arrays if label == FORCES else atoms.info
    if key in store:
        return store[key]
    if key in ASE_RESULTS and isinstance(atoms.calc, SinglePointCalculator):
        return atoms.calc.results.get(key)
    return None


def keys_present(atoms: ase.Atoms, label: str) -> list[str]:
    """Return the keys under which a structure has something of the shape of ``label``."""
    results = atoms.calc.results if isinstance(atoms.calc, SinglePointCalculator) else {}
    named = {key: value for key, value in results.items() if key in ASE_RESULTS and value is not None}
    named |= {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")} | atoms.info
    known: dict[str, list[tuple[int, ...]]] = {
        ENERGY: [()],
        FORCES: [(len(atoms), 3)],
        STRESS: [(6,), (9,), (3, 3)],
    }
    shapes = known[label]
    return sorted(key for key, value in named.items() if _shape_of_numbers(value) in shapes)


def _shape_of_numbers(value: Any) -> tuple[int, ...] | None:
    """Return the shape of numbers, ``None`` of what is none; told from its type where that is enough, for speed."""
    if isinstance(value, bool | str):
        return None
    if isinstance(value, int | float):
        return ()
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array.shape if array.dtype.kind in "if" else None


def checked_label(value: Any, label: str, n_atoms: int, where: str) -> NDArray[np.float64]:
    """Return a label as an array: energy (), forces (n_atoms, 3), stress (6,) in Voigt order xx yy zz yz xz xy.

    Args:
        value: As found: a stress may be (6,), (9,) or (3, 3).
        label: `fields.ENERGY`, `FORCES` or `STRESS`.
        n_atoms: Atoms in the structure.
        where: File, frame and key, for messages.

    Raises:
        DataError: Not numbers, the wrong shape, NaN or infinite, or a stress that is not symmetric.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{_SUBJECT[label]} not numeric", where=where, value=value) from error
    if label == ENERGY and array.size == 1:
        array = array.reshape(())
    if label == STRESS and array.size == 9:
        array = _voigt(array.reshape(3, 3), where)
    expected = {ENERGY: (), FORCES: (n_atoms, 3), STRESS: (6,)}[label]
    if array.shape != expected:
        allowed = f"{expected}, (9,) or (3, 3)" if label == STRESS else str(expected)
        raise DataError(f"the shape of the {label} is wrong", where=where, value=array.shape, allowed=allowed)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = f", atom {bad[0][0]}" if label == FORCES else ""
        raise DataError(
            f"{_SUBJECT[label]} NaN or infinite",
            where=where,
            value=f"{array[tuple(bad[0])]}{place}",
            allowed="finite numbers",
            remedy="Remove the label or the structure from the file.",
        )
    return array


def _voigt(stress: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if abs(stress - stress.T).max() > SYMMETRIC * abs(stress).max():
        raise DataError("the stress is not symmetric", where=where, value=stress.tolist())
    return np.asarray(full_3x3_to_voigt_6_stress(stress))


def has_label(configuration: Configuration, label: str) -> bool:
    """Whether a configuration carries a label; KLIFF raises when one that it lacks is read."""
    try:
        return getattr(configuration, label) is not None
    except ConfigurationError:
        return False
