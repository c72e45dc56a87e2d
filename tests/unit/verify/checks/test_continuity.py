"""Jumps and kinks are found where they are, as large as they are, and smooth functions have none."""

import numpy as np
import pytest

from kimgnn.verify.checks.continuity import Floats, find_jump, kink, rounding_noise, suspicious

GRID = np.linspace(1.0, 5.0, 600)
PLACE = 3.456789


def well(r: Floats) -> Floats:
    """Lennard-Jones's potential with its minimum of -1 at 2: steep, and smooth."""
    return (2.0 / r) ** 12 - 2.0 * (2.0 / r) ** 6


def broken(size: float, power: int) -> Floats:
    """The potential and, from a place on, a power of the distance from there."""
    return lambda r: well(r) + size * np.where(r > PLACE, (r - PLACE) ** power, 0.0)


def found(function: object, floor: float = 1e-9) -> list[float]:
    """Places of all jumps above the floor."""
    values = function(GRID)
    step = GRID[1] - GRID[0]
    jumps = [
        find_jump(function, GRID[index] + step / 2, step, 1e-12, floor)
        for index in suspicious(values, np.full(len(GRID), floor))
    ]
    return [jump.where for jump in jumps if jump.size > floor]


def test_a_smooth_function_has_no_jump() -> None:
    """However steep its wall."""
    assert found(well) == []


@pytest.mark.parametrize("size", [1e-6, 1e-2, -0.3])
def test_a_jump_is_found_where_it_is(size: float) -> None:
    """Even one of a millionth of the well's depth; to the last step, and its own size within a thousandth."""
    function = broken(size, 0)
    (where,) = set(np.round(found(function), 9))
    assert where == pytest.approx(PLACE, abs=1e-9)
    assert find_jump(function, PLACE, 0.01, 1e-12, 1e-9).size == pytest.approx(abs(size), rel=1e-3)


def test_a_kink_is_no_jump() -> None:
    """A slope that jumps by 1 leaves a jump of the value of the order of the last step, 1e-12."""
    assert found(broken(1.0, 1)) == []


@pytest.mark.parametrize("order", [1, 2])
def test_the_jump_of_a_derivative_has_its_size(order: int) -> None:
    """0.1 x^k jumps by 0.1 k! in its k-th derivative; curvature over the steps costs less than a hundredth."""
    size = 0.1 * order
    assert kink(broken(0.1, order), PLACE, order, 1e-3) == pytest.approx(size, rel=0.01)
    assert kink(well, PLACE, order, 1e-3) < 1e-6


def test_noise_is_that_of_the_arithmetic() -> None:
    """Single precision shows, double hardly; and a jump in the middle does not count."""

    def single(r: Floats) -> Floats:
        return well(r.astype(np.float32)).astype(np.float64)

    assert 1e-8 < rounding_noise(single, 2.5, 0, 1e-5) < 1e-5
    assert rounding_noise(well, 2.5, 0, 1e-5) < 1e-13
    assert rounding_noise(broken(1.0, 0), PLACE, 0, 1e-5) < 1e-13
