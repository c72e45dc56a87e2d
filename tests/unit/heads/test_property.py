"""The property head: transforms and their inverses, extensivity, what the layers see."""

import numpy as np
import pytest
import torch

from kimgnn.errors import ModelError
from kimgnn.heads.property import PropertyHead, apply_transform, undo_transform

NUMBERS = {"Si": 14, "O": 8}
Z = torch.tensor([14, 8, 8, 14, 14])
NODE_GRAPH = torch.tensor([0, 0, 0, 1, 1])
N_ATOMS = torch.tensor([3, 2])


def head_of(**options) -> PropertyHead:
    torch.manual_seed(0)
    options = {"mean": [0.0], "spread": [1.0], "reference": "none"} | options
    head = PropertyHead(PropertyHead.Options(target="gap", **options), 4, NUMBERS)
    head.mlp.double()
    return head.eval()


@pytest.fixture
def features():
    return torch.randn(5, 4, dtype=torch.float64)


def test_intensive_value_of_a_repeated_structure_is_the_same(features):
    """The mean over twice the atoms is the mean."""
    head = head_of(mean=[3.0], spread=[2.0], reference={"Si": 1.0, "O": -1.0})
    once = head(features, Z, torch.zeros(5, dtype=torch.int64), 1)
    twice = head(features.repeat(2, 1), Z.repeat(2), torch.zeros(10, dtype=torch.int64), 1)
    torch.testing.assert_close(twice, once, rtol=1e-14, atol=1e-14)


def test_extensive_value_of_a_repeated_structure_is_twice_as_large(features):
    """A sum over atoms; exact but for rounding."""
    head = head_of(extensive=True, mean=[3.0], spread=[2.0], reference={"Si": 1.0, "O": -1.0})
    graph = torch.zeros(5, dtype=torch.int64)
    once = head.physical(head(features, Z, graph, 1), torch.tensor([5]))
    twice = head.physical(head(features.repeat(2, 1), Z.repeat(2), graph.repeat(2), 1), torch.tensor([10]))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"extensive": True}, {"readout": "max"}, {"readout": "sum"}, {"loss": "nll"}])
def test_batch_is_what_single_structures_are(features, options):
    """Also without an index of structures, which exports use."""
    head = head_of(components=2, mean=[1.0, 2.0], spread=[0.5, 3.0], **options)
    batch = head(features, Z, NODE_GRAPH, 2)
    for graph in (0, 1):
        own = NODE_GRAPH == graph
        torch.testing.assert_close(head(features[own], Z[own], None, 1), batch[[graph]], rtol=1e-13, atol=1e-13)


def test_per_atom_property_is_that_of_each_atom(features):
    """No pooling: an atom's value depends on its own features and element."""
    head = head_of(per_atom=True, reference={"Si": 1.0, "O": -1.0})
    values = head(features, Z, NODE_GRAPH, 2)
    assert values.shape == (5, 1)
    torch.testing.assert_close(values[3:], head(features[3:], Z[3:], None, 1))


@pytest.mark.parametrize("transform", ["none", "log10", "per_atom"])
def test_transform_is_undone(transform):
    """10^log10 rounds relatively, by a few units in the last place."""
    target = torch.tensor([[0.02], [300.0]], dtype=torch.float64)
    learned = apply_transform(target, transform, N_ATOMS)
    torch.testing.assert_close(undo_transform(learned, transform, N_ATOMS), target, rtol=1e-14, atol=0.0)


def test_deviation_is_in_the_unit_of_the_property(features):
    """Of a logarithm, a change of the logarithm by σ; per atom, times the atoms."""
    for transform, extensive in (("none", False), ("log10", False), ("none", True)):
        head = head_of(transform=transform, extensive=extensive, loss="nll", spread=[2.0])
        output = head(features, Z, NODE_GRAPH, 2)
        sigma = 2.0 * torch.exp(0.5 * output[:, 1:])
        step = 1e-6
        moved = torch.cat([output[:, :1] + step * sigma, output[:, 1:]], dim=1)
        slope = (head.physical(moved, N_ATOMS) - head.physical(output, N_ATOMS)) / step
        # Forward differences of 10^t err by σ ln(10) h / 2, here 1e-5 relative at most.
        torch.testing.assert_close(head.deviation(output, N_ATOMS), slope, rtol=1e-4, atol=0.0)
    assert head_of().deviation(head_of()(features, Z, NODE_GRAPH, 2), N_ATOMS) is None


def test_nothing_is_left_to_fit():
    """A head by hand needs numbers."""
    with pytest.raises(ModelError, match=r"heads\.gap\.mean"):
        PropertyHead(PropertyHead.Options(target="gap", reference="none"), 4, NUMBERS)


def test_single_precision_keeps_the_reference_double():
    """Large reference values survive float32 layers: -2000.000123 eV is not rounded to 1e-4 eV."""
    head = head_of(extensive=True, reference={"Si": -2000.000123, "O": 0.0})
    head.mlp.float()
    with torch.no_grad():
        value = head(torch.zeros(1, 4), torch.tensor([14]), None, 1)
        layers = head.mlp(torch.zeros(1, 4))
    assert float(value) == pytest.approx(-2000.000123 + float(layers), abs=1e-9)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"components": 0}, "components"),
        ({"extensive": True, "per_atom": True}, "extensive"),
        ({"per_atom": True, "transform": "per_atom"}, "transform"),
        ({"components": 2, "reference": "fit"}, "reference"),
        ({"mean": [1.0, 2.0]}, "mean"),
        ({"spread": [0.0]}, "spread"),
        ({"dropout": 1.0}, "dropout"),
        ({"target": "energy"}, "target"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_options_out_of_range(options, told):
    """The message begins with the option's name."""
    with pytest.raises(ValueError, match=f"^{told} "):
        PropertyHead.Options(**({"target": "gap"} | options))


def test_references_of_elements_average_over_the_atoms():
    """With zero layers, what is left is mean + ⟨reference⟩."""
    head = head_of(mean=[0.5], reference={"Si": 3.0, "O": -3.0})
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    values = head(torch.zeros(5, 4, dtype=torch.float64), Z, NODE_GRAPH, 2)
    np.testing.assert_allclose(values.detach().numpy(), [[0.5 - 1.0], [0.5 + 3.0]], rtol=1e-14)
