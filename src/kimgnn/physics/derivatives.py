"""Forces and stress from one derivative: that of the energy with respect to the edge vectors.

With ``g_e = ∂E/∂v_e`` and ``v_e = r_receiver - r_sender + shift``, the chain rule gives every derivative as a sum over
edges: the force on an atom is ``Σ_{e from it} g_e - Σ_{e to it} g_e``, and under a homogeneous strain
(``v → (1 + ε) v``) ``∂E/∂ε = Σ_e g_e ⊗ v_e``. The stress is ``∂E/∂ε / V``, positive in tension.
"""

import torch
from torch import Tensor

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Voigt order xx yy zz yz xz xy (ASE's)."""


def gradient(energy: Tensor, inputs: list[Tensor], create_graph: bool) -> list[Tensor]:
    """Return the gradient of the summed ``energy`` with respect to each input, zero where it does not depend on one.

    Args:
        energy: Any shape, eV.
        inputs: Tensors that require grad, Å.
        create_graph: Keep the graph, to train on the gradient.
    """
    found = torch.autograd.grad(energy.sum(), inputs, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def forces_from_edges(edge_gradient: Tensor, edge_index: Tensor, n_nodes: int) -> Tensor:
    """Return forces, ``(n_nodes, 3)``, eV/Å, from ``edge_gradient`` ``(n_edges, 3)``, eV/Å."""
    forces = edge_gradient.new_zeros(n_nodes, 3)
    return forces.index_add(0, edge_index[0], edge_gradient).index_add(0, edge_index[1], edge_gradient, alpha=-1)


def strain_derivative(gradients: Tensor, vectors: Tensor, graph: Tensor, n_graphs: int) -> Tensor:
    """Return ``∂E/∂ε`` of each graph, ``(n_graphs, 3, 3)``, eV.

    Args:
        gradients: ``(n, 3)``, derivative with respect to each vector, eV/Å.
        vectors: ``(n, 3)``, vectors that a strain deforms, Å.
        graph: ``(n,)`` int64, the graph that each belongs to.
        n_graphs: Number of graphs.
    """
    outer = gradients.unsqueeze(2) * vectors.unsqueeze(1)
    return outer.new_zeros(n_graphs, 3, 3).index_add(0, graph, outer)


def stress_from_strain(derivative: Tensor, cell: Tensor) -> Tensor:
    """Return the stress, ``(n_graphs, 6)``, eV/Å³, tension-positive, Voigt; NaN for a cell without volume.

    Args:
        derivative: ``∂E/∂ε``, ``(n_graphs, 3, 3)``, eV.
        cell: ``(n_graphs, 3, 3)``, Å.
    """
    volume = torch.linalg.det(cell).abs()
    periodic = volume > 0
    # The masked branch is finite, so that its gradient is zero and not NaN.
    inverse = torch.where(periodic, 1.0 / torch.where(periodic, volume, 1.0), 0.0)
    symmetric = 0.5 * (derivative + derivative.transpose(1, 2)) * inverse[:, None, None]
    voigt = torch.stack([symmetric[:, i, j] for i, j in VOIGT], dim=1)
    return torch.where(periodic[:, None], voigt, torch.nan)
