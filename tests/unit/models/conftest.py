"""What the tests of the architectures share."""

from collections.abc import Callable

import pytest
import torch

from kimgnn.models.network import Network
from kimgnn.nn.inputs import GraphInputs


@pytest.fixture
def check_prefixes_and_pairs() -> Callable[[Network], None]:
    """Check that a network of two layers says the same of a chain staged, each layer on a prefix, and in pairs."""

    def check(network: Network) -> None:
        # Node 0 contributes; 1, 2 are one hop away, 3, 4 two. Edges by hop of their receiver; not all in a line.
        z = torch.tensor([14, 6, 14, 14, 6])
        edges = torch.tensor([[1, 2, 0, 3, 0, 4, 1, 2], [0, 0, 1, 1, 2, 2, 3, 4]])
        places = [[0.0, 0, 0], [2.5, 0.3, 0], [-2.5, 0.2, 0], [4.9, 0.7, 0], [-4.9, 0.1, 0]]
        position = torch.tensor(places, dtype=torch.float64)
        vectors = position[edges[1]] - position[edges[0]]
        whole = network(GraphInputs(z, edges, vectors, [5, 5], [8, 8]))["energy"][:1]
        staged = network(GraphInputs(z, edges[:, :6], vectors[:6], [3, 1], [6, 2]))["energy"]
        torch.testing.assert_close(staged, whole, rtol=0, atol=1e-13)
        pairs = (torch.tensor([0, 1, 3, 5]), torch.tensor([0, 1, 0, 2, 1, 3, 2, 3]), [4, 4])
        paired = network(GraphInputs(z, edges, vectors, [5, 5], [8, 8], pairs))["energy"][:1]
        torch.testing.assert_close(paired, whole, rtol=0, atol=1e-13)

    return check
