"""The losses and errors of property and classification heads, masked where a label is missing."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from kimgnn.fields import CONFIG_WEIGHT, target_field
from kimgnn.heads.classification import ClassificationHead
from kimgnn.heads.property import PropertyHead, apply_transform


class HeadLoss(Protocol):
    """What training needs to know of a head that is not the energy head.

    Attributes:
        name: The head's.
        weight: What its loss counts for.
        measures: Name of an error -> whether it is the root of the mean instead of the mean.
    """

    name: str
    weight: float
    measures: Mapping[str, bool]

    def penalties(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of weighted penalties over the labelled entries of a batch, and their number."""

    def errors(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of each of ``measures`` over the labelled entries ``(n_measures,)``, and their number."""


class PropertyLoss:
    """The loss of a property head, in units of the spread of what it learns, so that heads are comparable.

    Args:
        name: The head's.
        head: The head; only its constants are used.
        scale: Divides the penalty's unit further: residuals count in units of ``spread · scale``. A likelihood has its
            own unit, the deviation that the head predicts, and is not divided.
    """

    measures: Mapping[str, bool] = {"mae": False, "rmse": True}

    def __init__(self, name: str, head: PropertyHead, scale: float = 1.0) -> None:
        self.name = name
        self.weight = head.options.weight
        self._head = head
        self._scale = 1.0 if head.options.loss == "nll" else scale

    def penalties(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """See `HeadLoss`; entries are the components of structures or atoms."""
        head = self._head
        target = apply_transform(graph[target_field(head.options.target)], head.options.learned, n_atoms)
        labelled = ~torch.isnan(target)
        values, widths = output[:, : head.components], output[:, head.components :]
        residual = torch.where(labelled, values - target, 0.0) / (head.spread * self._scale)
        penalty = _penalty(residual, widths, head.options.loss, head.options.huber_delta)
        weights = _entry_weights(graph, n_atoms, head.per_atom)
        return torch.where(labelled, weights * penalty, 0.0).sum(), labelled.sum()

    def errors(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """See `HeadLoss`; in the property's unit, by atom where it is extensive."""
        target = graph[target_field(self._head.options.target)]
        labelled = ~torch.isnan(target)
        error = self._head.physical(output, n_atoms) - target
        if self._head.extensive:
            error = error / n_atoms.unsqueeze(-1)
        error = error[labelled]
        return torch.stack([error.abs().sum(), error.square().sum()]), labelled.sum()


class ClassificationLoss:
    """The cross entropy of a classification head.

    Args:
        name: The head's.
        head: The head; only its constants are used.
    """

    measures: Mapping[str, bool] = {"accuracy": False}

    def __init__(self, name: str, head: ClassificationHead) -> None:
        self.name = name
        self.weight = head.options.weight
        self._head = head

    def penalties(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """See `HeadLoss`; entries are structures."""
        target = graph[target_field(self._head.options.target)].view(-1)
        labelled = ~torch.isnan(target)
        classes = torch.where(labelled, target, 0.0).to(torch.int64)
        logits = output if output.shape[1] > 1 else torch.cat([torch.zeros_like(output), output], dim=1)
        penalty = functional.cross_entropy(logits, classes, reduction="none")
        weights = graph[CONFIG_WEIGHT].view(-1) * self._head.class_weights[classes]
        return torch.where(labelled, weights * penalty, 0.0).sum(), labelled.sum()

    def errors(self, output: Tensor, graph: Any, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """See `HeadLoss`: how many are right."""
        target = graph[target_field(self._head.options.target)].view(-1)
        labelled = ~torch.isnan(target)
        predicted = output.argmax(1) if output.shape[1] > 1 else (output.view(-1) > 0).to(torch.int64)
        return (predicted == target)[labelled].sum().to(output.dtype).view(1), labelled.sum()


def head_losses(heads: nn.ModuleDict, scales: Mapping[str, float] | None = None) -> Sequence[HeadLoss]:
    """Return the loss of each head that is not the energy head.

    Args:
        heads: Name -> head, of a network.
        scales: Name of a property head -> a further divisor of its residuals; 1 when missing.
    """
    losses: list[HeadLoss] = []
    for name, head in heads.items():
        if isinstance(head, PropertyHead):
            losses.append(PropertyLoss(name, head, (scales or {}).get(name, 1.0)))
        elif isinstance(head, ClassificationHead):
            losses.append(ClassificationLoss(name, head))
    return losses


def _entry_weights(graph: Any, n_atoms: Tensor, per_atom: bool) -> Tensor:
    """Return the structures' weights as a column, one an entry."""
    weights = graph[CONFIG_WEIGHT].view(-1)
    return (torch.repeat_interleave(weights, n_atoms) if per_atom else weights).unsqueeze(-1)


def _penalty(residual: Tensor, log_variances: Tensor, function: str, huber_delta: float) -> Tensor:
    """Return the penalty of residuals; for ``nll``, the negative log-likelihood up to a constant."""
    if function == "mse":
        return residual.square()
    if function == "mae":
        return residual.abs()
    if function == "huber":
        return functional.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=huber_delta)
    return 0.5 * (log_variances + residual.square() * torch.exp(-log_variances))
