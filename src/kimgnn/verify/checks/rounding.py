"""How far two evaluations differ, and how far they may by the rounding of the model's own arithmetic."""

from __future__ import annotations

from typing import Final

import numpy as np

from kimgnn.verify.checks.grades import largest_error
from kimgnn.verify.checks.kim_model import Evaluation, KIMModel
from kimgnn.verify.checks.structures import SEED, Structure

STEP: Final = 1e-7
"""Å: below what single precision resolves, and so small that no model bends visibly over it in double precision."""


def difference(found: Evaluation, expected: Evaluation) -> float:
    """Return the larger of the relative errors of energy and forces; NaN if a number is not finite.

    Forces are compared with the largest component expected; the energy with itself or, where it happens to cancel, with
    that force times 1 Å.
    """
    force_scale = np.abs(expected.forces).max()
    energy_scale = max(abs(expected.energy), force_scale)
    errors = [abs(found.energy - expected.energy), np.abs(found.forces - expected.forces).max()]
    scales = [energy_scale, force_scale]
    # A model without interactions agrees with itself.
    relative = [error / scale if scale else error for error, scale in zip(errors, scales, strict=True)]
    return float(np.max(relative))


def tolerance(model: KIMModel, structure: Structure) -> float:
    """Return the largest relative error between evaluations that should be equal.

    OpenKIM's is not published. A model in double precision is allowed an error of grade A, 7e-9. One that rounds more
    coarsely may err by a hundred times its own rounding, measured as what remains when energy and forces at a point are
    compared with their mean at two points `STEP` to either side; but by no more than grade C's limit, 7e-4, however
    noisy it is.
    """
    rng = np.random.default_rng(SEED)
    middle = model.evaluate(structure)
    noise = 0.0
    for _ in range(2):
        step = rng.uniform(-STEP, STEP, structure.positions.shape)
        ahead = model.evaluate(structure.at(structure.positions + step))
        behind = model.evaluate(structure.at(structure.positions - step))
        mean = Evaluation((ahead.energy + behind.energy) / 2, (ahead.forces + behind.forces) / 2)
        noise = max(noise, difference(mean, middle))
    return float(np.clip(100 * noise, largest_error("A"), largest_error("C")))
