"""The convolution over pairs: that over edges, and all of its derivatives."""

import pytest
import torch
from torch import Tensor

from kimgnn.nn.inputs import GraphInputs
from kimgnn.nn.pair_convolution import PairEnds, pair_convolution, pair_ends

# Two pairs of the same atoms, an atom that is its own neighbour, one without any.
ENDS = PairEnds(torch.tensor([0, 0, 1, 2, 0]), torch.tensor([1, 2, 2, 2, 1]))


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def by_edges(filters: Tensor, x: Tensor, ends: PairEnds) -> Tensor:
    """Return the same by one message an edge."""
    sender, receiver = torch.cat([*ends]), torch.cat([*reversed(ends)])
    return torch.zeros_like(x).index_add(0, receiver, torch.cat([filters, filters]) * x[sender])


def test_convolution_and_its_derivatives() -> None:
    """By filters and features, once and twice, as training on forces takes them; against sums over edges too."""
    torch.manual_seed(0)
    filters, x = drawn(5, 3), drawn(4, 3)
    torch.testing.assert_close(pair_convolution(filters, x, ENDS), by_edges(filters, x, ENDS), rtol=0, atol=1e-14)

    def convolution(filters: Tensor, x: Tensor) -> Tensor:
        return pair_convolution(filters, x, ENDS)

    assert torch.autograd.gradcheck(convolution, (filters, x))
    assert torch.autograd.gradgradcheck(convolution, (filters, x))


def test_what_is_held_is_autograds() -> None:
    """What a dry run counts, and what a backward pass lets go of: features and filters are among it."""
    ends, x, filters = PairEnds(torch.tensor([0, 1]), torch.tensor([1, 1])), torch.rand(2, 3), torch.rand(2, 3)
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: seen.append(tensor) or tensor, lambda tensor: tensor):
        pair_convolution(filters.requires_grad_(), x.requires_grad_(), ends)
    assert {tensor.data_ptr() for tensor in seen} == {x.data_ptr(), filters.data_ptr()}


def test_third_derivatives() -> None:
    """They are those of sums over edges: nothing is left out anywhere."""
    torch.manual_seed(0)
    filters, x = drawn(5, 3), drawn(4, 3)
    found = []
    for convolution in (pair_convolution, by_edges):
        value = convolution(filters, convolution(filters, x, ENDS).tanh(), ENDS).square().sum()
        for _ in range(3):
            value = sum(g.pow(3).sum() for g in torch.autograd.grad(value, (filters, x), create_graph=True))
        found.append(value)
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)


def inputs(n: int = 2, node_counts: list[int] | None = None, edge_counts: list[int] | None = None, paired: bool = True):
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    pairs = (torch.tensor([0, 2]), torch.tensor([0, 0, 1, 1]), [2] * n) if paired else None
    vectors = torch.zeros(4, 3, dtype=torch.float64)
    return GraphInputs(torch.tensor([14] * 3), edges, vectors, node_counts or [3] * n, edge_counts or [4] * n, pairs)


def test_ends_are_those_of_the_first_edge() -> None:
    """Of each pair."""
    ends = pair_ends(inputs())
    assert ends is not None
    assert [end.tolist() for end in ends] == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    "staged",
    [inputs(paired=False), inputs(node_counts=[3, 2]), inputs(edge_counts=[4, 2])],
    ids=["free", "nodes", "edges"],
)
def test_no_ends_where_edges_may_have_none_back(staged: GraphInputs) -> None:
    """Without pairs, and where a layer takes a part of the graph."""
    assert pair_ends(staged) is None
