"""The shipped silicon data: as described, and labelled by the potential that they say."""

from __future__ import annotations

import importlib.util
from itertools import islice
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest

from kimgnn.data.sources import read_configurations
from kimgnn.data.statistics import label_counts, species_of

FOLDER = Path(__file__).parents[3] / "examples" / "silicon"
DATA = FOLDER / "silicon.extxyz"


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_data", FOLDER / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_contents() -> None:
    """At most 1.5 MB; 8 to 64 atoms; every kind of structure; energy, forces and stress on each."""
    assert DATA.stat().st_size <= 1.5e6
    configurations = read_configurations({"type": "ase", "path": str(DATA)})
    n = len(configurations)
    assert label_counts(configurations) == {"energy": n, "forces": n, "stress": n}
    assert species_of(configurations) == ["Si"]
    sizes = [len(configuration.species) for configuration in configurations]
    assert (min(sizes), max(sizes)) == (8, 64)
    kinds = {atoms.info["config_type"] for atoms in ase.io.iread(DATA, index=":")}
    assert kinds == {"perfect", "strained", "rattled", "vacancy", "surface", "md"}


@pytest.mark.kim
def test_labels_are_those_of_the_reference_potential(make_data: ModuleType) -> None:
    """Computed anew from the geometry in the file, labels agree to the digits written."""
    for atoms in ase.io.iread(DATA, index="::40"):
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        again = make_data.labelled(atoms.copy())
        assert again.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)
        np.testing.assert_allclose(again.get_stress(), stress, atol=1e-9)


@pytest.mark.kim
def test_the_script_makes_these_structures(make_data: ModuleType) -> None:
    """Seeds are fixed: all structures but molecular dynamics, which is chaotic, come out the same on any machine."""
    written = [atoms for atoms in ase.io.iread(DATA, index=":") if atoms.info["config_type"] != "md"]
    for ours, theirs in zip(islice(make_data.structures(), len(written)), written, strict=True):
        assert ours.info["config_type"] == theirs.info["config_type"]
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=2e-6)
        np.testing.assert_allclose(ours.cell, theirs.cell, atol=2e-6)
