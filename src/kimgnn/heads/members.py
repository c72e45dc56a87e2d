"""What the heads of an ensemble's members say together; see `kimgnn.models.ensemble`."""

from typing import Final

import torch
from torch import Tensor, nn

FLOOR: Final = 1e-24
"""Variance of members that agree, in units of the squared spread: its logarithm is finite."""


class MeanEnergy(nn.Module):
    """Atomic energies of members to their mean; they are kept."""

    def forward(self, found: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``(n_atoms,)``, and what was given: ``(n_members, n_atoms)``."""
        return found.mean(0), found


class MeanProperty(nn.Module):
    """What a property head of each member says, to what one with ``loss: nll`` would: a mean and a variance.

    The variance is that of the members' means and, where they tell a variance themselves, the mean of these besides:
    that of the mixture (Lakshminarayanan et al. 2017, section 2.4).

    Args:
        components: Of the target.
        spread: Unit of what is learned, the same in every member.
    """

    def __init__(self, components: int, spread: Tensor) -> None:
        super().__init__()
        self.components = components
        self.floor = FLOOR  # TorchScript sees no constants of a module
        self.register_buffer("spread", spread.clone(), persistent=False)
        self.spread: Tensor

    def forward(self, found: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``(n, 2 * components)``, of ``(n_members, n, columns)``."""
        values = found[:, :, : self.components]
        mean = values.mean(0)
        variance = ((values - mean) / self.spread).square().sum(0) / (found.shape[0] - 1)
        if found.shape[2] > self.components:
            variance = variance + found[:, :, self.components :].exp().mean(0)
        return torch.cat([mean, (variance + self.floor).log()], dim=1), None


class MeanClass(nn.Module):
    """Logits of members to those of the mean probability, and the logarithms of their probabilities.

    Args:
        temperature: What the members' logits are divided by.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, found: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``(n_graphs, columns)`` and ``(n_members, n_graphs, n_classes)``.

        Args:
            found: ``(n_members, n_graphs, columns)``.
        """
        # In logarithms, so that a probability that rounds to 0 or 1 stays what it is.
        if found.shape[2] == 1:
            logs = torch.cat([nn.functional.logsigmoid(-found), nn.functional.logsigmoid(found)], dim=2)
        else:
            logs = found.log_softmax(2)
        if self.temperature != 1.0:
            logs = (logs / self.temperature).log_softmax(2)
        together = logs.logsumexp(0)
        return together[:, 1:] - together[:, :1] if found.shape[2] == 1 else together, logs


def class_spread(logs: Tensor) -> Tensor:
    """Return the standard deviation of members' probabilities, ``(n_graphs, n_classes)``; scripts in TorchScript.

    Args:
        logs: Their logarithms, ``(n_members, n_graphs, n_classes)``.
    """
    shares = logs.exp()
    return ((shares - shares.mean(0)).square().sum(0) / (logs.shape[0] - 1)).sqrt()
