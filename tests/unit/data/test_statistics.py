"""Statistics of a data set, and what training requires of it."""

from __future__ import annotations

import numpy as np
import pytest
from kliff.dataset import Configuration

from kimgnn.data.labels import KEYS, KEYS_PRESENT
from kimgnn.data.requirements import require_labels, unseen_elements
from kimgnn.data.statistics import (
    energy_per_atom_std,
    fit_reference_energies,
    force_rms,
    label_counts,
    species_of,
)
from kimgnn.errors import DataError


def structure(species: str, energy: float | None = None, forces: float | None = None) -> Configuration:
    n = len(species)
    components = None if forces is None else np.full((n, 3), forces)
    return Configuration(np.eye(3), list(species), np.zeros((n, 3)), [True] * 3, energy=energy, forces=components)


def test_reference_energies_of_an_ideal_gas() -> None:
    """Energies that are sums over atoms give the atoms' energies back; a structure without energy does not count."""
    configurations = [structure("HHO", -8.0), structure("OO", -12.0), structure("H", -1.0), structure("C")]
    reference = fit_reference_energies(configurations, ["H", "O"])
    assert reference == pytest.approx({"H": -1.0, "O": -6.0})
    assert energy_per_atom_std(configurations, reference) == pytest.approx(0.0, abs=1e-12)


def test_reference_energies_that_composition_cannot_tell_apart() -> None:
    """With SiC alone, Si and C share its energy evenly, and a warning says so."""
    with pytest.warns(UserWarning, match="cannot tell the reference energies of C, Si apart"):
        reference = fit_reference_energies(
            [structure(["C", "Si"], -12.0), structure(["C", "C", "Si", "Si"], -24.0)], ["C", "Si"]
        )
    assert reference == pytest.approx({"C": -6.0, "Si": -6.0})


def test_reference_energies_need_energies_and_species() -> None:
    """No energy at all, and a species that is not asked for, are errors."""
    with pytest.raises(DataError, match="no structure has an energy"):
        fit_reference_energies([structure("H")], ["H"])
    with pytest.raises(DataError, match="a species without a reference energy"):
        fit_reference_energies([structure("HO", 1.0)], ["H"])


def test_spreads() -> None:
    """Force RMS is over components; the energy's spread is per atom, above the references."""
    configurations = [structure("HH", 2.0, forces=3.0), structure("H", 3.0), structure("H", forces=-3.0)]
    assert force_rms(configurations) == pytest.approx(3.0)
    assert energy_per_atom_std(configurations, {"H": 0.0}) == pytest.approx(1.0)
    assert force_rms([structure("H")]) is None
    assert energy_per_atom_std([structure("H")], {"H": 0.0}) is None


def test_species_and_counts() -> None:
    """Species by atomic number; labels counted one by one."""
    configurations = [structure("OH", 1.0), structure("C", forces=0.0)]
    assert species_of(configurations) == ["H", "C", "O"]
    assert label_counts(configurations) == {"energy": 1, "forces": 1, "stress": 0}


def test_a_weighted_label_that_nobody_carries() -> None:
    """Every such label is named at once, with the key looked up and the nearest one that is there."""
    configuration = structure("H")
    configuration.metadata = {
        KEYS: {"energy": "energy", "forces": "forces"},
        KEYS_PRESENT: {"energy": ["Energy", "time"], "forces": []},
    }
    with pytest.raises(DataError) as caught:
        require_labels([configuration], {"config": 1.0, "energy": 1.0, "forces": 2.0, "stress": 0.0})
    energy, forces = str(caught.value).splitlines()
    assert energy.startswith("dataset.keys.energy: energy has a weight in the loss, but no structure carries it")
    assert "(got 'energy'). Allowed: Energy, time. Did you mean 'Energy'?" in energy
    assert forces.endswith("nothing in the data looks like forces. Or set training.loss.weights.forces to 0.")


def test_a_weighted_label_that_some_lack() -> None:
    """They are counted in a warning; a label without weight is nobody's concern."""
    configurations = [structure("H", 1.0), structure("H"), structure("H")]
    with pytest.warns(UserWarning, match="2 of 3 structures have no energy"):
        require_labels(configurations, {"energy": 1.0, "forces": None, "stress": 0.0})


def test_a_stress_without_a_volume_is_refused_where_it_is_fitted() -> None:
    """The predicted stress would be NaN, and with it the loss; unfitted, the label does not matter."""
    molecule = Configuration(np.zeros((3, 3)), ["H"], np.zeros((1, 3)), [False] * 3, stress=np.zeros(6))
    with pytest.raises(DataError, match=r"\(stress\): .*no volume"):
        require_labels([molecule], {"stress": 1.0})
    require_labels([molecule], {"stress": 0.0})


def test_elements_that_were_not_trained_on():
    """Five structures are named, and every element once, by atomic number."""
    species = [["Si", "Si"], ["Si", "Ge"], ["C", "Si"], ["Si"]] + [["Ge"]] * 5
    structures = [
        Configuration(np.eye(3), symbols, np.zeros((len(symbols), 3)), [True] * 3, 0.0, identifier=f"s{index}")
        for index, symbols in enumerate(species)
    ]
    told = unseen_elements(structures, ["Si"])
    assert told.startswith("7 structures have elements that no structure to train on has (C, Ge)")
    assert told.endswith(": s1, s2, s4, s5, s6, ...")
    assert unseen_elements(structures, ["C", "Si", "Ge"]) == ""
