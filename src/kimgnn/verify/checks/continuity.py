"""Jumps of a function of one variable, and of its derivatives, found from its values alone."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

SIDE: Final = 6
"""Points on one side of an interval, through which a polynomial is laid and continued to the interval's middle."""

ZOOM: Final = 8
"""By how much steps shorten from one look to the next."""


def _jump_weights(order: int) -> Floats:
    """Weights of the points around an interval: the polynomial right of it less the left one, in its middle.

    Of order 1 and 2 it is their derivatives that are compared, for steps of length 1.
    """
    nodes = np.arange(-SIDE, 0) + 0.5
    left = factorial(order) * np.linalg.inv(np.vander(nodes, increasing=True))[order]
    return np.concatenate([-left, (-1) ** order * left[::-1]])


JUMP: Final = _jump_weights(0)

_STEP: Final = np.correlate(np.repeat([0.0, 1.0], 2 * SIDE - 1), JUMP, mode="valid")
SEARCH: Final = np.convolve(JUMP, _STEP[::-1]) / np.sum(_STEP**2)
"""The filter matched to a step's trace in `JUMP`, which itself is larger beside a step than on it."""

_BEFORE: Final = len(SEARCH) // 2 - 1
"""The filter's points before those that bound its interval."""


class Jump(NamedTuple):
    """Where a function jumps, and by how much."""

    where: float
    size: float


def suspicious(values: Floats, floor: Floats) -> list[int]:
    """Return the intervals of an even grid over which a function is less smooth than at a distance to both sides.

    Args:
        values: Of the function on the grid.
        floor: The size below which a jump is of no interest, at each point of the grid.

    Returns:
        Interval i lies between the points i and i + 1.
    """
    trace = np.abs(np.correlate(values, SEARCH, mode="valid"))
    near, far = len(SEARCH) // 2, len(SEARCH) + len(SEARCH) // 2
    around = sliding_window_view(np.pad(trace, far), 2 * far + 1)
    left, right = around[:, : far - near].max(axis=1), around[:, -(far - near) :].max(axis=1)
    peak = trace == around[:, far - near : far + near + 1].max(axis=1)
    level = np.maximum(floor[_BEFORE : _BEFORE + len(trace)], 3 * np.minimum(left, right))
    return (np.flatnonzero(peak & (trace > level)) + _BEFORE).tolist()


def find_jump(function: Function, where: float, step: float, last: float, floor: float) -> Jump:
    """Look at a place with shorter and shorter steps until what seems a jump is below ``floor``, or the last step done.

    What is smooth loses the sixth power of the step on the way, a kink the first, a jump nothing.

    Args:
        function: Values at an array of places.
        where: The middle of a suspicious interval.
        step: Its length.
        last: The shortest step.
        floor: The size below which a jump is of no interest.
    """
    while True:
        points = _points(where, step, ZOOM + ZOOM // 2 + _BEFORE + 1)
        values = function(points)
        first = int(np.argmax(np.abs(np.correlate(values, SEARCH, mode="valid")))) + _BEFORE
        where = float(points[first : first + 2].mean())
        size = float(_jumps(values, 0, step)[first - SIDE + 1])
        step /= ZOOM
        if size <= floor or step < last:
            return Jump(where, size)


def kink(function: Function, where: float, order: int, step: float) -> float:
    """Return the jump of a function's first or second derivative at a place, seen with one length of step."""
    return float(_jumps(function(_points(where, step, SIDE)), order, step)[0])


def rounding_noise(function: Function, where: float, order: int, step: float) -> float:
    """Return what rounding makes of the jump of a derivative (order 0: of the function) around a smooth place.

    It is the median over a few places, so that a jump among them does no harm.
    """
    return float(np.median(_jumps(function(_points(where, step, 4 * SIDE)), order, step)))


def _points(where: float, step: float, count: int) -> Floats:
    return where + step * (np.arange(-count, count) + 0.5)


def _jumps(values: Floats, order: int, step: float) -> Floats:
    """Sizes of the jumps in all intervals that have enough points to both sides."""
    return np.abs(np.correlate(values, _jump_weights(order), mode="valid")) / step**order
