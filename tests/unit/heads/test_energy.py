"""The energy head: reference energies, scale and precision."""

import pytest
import torch

from kimgnn.errors import ModelError
from kimgnn.heads.energy import EnergyHead, EnergyOptions


def test_reference_energies_and_scale_are_affine():
    """E = scale · MLP + reference(z), in float64 whatever the MLP's precision."""
    torch.manual_seed(0)
    head = EnergyHead(EnergyOptions({"Si": -5.0, "C": -7.0}, 3.0), 8, {"Si": 14, "C": 6})
    head.mlp.to(torch.float32)
    features, z = torch.randn(3, 8), torch.tensor([14, 6, 14])
    energies = head(features, z)
    assert energies.dtype == torch.float64
    expected = 3.0 * head.mlp(features).squeeze(1).double() + torch.tensor([-5.0, -7.0, -5.0], dtype=torch.float64)
    torch.testing.assert_close(energies, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"scale": -1.0}, {"hidden_channels": 0}])
def test_options_out_of_range_are_named(options: dict[str, float]):
    """A scale of zero would make every force zero; it is refused by name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        EnergyOptions(**options)


@pytest.mark.parametrize("options", [EnergyOptions(), EnergyOptions("none", "fit"), EnergyOptions("fit", 1.0)])
def test_nothing_may_be_left_to_fit(options: EnergyOptions):
    """A head that still says "fit" is refused: it would be silently unscaled."""
    with pytest.raises(ModelError, match="heads.energy"):
        EnergyHead(options, 8, {})
