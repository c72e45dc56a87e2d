"""The loss against sums written out, and against missing labels."""

import math

import numpy as np
import pytest
import torch
from kliff.dataset import Configuration
from kliff.dataset.weight import Weight
from torch_geometric.data import Batch

from kimgnn.training.losses import Loss, atom_counts, label_weights
from kimgnn.transforms.periodic_graph import PeriodicGraph


def configuration(n_atoms, energy=None, forces=None, stress=None, weight=None):
    coords = np.arange(3 * n_atoms, dtype=float).reshape(n_atoms, 3)
    return Configuration(np.eye(3) * 20, ["Si"] * n_atoms, coords, [True] * 3, energy, forces, stress, weight)


def batch_of(*configurations):
    return Batch.from_data_list([PeriodicGraph(1.5)(item) for item in configurations])


@pytest.fixture
def batch():
    """Two structures, of two and three atoms; the second has no stress and is twice as heavy."""
    return batch_of(
        configuration(2, 1.0, np.ones((2, 3)), [0.1] * 6, Weight(1.0, 1.0, 1.0, 1.0)),
        configuration(3, -2.0, np.full((3, 3), 2.0), None, Weight(2.0, 3.0, np.array([[0.0], [1.0], [4.0]]), 1.0)),
    )


PREDICTED = {
    "energy": torch.tensor([1.5, -1.0], dtype=torch.float64),
    "forces": torch.zeros(5, 3, dtype=torch.float64),
    "stress": torch.zeros(2, 6, dtype=torch.float64),
}
ALL = {"energy": 1.0, "forces": 10.0, "stress": 100.0}


def test_atoms_are_counted_without_ghosts():
    """Even slots hold atoms, odd ones ghosts."""
    graph = {"contributions": torch.tensor([0, 0, 1, 1, 2, 3, 3]), "energy": torch.zeros(2)}
    assert atom_counts(graph).tolist() == [2, 1]


def test_squared_errors_written_out(batch):
    """Each term is a mean over the labelled entries, of the weights' product times the squared residual."""
    energy = (0.5**2 + 2 * 3 * 1.0**2) / 2
    forces = (2 * 3 * 1.0 + 2 * (0 + 1 + 4) * 3 * 4.0) / 15
    stress = 6 * 0.1**2 / 6
    loss = Loss("mse", weights=ALL).terms(PREDICTED, batch).mean()
    assert float(loss) == pytest.approx(energy + 10 * forces + 100 * stress, rel=1e-14)


@pytest.mark.parametrize(("function", "penalty"), [("mae", 0.5 + 6 * 1.0), ("huber", 0.3 * 0.35 + 6 * 0.3 * 0.85)])
def test_absolute_and_huber(batch, function, penalty):
    """Huber: δ (|r| - δ/2) beyond δ; here δ = 0.3 and the residuals are 0.5 and 1."""
    loss = Loss(function, huber_delta=0.3, weights={"energy": 1.0}).terms(PREDICTED, batch).mean()
    assert float(loss) == pytest.approx(penalty / 2, rel=1e-14)


def test_huber_is_squared_within_delta(batch):
    """Huber: r²/2 within δ."""
    loss = Loss("huber", huber_delta=10.0, weights={"energy": 1.0}).terms(PREDICTED, batch).mean()
    assert float(loss) == pytest.approx((0.5**2 / 2 + 6 / 2) / 2, rel=1e-14)


def test_energies_per_atom_and_scaled(batch):
    """The residual is divided by the number of atoms, and by the property transform's scale."""
    loss = Loss("mse", weights={"energy": 1.0}, normalize_per_atom=True, scales={"energy": 0.1})
    expected = ((0.5 / 2 / 0.1) ** 2 + 6 * (1 / 3 / 0.1) ** 2) / 2
    assert float(loss.terms(PREDICTED, batch).mean()) == pytest.approx(expected, rel=1e-14)


def test_missing_labels_leave_no_trace(batch):
    """Entries without a label change neither the loss nor a gradient, even where the prediction is NaN."""
    stress = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    loss = Loss("mse", weights={"stress": 1.0}).terms(PREDICTED | {"stress": stress}, batch).mean()
    loss.backward()
    assert torch.equal(stress.grad[1], torch.zeros(6, dtype=torch.float64))
    assert bool((stress.grad[0] != 0).all())
    spoilt = stress.detach().clone()
    spoilt[1] = math.nan
    again = Loss("mse", weights={"stress": 1.0}).terms(PREDICTED | {"stress": spoilt}, batch).mean()
    assert float(again) == float(loss.detach())


def test_batch_without_any_label_has_no_loss():
    """A batch of unlabelled structures counts nothing, and is not a division by zero."""
    batch = batch_of(configuration(2), configuration(3))
    assert float(Loss(weights=ALL).terms(PREDICTED, batch).mean()) == 0.0


def test_terms_add_up_over_batches(batch):
    """The loss of two batches, from added sums and counts, is the loss of one batch of all structures."""
    loss = Loss("mse", weights=ALL)
    whole = loss.terms(PREDICTED, batch)
    parts = []
    for index, (start, end) in enumerate([(0, 2), (2, 5)]):
        single = Batch.from_data_list([batch[index]])
        predicted = {name: value[index : index + 1] for name, value in PREDICTED.items()}
        predicted["forces"] = PREDICTED["forces"][start:end]
        parts.append(loss.terms(predicted, single))
    torch.testing.assert_close(parts[0].sums + parts[1].sums, whole.sums, rtol=1e-14, atol=0)
    assert torch.equal(parts[0].counts + parts[1].counts, whole.counts)


def test_label_counts_only_if_a_structure_gives_it_weight():
    """With a weights file, the structures say what counts; weights of zero everywhere switch a label off."""
    weights = [Weight(1.0, 1.0, None, 0.0), Weight(1.0, 0.0, np.array([[0.0], [2.0]]), None)]
    configurations = [configuration(2, weight=weight) for weight in weights]
    assert label_weights("weights.dat", configurations) == {"config": 1.0, "energy": 1.0, "forces": 1.0, "stress": 0.0}
    with pytest.warns(UserWarning, match="stress has a weight .* it is not fitted"):
        plain = label_weights({"energy": 2.0, "stress": 5.0}, configurations)
    assert (plain["energy"], plain["stress"]) == (2.0, 0.0)
