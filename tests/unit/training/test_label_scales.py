"""KLIFF's property transforms: the same scale and offset as KLIFF's classes."""

from copy import deepcopy

import numpy as np
import pytest
from kliff.dataset import Configuration
from kliff.transforms import property_transforms

from kimgnn.errors import DataError
from kimgnn.training.label_scales import fit_label_scales


def configuration(energy, forces):
    n_atoms = 3 if forces is None else len(forces)
    return Configuration(np.eye(3), ["Si"] * n_atoms, np.zeros((n_atoms, 3)), [True] * 3, energy, forces)


@pytest.fixture
def training_set():
    rng = np.random.default_rng(1)
    return [configuration(float(rng.normal(-30, 5)), rng.normal(size=(4, 3))) for _ in range(5)]


@pytest.mark.parametrize(
    ("label", "name", "attribute"),
    [
        ("energy", "NormalizedPropertyTransform", "std"),
        ("energy", "RMSNormalizePropertyTransform", "rms_mean"),
        ("forces", "RMSNormalizePropertyTransform", "rms_mean"),
    ],
)
def test_scale_is_kliffs(training_set, label, name, attribute):
    """The scale is what KLIFF's class computes on the same configurations."""
    (scale,) = fit_label_scales([{"name": label, label: {"name": name}}], training_set)
    theirs = getattr(property_transforms, name)(property_key=label)
    theirs(deepcopy(training_set))
    assert scale.scale == pytest.approx(getattr(theirs, attribute), rel=1e-14)
    assert scale.offset == pytest.approx(getattr(theirs, "mean", 0.0), rel=1e-14)


def test_magnitude_is_that_of_a_force(training_set):
    """The root mean square length of the force vectors; KLIFF's own takes the norm over atoms when sets are stacked."""
    (scale,) = fit_label_scales(
        [{"name": "forces", "forces": {"name": "RMSMagnitudeNormalizePropertyTransform"}}], training_set
    )
    forces = np.concatenate([item.forces for item in training_set])
    assert scale.scale == pytest.approx(np.sqrt(np.mean(np.linalg.norm(forces, axis=1) ** 2)))


def test_structures_of_different_size_and_missing_labels(training_set):
    """Ragged forces and structures without the label are no obstacle."""
    mixed = [*training_set, configuration(None, None), configuration(-1.0, np.ones((2, 3)))]
    (scale,) = fit_label_scales([{"name": "forces", "forces": {"name": "RMSNormalizePropertyTransform"}}], mixed)
    values = np.concatenate([item.forces.ravel() for item in [*training_set, mixed[-1]]])
    assert scale.scale == pytest.approx(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("energies", [[-3.0, -3.0], [None, None]])
def test_nothing_to_divide_by_is_an_error(energies):
    """Energies that are all equal, or absent, have no spread."""
    entry = {"name": "energy", "energy": {"name": "NormalizedPropertyTransform"}}
    with pytest.raises(DataError, match=r"transforms\.property\.0"):
        fit_label_scales([entry], [configuration(energy, np.ones((2, 3))) for energy in energies])
