"""What the tasks of a network count for beside one another."""

import torch
from torch import Tensor, nn

from kimgnn.training.losses import LossTerms


class LearnedBalance(nn.Module):
    """Homoscedastic uncertainty: each task's noise is learned (Kendall, Gal & Cipolla, CVPR 2018, eqs. 7 and 10).

    ``L = Σ_k (exp(-s_k) L_k / c_k + s_k / 2)`` with ``s_k`` the logarithm of the variance of task k, and ``c_k`` 2 for
    a squared error and 1 for a cross entropy. What a task's weight multiplies is its ``L_k``.

    Args:
        names: The tasks, in the order of the loss's terms.
        used: Those that are trained on; the others count nothing.
        classifications: Those whose loss is a cross entropy.
    """

    def __init__(self, names: list[str], used: set[str], classifications: set[str]) -> None:
        super().__init__()
        self.names = names
        self.log_variances = nn.Parameter(torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("used", torch.tensor([float(name in used) for name in names], dtype=torch.float64))
        divisors = [1.0 if name in classifications else 2.0 for name in names]
        self.register_buffer("divisors", torch.tensor(divisors, dtype=torch.float64))
        self.used: Tensor
        self.divisors: Tensor

    def forward(self, terms: LossTerms, n_processes: int = 1) -> Tensor:
        """Return this process's part of the loss of a batch; a task without a label in it counts nothing.

        Args:
            terms: The process's sums over the counts of all processes.
            n_processes: How many there are.
        """
        there = self.used * (terms.counts > 0)
        losses = torch.exp(-self.log_variances) * terms.means() / self.divisors
        return (there * (losses + 0.5 * self.log_variances / n_processes)).sum()
