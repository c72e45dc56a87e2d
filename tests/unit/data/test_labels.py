"""Labels come from where the manifest says, raw, checked and converted."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from kliff.dataset import Configuration

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.data.labels import KEYS_PRESENT, has_label
from kimgnn.errors import DataError, ManifestError


@pytest.fixture
def copper() -> ase.Atoms:
    return bulk("Cu", cubic=True)


def attach(atoms: ase.Atoms, **results: object) -> None:
    atoms.calc = SinglePointCalculator(atoms, **results)


def test_an_attached_calculator_never_beats_the_key(copper: ase.Atoms) -> None:
    """Asked for 'Energy', -99 is the label, and -1 of the calculator is not; KLIFF takes -1."""
    copper.info["Energy"] = -99.0
    attach(copper, energy=-1.0)
    assert configuration_from_atoms(copper, {"energy": "Energy"}).energy == -99.0
    del copper.info["Energy"]
    assert not has_label(configuration_from_atoms(copper, {"energy": "Energy"}), "energy")
    assert configuration_from_atoms(copper).energy == -1.0
    copper.info["energy"] = -2.0
    assert configuration_from_atoms(copper).energy == -2.0
    assert Configuration.from_ase_atoms(copper, energy_key="Energy").energy == -1.0


def test_keys_are_exact(copper: ase.Atoms) -> None:
    """'energy' does not find 'Energy'."""
    copper.info["Energy"] = -99.0
    configuration = configuration_from_atoms(copper)
    assert not has_label(configuration, "energy")
    assert configuration.metadata[KEYS_PRESENT]["energy"] == ["Energy"]


def test_nothing_is_computed(copper: ase.Atoms) -> None:
    """A live calculator is not asked."""
    copper.calc = EMT()
    copper.get_potential_energy()
    configuration = configuration_from_atoms(copper)
    assert not any(has_label(configuration, label) for label in ("energy", "forces", "stress"))


def test_constraints_do_not_zero_forces(copper: ase.Atoms) -> None:
    """Forces of fixed atoms are data; `get_forces()`, which KLIFF calls, makes them 0."""
    forces = np.arange(12.0).reshape(4, 3)
    attach(copper, energy=0.0, forces=forces)
    copper.set_constraint(FixAtoms([0, 1]))
    np.testing.assert_array_equal(configuration_from_atoms(copper).forces, forces)
    assert not Configuration.from_ase_atoms(copper).forces[:2].any()


@pytest.mark.parametrize(
    "stress",
    [
        [1, 2, 3, 4, 5, 6],
        [1, 6, 5, 6, 2, 4, 5, 4, 3],
        [[1, 6, 5], [6, 2, 4], [5, 4, 3]],
    ],
)
def test_stress_in_every_shape(copper: ase.Atoms, stress: list[object]) -> None:
    """Six, nine or three by three numbers are xx yy zz yz xz xy; KLIFF never finds them in info."""
    copper.info["dft_stress"] = np.array(stress)
    configuration = configuration_from_atoms(copper, {"stress": "dft_stress"}, {"stress": "GPa"})
    np.testing.assert_allclose(configuration.stress, np.arange(1, 7) / 160.2176634, rtol=1e-6)


def test_compression_positive_flips_the_sign(copper: ase.Atoms) -> None:
    """A code that calls compression positive gets its sign turned, and only the stress's."""
    attach(copper, energy=-3.0, stress=np.arange(6.0))
    configuration = configuration_from_atoms(copper, stress_positive="compression")
    np.testing.assert_array_equal(configuration.stress, -np.arange(6.0))
    assert configuration.energy == -3.0


def test_units(copper: ase.Atoms) -> None:
    """Energy and forces are converted, each from its own unit."""
    attach(copper, energy=1.0, forces=np.ones((4, 3)))
    configuration = configuration_from_atoms(copper, units={"energy": "Ry", "forces": "Ry/Bohr"})
    assert configuration.energy == pytest.approx(13.605693, rel=1e-6)
    np.testing.assert_allclose(configuration.forces, 25.711034, rtol=1e-6)
    with pytest.raises(ManifestError, match=r"dataset\.units\.energy"):
        configuration_from_atoms(copper, units={"energy": "furlong"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("energy", np.nan, "the energy is NaN or infinite"),
        ("energy", np.inf, "the energy is NaN or infinite"),
        ("energy", "low", "the energy is not numeric"),
        ("energy", [1.0, 2.0], "the shape of the energy is wrong"),
        ("stress", np.full(6, np.nan), "the stress is NaN or infinite"),
        ("stress", np.arange(9.0), "the stress is not symmetric"),
        ("stress", np.arange(5.0), r"the shape of the stress is wrong \(got \(5,\)\)"),
    ],
)
def test_bad_labels(copper: ase.Atoms, key: str, value: object, message: str) -> None:
    """The message says which file, frame and key."""
    copper.info[key] = value
    with pytest.raises(DataError, match=rf"run\.xyz:3 \({key}\): {message}"):
        configuration_from_atoms(copper, identifier="run.xyz:3")


@pytest.mark.parametrize("forces", [np.zeros((4, 2)), np.zeros(4), np.full((4, 3), np.nan)])
def test_bad_forces(copper: ase.Atoms, forces: np.ndarray) -> None:
    """Forces are three finite numbers an atom."""
    copper.new_array("dft_forces", forces)
    with pytest.raises(DataError, match="the forces"):
        configuration_from_atoms(copper, {"forces": "dft_forces"})


def test_no_element_and_no_atoms() -> None:
    """ASE's placeholder X and an empty structure are refused where they are read."""
    with pytest.raises(DataError, match=r"here: an atom is of no element.*atom 1"):
        configuration_from_atoms(ase.Atoms("CuX", positions=np.eye(3)[:2]), identifier="here")
    with pytest.raises(DataError, match="no atoms"):
        configuration_from_atoms(ase.Atoms())
