"""Errors against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from kliff.dataset import Configuration

from kimgnn.evaluation.metrics import Parity, compare, error_metrics, metrics_table
from kimgnn.evaluation.predict import Prediction


def _configuration(n_atoms: int, **labels: object) -> Configuration:
    return Configuration(np.eye(3) * 9.0, ["Si"] * n_atoms, np.random.rand(n_atoms, 3), [True] * 3, **labels)


def _prediction(n_atoms: int, energy: float = 0.0, forces: float = 0.0, stress: float = 0.0) -> Prediction:
    return Prediction(energy, np.full((n_atoms, 3), forces), np.full(6, stress))


def test_energies_are_per_atom_in_mev():
    """Errors of 8 meV in 2 atoms and -16 meV in 8 atoms are 4 and -2 meV/atom: MAE 3, RMSE sqrt(10)."""
    configurations = [_configuration(2, energy=-10.0), _configuration(8, energy=-40.0)]
    predictions = [_prediction(2, energy=-9.992), _prediction(8, energy=-40.016)]
    metrics = error_metrics(compare(predictions, configurations))
    assert metrics["energy_mae"] == pytest.approx(3.0, rel=1e-9)
    assert metrics["energy_rmse"] == pytest.approx(np.sqrt(10.0), rel=1e-9)
    assert metrics["energy_count"] == 2


def test_forces_count_every_component_alike():
    """A structure of three atoms weighs three times one of one atom: MAE (9 * 0.1 + 3 * 0.3) / 12."""
    configurations = [_configuration(3, forces=np.zeros((3, 3))), _configuration(1, forces=np.zeros((1, 3)))]
    metrics = error_metrics(compare([_prediction(3, forces=0.1), _prediction(1, forces=-0.3)], configurations))
    assert metrics["forces_mae"] == pytest.approx(0.15, rel=1e-12)
    assert metrics["forces_rmse"] == pytest.approx(np.sqrt((9 * 0.01 + 3 * 0.09) / 12), rel=1e-12)
    assert metrics["forces_count"] == 12


def test_stress_is_in_gpa():
    """An error of 1 GPa, in eV/Å³, is reported as 1."""
    metrics = error_metrics(compare([_prediction(1, stress=units.GPa)], [_configuration(1, stress=[0.0] * 6)]))
    assert metrics["stress_mae"] == pytest.approx(1.0, rel=1e-12)
    assert metrics["stress_count"] == 6


def test_missing_labels_are_left_out():
    """A structure without a label changes nothing, and a label that none has is not reported at all."""
    configurations = [_configuration(1, energy=-1.0), _configuration(1), _configuration(1, energy=np.nan)]
    parities = compare([_prediction(1, energy=-1.5), *[_prediction(1, energy=99.0)] * 2], configurations)
    assert list(parities) == ["energy"]
    assert parities["energy"].reference.tolist() == [-1.0]


def test_partly_missing_forces_are_masked_by_component():
    """A NaN in a force label leaves out that component only."""
    forces = np.zeros((2, 3))
    forces[1, 2] = np.nan
    parity = compare([_prediction(2, forces=0.2)], [_configuration(2, forces=forces)])["forces"]
    assert parity.reference.size == 5
    assert parity.mae() == pytest.approx(0.2)


def test_a_prediction_that_is_not_a_number_is_not_hidden():
    """Only labels are masked: a network that diverges shows NaN, not a good error on the rest."""
    configurations = [_configuration(1, energy=-1.0), _configuration(1, energy=-1.0)]
    metrics = error_metrics(compare([_prediction(1, energy=-1.0), _prediction(1, energy=np.nan)], configurations))
    assert np.isnan(metrics["energy_mae"])


def test_predictions_and_structures_must_match():
    """A prediction too few is an error, not a shorter comparison."""
    with pytest.raises(ValueError, match="longer"):
        compare([_prediction(1)], [_configuration(1), _configuration(1)])


def test_table_is_markdown_with_units_and_a_dash_for_what_is_missing():
    """Columns follow the labels that are there; a split without one of them gets dashes."""
    parity = Parity(np.zeros(4), np.full(4, 0.5))
    table = metrics_table(
        {"train": error_metrics({"energy": parity, "forces": parity}), "test": error_metrics({"forces": parity})}
    )
    header, rule, train, test = table.splitlines()
    assert "energy MAE (meV/atom)" in header
    assert "forces MAE (eV/Å)" in header
    assert "stress" not in header
    assert len({len(line) for line in (header, rule, train, test)}) == 1
    assert [cell.strip() for cell in train.split("|")[1:-1]] == ["train", "500", "500", "4", "0.5", "0.5", "4"]
    assert [cell.strip() for cell in test.split("|")[1:-1]] == ["test", "–", "–", "–", "0.5", "0.5", "4"]
