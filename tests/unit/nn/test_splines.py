"""Splines from tables: what they interpolate, how smooth they are, and their derivatives."""

import pytest
import torch

from kimgnn.nn.splines import coefficients_of, sites, spline

CUTOFF = 4.0


def test_polynomials_are_themselves() -> None:
    """Quintic splines with coefficients from seven values reproduce polynomials of degree five, derivatives too."""
    powers = torch.arange(6)
    coefficients = coefficients_of((sites(CUTOFF, 10)[:, None] / CUTOFF) ** powers)
    lengths = torch.rand(50, dtype=torch.float64) * CUTOFF
    x = lengths[:, None] / CUTOFF
    torch.testing.assert_close(spline(lengths, coefficients, 0.4), x**powers, rtol=0, atol=1e-13)
    slope = powers * x ** (powers - 1).clamp(min=0) / CUTOFF
    torch.testing.assert_close(spline(lengths, coefficients, 0.4, order=1), slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [0, 1])
def test_error_falls_as_the_sixth_power(order: int) -> None:
    """Twice the intervals: 64 times less error of a smooth function, 32 times less of its derivative."""
    lengths = torch.linspace(0, CUTOFF, 4001, dtype=torch.float64)
    expected = torch.sin(3 * lengths) if order == 0 else 3 * torch.cos(3 * lengths)
    errors = []
    for intervals in (40, 80):
        coefficients = coefficients_of(torch.sin(3 * sites(CUTOFF, intervals))[:, None])
        found = spline(lengths, coefficients, CUTOFF / intervals, order)[:, 0]
        errors.append(float((found - expected).abs().max()))
    assert errors[0] / errors[1] > (45 if order == 0 else 22)  # the powers, less what the leading term leaves out


def test_four_derivatives_are_continuous() -> None:
    """On both sides of the ends of intervals."""
    coefficients = torch.randn(15, 3, dtype=torch.float64)
    ends = 0.4 * torch.arange(1, 10, dtype=torch.float64)
    for order in range(5):
        below, above = (spline(ends + shift, coefficients, 0.4, order) for shift in (-1e-9, 1e-9))
        # The next derivative times the distance between the sides.
        torch.testing.assert_close(below, above, rtol=0, atol=1e-4)


def test_derivatives() -> None:
    """By the distance twice, and by the coefficients after one by the distance, as training on forces takes them."""
    lengths = (torch.rand(7, dtype=torch.float64) * CUTOFF).requires_grad_(True)
    table = torch.randn(17, 3, dtype=torch.float64, requires_grad=True)

    def values(lengths: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return spline(lengths, table, CUTOFF / 12)

    def slopes(table: torch.Tensor) -> torch.Tensor:
        squared = values(lengths, table).square().sum()
        (slope,) = torch.autograd.grad(squared, lengths, create_graph=True)
        return slope

    assert torch.autograd.gradcheck(values, (lengths, table))
    assert torch.autograd.gradgradcheck(lambda lengths: values(lengths, table.detach()), (lengths,))
    assert torch.autograd.gradcheck(slopes, (table,))


def test_what_is_not_followed_is_refused() -> None:
    """A derivative by the coefficients cannot be derived again: an error, not a wrong number."""
    lengths = (torch.rand(7, dtype=torch.float64) * CUTOFF).requires_grad_(True)
    table = torch.randn(17, 3, dtype=torch.float64, requires_grad=True)
    value = spline(lengths, table, CUTOFF / 12).square().sum()
    (by_table,) = torch.autograd.grad(value, table, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        by_table.sum().backward()


def test_beyond_the_cutoff() -> None:
    """Constant there, with no slope."""
    table = torch.randn(17, 2, dtype=torch.float64)
    far = torch.tensor([CUTOFF, 2 * CUTOFF], dtype=torch.float64)
    at_end, beyond = spline(far, table, CUTOFF / 12)
    torch.testing.assert_close(beyond, at_end)
    assert not spline(far[1:], table, CUTOFF / 12, order=1).any()
