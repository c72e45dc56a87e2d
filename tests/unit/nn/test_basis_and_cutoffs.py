"""Bases and envelopes are what their equations say."""

import math

import pytest
import torch

from kimgnn.nn.activations import ShiftedSoftplus
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.cutoffs import CosineCutoff, PolynomialCutoff


def test_gaussians_peak_at_their_centres_and_have_the_width_asked_for():
    """A Gaussian is 1 at its centre and exp(-1/2) one width away; by default the width is the spacing."""
    basis = GaussianBasis(cutoff=4.0, num_gaussians=5)
    at_centres = basis(torch.arange(5, dtype=torch.float64))
    torch.testing.assert_close(at_centres.diagonal(), torch.ones(5, dtype=torch.float64))
    assert at_centres[1, 2].item() == pytest.approx(math.exp(-0.5))
    assert GaussianBasis(4.0, 5, width=0.25)(torch.tensor([0.25]))[0, 0].item() == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(("envelope", "vanishing"), [(CosineCutoff(3.0), 1), (PolynomialCutoff(3.0), 2)])
def test_envelope_and_its_derivatives_vanish_at_the_cutoff(envelope: torch.nn.Module, vanishing: int):
    """1 at zero, 0 beyond, and at the cutoff as many derivatives vanish as each promises."""
    assert envelope(torch.tensor([0.0, 3.0, 3.5], dtype=torch.float64)).tolist() == [1.0, 0.0, 0.0]
    x = torch.tensor([3.0 - 1e-7], dtype=torch.float64, requires_grad=True)
    value = envelope(x)
    for _ in range(vanishing):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        assert abs(value.item()) < 1e-5


def test_polynomial_envelope_is_dimenets():
    """At half the cutoff with p = 6: 1 - 28/64 + 48/128 - 21/256 (Gasteiger et al. 2020, equation 8)."""
    value = PolynomialCutoff(2.0, 6)(torch.tensor([1.0], dtype=torch.float64))
    assert value.item() == pytest.approx(1 - 28 / 64 + 48 / 128 - 21 / 256, abs=1e-15)


def test_shifted_softplus_keeps_double_precision():
    """ln(e^x/2 + 1/2) to rounding, also where torch's default would call it linear."""
    x = torch.linspace(-30, 30, 121, dtype=torch.float64)
    expected = torch.tensor(
        [math.log1p(math.exp(-abs(v))) + max(v, 0) - math.log(2) for v in x.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(ShiftedSoftplus()(x), expected, rtol=1e-15, atol=1e-15)
