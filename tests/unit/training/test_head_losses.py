"""Losses and errors of property and classification heads against sums written out, and against missing labels."""

import math

import numpy as np
import pytest
import torch
from kliff.dataset import Configuration
from torch import nn
from torch_geometric.data import Batch

from kimgnn.heads.classification import ClassificationHead
from kimgnn.heads.property import PropertyHead
from kimgnn.training.head_losses import head_losses
from kimgnn.training.losses import Loss, LossTerms
from kimgnn.training.metrics import EpochMetrics
from kimgnn.training.task_balance import LearnedBalance
from kimgnn.transforms.periodic_graph import PeriodicGraph

NAN = math.nan


def batch_of(sizes, **targets):
    """Structures of so many atoms with these targets."""
    graphs = []
    for index, n_atoms in enumerate(sizes):
        coords = np.arange(3 * n_atoms, dtype=float).reshape(n_atoms, 3)
        item = Configuration(np.eye(3) * 20, ["Si"] * n_atoms, coords, [True] * 3)
        item.metadata = {"targets": {name: np.atleast_1d(values[index]) for name, values in targets.items()}}
        graphs.append(PeriodicGraph(1.5)(item))
    return Batch.from_data_list(graphs)


def property_head(**options):
    options = {"mean": [0.0], "spread": [1.0], "reference": "none"} | options
    return PropertyHead(PropertyHead.Options(target="gap", **options), 4, {})


def loss_of(head, scales=None):
    return Loss(weights={}, heads=head_losses(nn.ModuleDict({"gap": head}), scales))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_squared_error_in_units_of_the_spread_without_missing_labels():
    """Two of three are labelled."""
    loss = loss_of(property_head(spread=[2.0], weight=3.0), scales={"gap": 5.0})
    batch = batch_of((1, 2, 1), gap=(1.0, NAN, 4.0))
    terms = loss.terms({"gap": column(2.0, 100.0, 1.0)}, batch)
    assert float(terms.mean()) == pytest.approx(3.0 * ((1 / 10) ** 2 + (3 / 10) ** 2) / 2, rel=1e-14)


@pytest.mark.parametrize(
    ("options", "learned", "residuals"),
    [
        ({"extensive": True}, (1.5, 2.0), (1.5 - 1.0, 2.0 - 2.0)),
        ({"transform": "per_atom"}, (1.5, 2.0), (1.5 - 1.0, 2.0 - 2.0)),
        ({"transform": "log10"}, (0.5, 0.0), (0.5 - math.log10(2.0), -math.log10(8.0))),
    ],
)
def test_what_is_learned_is_compared(options, learned, residuals):
    """Shares of atoms, or logarithms; the targets are 2 of two atoms and 8 of four."""
    batch = batch_of((2, 4), gap=(2.0, 8.0))
    loss = loss_of(property_head(loss="mae", **options)).terms({"gap": column(*learned)}, batch).mean()
    assert float(loss) == pytest.approx(sum(map(abs, residuals)) / 2, rel=1e-14)


def test_likelihood_of_a_normal_distribution():
    """½ (ln σ² + r²/σ²), and huber beside it."""
    batch = batch_of((1,), gap=(1.0,))
    output = torch.tensor([[3.0, math.log(4.0)]], dtype=torch.float64)
    loss = loss_of(property_head(loss="nll")).terms({"gap": output}, batch).mean()
    assert float(loss) == pytest.approx(0.5 * (math.log(4.0) + 4.0 / 4.0), rel=1e-14)
    # The deviation that is reported is in units of the spread alone, whatever balances the heads.
    balanced = loss_of(property_head(loss="nll"), {"gap": 5.0}).terms({"gap": output}, batch).mean()
    assert float(balanced) == float(loss)
    huber = loss_of(property_head(loss="huber", huber_delta=0.5)).terms({"gap": column(3.0)}, batch).mean()
    assert float(huber) == pytest.approx(0.5 * (2.0 - 0.25), rel=1e-14)


def test_missing_labels_give_no_gradient():
    """Not even NaN times zero."""
    loss = loss_of(property_head())
    output = column(1.0, 2.0).requires_grad_()
    loss.terms({"gap": output}, batch_of((1, 1), gap=(NAN, 1.0))).mean().backward()
    assert output.grad.tolist() == [[0.0], [2.0]]


def test_cross_entropy_with_class_weights():
    """-w ln p, of the labelled ones."""
    options = ClassificationHead.Options(target="gap", class_weights=[1.0, 5.0])
    loss = loss_of(ClassificationHead(options, 4, {}))
    batch = batch_of((1, 1, 1), gap=(1.0, NAN, 0.0))
    terms = loss.terms({"gap": column(2.0, 9.0, -1.0)}, batch)
    chances = 1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(-1.0))
    assert float(terms.mean()) == pytest.approx(-(5 * math.log(chances[0]) + math.log(chances[1])) / 2, rel=1e-12)


def test_errors_of_an_epoch_are_in_the_propertys_unit():
    """Extensive ones by atom; batches of different sizes count by their labels."""
    loss = loss_of(property_head(extensive=True))
    metrics = EpochMetrics(loss.heads)
    for sizes, targets, output in (((2, 4), (2.0, 8.0), (1.5, 2.0)), ((1, 1), (NAN, 3.0), (7.0, 4.0))):
        batch, predicted = batch_of(sizes, gap=targets), {"gap": column(*output)}
        metrics.update(loss.terms(predicted, batch), predicted, batch)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["gap_mae"] == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert found["gap_rmse"] == pytest.approx(math.sqrt((0.25 + 1.0) / 3))


def test_accuracy_of_an_epoch():
    """Of those that have a label."""
    loss = loss_of(ClassificationHead(ClassificationHead.Options(target="gap", classes=["a", "b", "c"]), 4, {}))
    metrics, batch = EpochMetrics(loss.heads), batch_of((1, 1, 1), gap=(1.0, NAN, 2.0))
    predicted = {"gap": torch.eye(3, dtype=torch.float64)[[1, 0, 0]]}
    metrics.update(loss.terms(predicted, batch), predicted, batch)
    assert float(metrics.compute()["gap_accuracy"]) == 0.5


def test_learned_balance_finds_the_noise_of_each_task():
    """At its minimum exp(s_k) is the task's mean squared error (regression), twice the cross entropy (classes)."""
    balance = LearnedBalance(["a", "b", "unused"], {"a", "b"}, {"b"})
    terms = LossTerms(torch.tensor([8.0, 3.0, 5.0]).double(), torch.tensor([2.0, 1.0, 1.0]).double())
    optimizer = torch.optim.LBFGS(balance.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        loss = balance(terms)
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(balance.log_variances.detach().exp().numpy(), [4.0, 6.0, 1.0], rtol=1e-4)


def test_learned_balance_of_processes_adds_up():
    """DDP averages what each process gives, times their number."""
    balance = LearnedBalance(["a"], {"a"}, set())
    counts = torch.tensor([3.0]).double()
    parts = [LossTerms(torch.tensor([value]).double(), counts) for value in (1.0, 2.0)]
    whole = LossTerms(torch.tensor([3.0]).double(), counts)
    with torch.no_grad():
        balance.log_variances.fill_(0.7)
        torch.testing.assert_close(sum(balance(part, 2) for part in parts), balance(whole))
