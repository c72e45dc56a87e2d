"""Energy and slope of two atoms against their distance: are they continuous, also where the interaction ends?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from kimgnn.verify.checks.comparisons import Case, compare_each, pass_or_fail
from kimgnn.verify.checks.continuity import Floats, Function, find_jump, kink, rounding_noise, suspicious
from kimgnn.verify.checks.dimers import DimerCurve, Pair, dimer_curve, evaluate_dimer, pairs
from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.kim_model import KIMModel

SMALLEST_JUMP: Final = 1e-7
"""Relative; cutoff functions such as 1 - cos x end in a jump of 1e-8, where x reaches the root of double precision."""

SHORTEST_STEP: Final = 1e-12
"""Å: over it even a slope a thousand times steeper than the scale of its function changes nothing that is allowed."""

NOISE_STEP: Final = 1e-5
"""Å: many times the resolution of single precision, and too short for curvature."""

NOISE_FACTOR: Final = 50.0
"""A jump is one of the function, not of its rounding, when it is this many times the rounding's median."""

DERIVATIVE_STEPS: Final = {1: 1e-3, 2: 5e-3}
"""Order of a derivative of the slope -> Å, between what rounding and what curvature spoil."""

SMALLEST_KINK: Final = 1e-3
"""Relative to the derivative's scale; what a kink of the next order looks like over those steps is less."""


class Smoothness(NamedTuple):
    """How many derivatives of the energy are continuous, -1 if it is not so itself; and the same in words."""

    order: int
    words: str


@dataclass(frozen=True)
class _Quantity:
    """Energy or slope of one pair.

    Attributes:
        name: Which of them.
        function: It, of distances.
        values: Along the pair's curve.
        scale: Its largest size beyond the equilibrium distance.
        allowed: The largest jump that passes, relative to its size at the place or its scale, whichever is larger.
    """

    name: str
    function: Function
    values: Floats
    scale: float
    allowed: float

    @property
    def sizes(self) -> Floats:
        """What a jump is relative to, along the curve."""
        return np.maximum(np.abs(self.values), self.scale)


def dimer_continuity_c1(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if energy and slope of every dimer are continuous; jumps of the next two derivatives are told.

    Jumps are looked for at the cutoffs, and wherever energy or slope is less smooth than at a distance to both sides.
    What is below `SMALLEST_JUMP`, or does not stand out of the model's own rounding, is none.
    """
    smoothness: dict[str, Smoothness] = {}

    def compare(name: str, pair: Pair) -> list[Case]:
        curve = dimer_curve(model, pair)
        energy, slope = _quantities(model, curve)
        places = _places(model, curve, (energy, slope))
        jumps = {quantity.name: list(_jumps(name, curve, quantity, places)) for quantity in (energy, slope)}
        smoothness[name] = _smoothness(curve, slope, places, jumps)
        return jumps["energy"] + jumps["slope"]

    cases, note = compare_each(pairs(species), compare)
    if not cases:
        return Outcome("P", "no two atoms interact")
    roughest = min(smoothness.values())
    names = [name for name, found in smoothness.items() if found == roughest]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return pass_or_fail(cases, f"{shown}: {roughest.words}", note)


def _quantities(model: KIMModel, curve: DimerCurve) -> tuple[_Quantity, _Quantity]:
    def energy(distances: Floats) -> Floats:
        return evaluate_dimer(model, curve.pair, distances)[0]

    def slope(distances: Floats) -> Floats:
        return evaluate_dimer(model, curve.pair, distances)[1]

    return _quantity(curve, "energy", energy, curve.energies), _quantity(curve, "slope", slope, curve.slopes)


def _quantity(curve: DimerCurve, name: str, function: Function, values: Floats) -> _Quantity:
    scale = _scale(curve, values)
    noise = rounding_noise(function, curve.equilibrium, 0, NOISE_STEP)
    allowed = max(SMALLEST_JUMP, NOISE_FACTOR * noise / scale) if scale else SMALLEST_JUMP
    return _Quantity(name, function, values, scale, allowed)


def _scale(curve: DimerCurve, values: Floats) -> float:
    return float(np.abs(values[curve.distances >= curve.equilibrium]).max())


def _places(model: KIMModel, curve: DimerCurve, quantities: Iterable[_Quantity]) -> list[float]:
    """The cutoffs, and where a quantity looks as if it jumped."""
    found = set(model.cutoffs)
    for quantity in quantities:
        indices = suspicious(quantity.values, quantity.allowed * quantity.sizes)
        found |= {float(curve.distances[index : index + 2].mean()) for index in indices}
    return sorted(place for place in found if place > curve.distances[0])


def _jumps(name: str, curve: DimerCurve, quantity: _Quantity, places: Iterable[float]) -> Iterator[Case]:
    step = float(curve.distances[1] - curve.distances[0])
    for place in places if quantity.scale else ():
        size = float(np.interp(place, curve.distances, quantity.sizes))
        # Looked at until it is well below what is allowed, so that the number told is not the one it stopped at.
        jump = find_jump(quantity.function, place, step, SHORTEST_STEP, 0.1 * quantity.allowed * size)
        yield Case(f"{quantity.name} of {name} at {jump.where:.4f} Å", jump.size / size, quantity.allowed)


def _smoothness(
    curve: DimerCurve, slope: _Quantity, places: Sequence[float], jumps: dict[str, list[Case]]
) -> Smoothness:
    if any(case.excess > 1.0 for case in jumps["energy"]):
        return Smoothness(-1, "not continuous")
    if any(case.excess > 1.0 for case in jumps["slope"]):
        return Smoothness(0, "C0")
    derivative = slope.values
    for order, step in DERIVATIVE_STEPS.items():
        derivative = np.gradient(derivative, curve.distances)
        smallest = SMALLEST_KINK * _scale(curve, derivative)
        if NOISE_FACTOR * rounding_noise(slope.function, curve.equilibrium, order, step) > smallest:
            return Smoothness(order, f"at least C{order}, more is lost in rounding")
        if any(kink(slope.function, place, order, step) > smallest for place in places):
            return Smoothness(order, f"C{order}")
    return Smoothness(3, "at least C3")
