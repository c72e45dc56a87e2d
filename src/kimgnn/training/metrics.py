"""What an epoch adds up to, over batches and processes: the loss, and MAE and RMSE in the field's units."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase import units
from torch import Tensor
from torchmetrics import Metric

from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.training.head_losses import HeadLoss
from kimgnn.training.losses import LossTerms, atom_counts

REPORT_SCALES = {ENERGY: 1000.0, FORCES: 1.0, STRESS: 1.0 / units.GPa}
"""Label -> its errors' report unit: meV/atom (from eV/atom), eV/Å, GPa (from eV/Å³)."""


class EpochMetrics(Metric):
    """Loss of one split, and MAE and RMSE (accuracy, of classes), exact for the epoch however it is cut into batches.

    Args:
        heads: The losses of the heads that are not the energy head.
    """

    full_state_update = False

    def __init__(self, heads: Sequence[HeadLoss] = ()) -> None:
        super().__init__()
        self.heads = list(heads)
        n_terms = len(LABELS) + len(self.heads)
        states = {"loss_sums": n_terms, "loss_counts": n_terms, "counts": n_terms}
        states |= {"absolute": len(LABELS), "squared": len(LABELS)}
        states |= {f"errors_{index}": len(head.measures) for index, head in enumerate(self.heads)}
        for name, size in states.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.loss_sums: Tensor
        self.loss_counts: Tensor
        self.absolute: Tensor
        self.squared: Tensor
        self.counts: Tensor

    def update(self, terms: LossTerms, predicted: Mapping[str, Tensor], graph: Any) -> None:
        """Add a batch; only labels that are there and were predicted count."""
        self.loss_sums += terms.sums.detach()
        self.loss_counts += terms.counts
        n_atoms = atom_counts(graph)
        for index, label in enumerate(LABELS):
            if label not in predicted:
                continue
            target = graph[label]
            labelled = ~torch.isnan(target)
            error = (predicted[label].detach() - target) * REPORT_SCALES[label]
            if label == ENERGY:
                error = error / n_atoms
            error = error[labelled]
            self.absolute[index] += error.abs().sum()
            self.squared[index] += error.square().sum()
            self.counts[index] += error.numel()
        for index, head in enumerate(self.heads):
            errors, count = head.errors(predicted[head.name].detach(), graph, n_atoms)
            getattr(self, f"errors_{index}").add_(errors)
            self.counts[len(LABELS) + index] += count

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss`` and, for each label and head that occurred, ``{name}_mae`` and so on."""
        terms = LossTerms(self.loss_sums, self.loss_counts)
        result = {"loss": terms.mean()}
        for index, label in enumerate(LABELS):
            if self.counts[index] > 0:
                result[f"{label}_mae"] = self.absolute[index] / self.counts[index]
                result[f"{label}_rmse"] = (self.squared[index] / self.counts[index]).sqrt()
        for index, head in enumerate(self.heads):
            count = self.counts[len(LABELS) + index]
            if count == 0:
                continue
            for (name, is_root), total in zip(head.measures.items(), getattr(self, f"errors_{index}"), strict=True):
                result[f"{head.name}_{name}"] = (total / count).sqrt() if is_root else total / count
        return result
