"""What an epoch adds up to, over batches and processes: the loss, and MAE and RMSE in the field's units."""

from collections.abc import Mapping
from typing import Any

import torch
from ase import units
from torch import Tensor
from torchmetrics import Metric

from kimgnn.fields import ENERGY, FORCES, LABELS, STRESS
from kimgnn.training.losses import LossTerms, atom_counts

REPORT_SCALES = {ENERGY: 1000.0, FORCES: 1.0, STRESS: 1.0 / units.GPa}
"""Label -> its errors' report unit: meV/atom (from eV/atom), eV/Å, GPa (from eV/Å³)."""


class EpochMetrics(Metric):
    """Loss, MAE and RMSE of one split, exact for the whole epoch however it is cut into batches."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("loss_sums", "loss_counts", "absolute", "squared", "counts"):
            self.add_state(name, torch.zeros(len(LABELS), dtype=torch.float64), dist_reduce_fx="sum")
        self.loss_sums: Tensor
        self.loss_counts: Tensor
        self.absolute: Tensor
        self.squared: Tensor
        self.counts: Tensor

    def update(self, terms: LossTerms, predicted: Mapping[str, Tensor], graph: Any) -> None:
        """Add a batch; only labels that are there and were predicted count."""
        self.loss_sums += terms.sums.detach()
        self.loss_counts += terms.counts
        for index, label in enumerate(LABELS):
            if label not in predicted:
                continue
            target = graph[label]
            labelled = ~torch.isnan(target)
            error = (predicted[label].detach() - target) * REPORT_SCALES[label]
            if label == ENERGY:
                error = error / atom_counts(graph)
            error = error[labelled]
            self.absolute[index] += error.abs().sum()
            self.squared[index] += error.square().sum()
            self.counts[index] += error.numel()

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss`` and, for each label that occurred, ``{label}_mae`` and ``{label}_rmse``."""
        result = {"loss": LossTerms(self.loss_sums, self.loss_counts).mean()}
        for index, label in enumerate(LABELS):
            if self.counts[index] > 0:
                result[f"{label}_mae"] = self.absolute[index] / self.counts[index]
                result[f"{label}_rmse"] = (self.squared[index] / self.counts[index]).sqrt()
        return result
