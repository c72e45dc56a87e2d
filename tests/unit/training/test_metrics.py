"""Errors in the field's units, however the epoch is cut into batches."""

import numpy as np
import pytest
import torch
from ase import units
from kliff.dataset import Configuration
from torch_geometric.data import Batch

from kimgnn.training.losses import Loss
from kimgnn.training.metrics import EpochMetrics
from kimgnn.transforms.periodic_graph import PeriodicGraph


def graph_of(n_atoms, energy, stress=None):
    coords = np.arange(3 * n_atoms, dtype=float).reshape(n_atoms, 3)
    forces = np.zeros((n_atoms, 3))
    cell = np.eye(3) * 20
    return PeriodicGraph(1.5)(Configuration(cell, ["Si"] * n_atoms, coords, [True] * 3, energy, forces, stress))


def predictions(energies, n_atoms, forces):
    return {
        "energy": torch.tensor(energies, dtype=torch.float64),
        "forces": torch.full((n_atoms, 3), forces, dtype=torch.float64),
        "stress": torch.full((len(energies), 6), 0.01, dtype=torch.float64),
    }


def test_units_and_weights_of_an_epoch():
    """meV/atom, eV/Å and GPa; batches of different sizes count by their entries, and missing labels not at all."""
    metrics, loss = EpochMetrics(), Loss("mse", weights={"energy": 1.0})
    graphs = [graph_of(2, 1.0, [0.0] * 6), graph_of(4, 2.0), graph_of(1, 3.0)]
    for chosen, energies, forces in ((graphs[:2], [1.2, 2.0], 1.0), (graphs[2:], [3.3], 4.0)):
        batch = Batch.from_data_list(chosen)
        predicted = predictions(energies, int(sum(g.num_nodes for g in chosen)), forces)
        metrics.update(loss.terms(predicted, batch), predicted, batch)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["energy_mae"] == pytest.approx(1000 * (0.1 + 0.0 + 0.3) / 3)
    assert found["energy_rmse"] == pytest.approx(1000 * np.sqrt((0.1**2 + 0.3**2) / 3))
    assert found["forces_mae"] == pytest.approx((6 * 1.0 + 1 * 4.0) / 7)
    assert found["stress_mae"] == pytest.approx(0.01 / units.GPa)
    assert found["loss"] == pytest.approx((0.2**2 + 0.3**2) / 3)


def test_label_that_was_not_predicted_is_not_reported():
    """Only what was compared has a number."""
    metrics, loss = EpochMetrics(), Loss("mse", weights={"energy": 1.0})
    batch = Batch.from_data_list([graph_of(2, 1.0)])
    predicted = {"energy": torch.ones(1, dtype=torch.float64)}
    metrics.update(loss.terms(predicted, batch), predicted, batch)
    assert set(metrics.compute()) == {"loss", "energy_mae", "energy_rmse"}
