"""Set2Set against PyG's with its weights, and what a readout of sets must be."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.aggr import Set2Set as PygSet2Set

from kimgnn.nn.set2set import Set2Set


def read(module: Set2Set, x: torch.Tensor, sets: list[int]) -> torch.Tensor:
    return module(x, torch.tensor(sets, dtype=torch.int64), max(sets, default=0) + 1)


def test_same_as_pyg_with_its_weights() -> None:
    """To rounding, for sets of different sizes, and the gradient too."""
    theirs = PygSet2Set(5, processing_steps=4).double()
    ours = Set2Set(5, 4).double()
    with torch.no_grad():
        ours.of_read.weight.copy_(theirs.lstm.weight_ih_l0)
        ours.of_read.bias.copy_(theirs.lstm.bias_ih_l0 + theirs.lstm.bias_hh_l0)
        ours.of_query.weight.copy_(theirs.lstm.weight_hh_l0)
    x, sets = torch.randn(9, 5).double().requires_grad_(), torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    expected, found = theirs(x, sets), ours(x, sets, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    weights = torch.randn(3, 10).double()
    (right,) = torch.autograd.grad((expected * weights).sum(), x)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(gradient, right, rtol=0, atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6))
def test_order_and_repetition_change_nothing(size: int, copies: int, seed: int) -> None:
    """A set in another order, or several times over, reads the same, to rounding; and so it does beside another."""
    torch.manual_seed(seed)
    module, x = Set2Set(3, 3).double(), 5.0 * torch.randn(size, 3).double()
    once = read(module, x, [0] * size)
    again = x.repeat(copies, 1)[torch.randperm(copies * size)]
    torch.testing.assert_close(read(module, again, [0] * len(again)), once, rtol=0, atol=1e-13)
    beside = torch.cat([x, torch.randn(4, 3).double()])
    torch.testing.assert_close(read(module, beside, [0] * size + [1] * 4)[:1], once, rtol=0, atol=1e-13)


def test_an_empty_set_reads_zero() -> None:
    """Only what the LSTM makes of nothing is left: a crystal without bonds among others has no NaN."""
    module = Set2Set(3, 2).double()
    found = module(torch.randn(4, 3).double(), torch.tensor([0, 0, 2, 2]), 3)
    assert found.isfinite().all()
    assert torch.equal(found[1, 3:], torch.zeros(3).double())
    torch.testing.assert_close(module(torch.zeros(0, 3).double(), torch.zeros(0, dtype=torch.int64), 1), found[1:2])


def test_large_features_in_single_precision() -> None:
    """Scores of hundreds: the exponential would overflow, the softmax does not."""
    module, x = Set2Set(4, 3), 1e4 * torch.randn(6, 4)
    expected = Set2Set(4, 3).double()
    expected.load_state_dict(module.state_dict())
    right = read(expected, x.double(), [0] * 6)
    torch.testing.assert_close(read(module, x, [0] * 6).double(), right, rtol=1e-5, atol=1e-3)
