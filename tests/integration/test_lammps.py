"""Exported networks give in LAMMPS what they give in PyTorch, and the decks of an export run as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from exported import install_network, silicon_carbide_structures, small_network

from kimgnn.export.lammps import run_lammps
from kimgnn.models.network import Network
from kimgnn.verify.parity import check_parity

NAME = "Lammps_SiC__MO_000000000005_000"

pytestmark = [pytest.mark.kim, pytest.mark.lammps]


@pytest.fixture(scope="module")
def network() -> Network:
    """Three layers: ghosts reach beyond the neighbouring cells."""
    return small_network(3)


@pytest.fixture(scope="module")
def folder(network: Network, kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported folder of ``network``, which is installed."""
    return install_network(network, NAME, tmp_path_factory.mktemp("export"))


@pytest.mark.usefixtures("folder")
def test_lammps_equals_pytorch(network: Network) -> None:
    """On two ranks, to 1e-9 eV, 1e-8 eV/Å and 1e-9 eV/Å³, for every kind of structure."""
    table = check_parity(network, NAME, list(silicon_carbide_structures().values()), ranks=(2,))
    assert table.passed, f"\n{table}"


@pytest.mark.usefixtures("folder")
def test_one_and_four_ranks(network: Network) -> None:
    """Also alone, and in domains smaller than the cutoff, where most neighbours belong to another rank."""
    structures = silicon_carbide_structures()
    table = check_parity(network, NAME, [structures["cell"], structures["skewed"]], ranks=(1, 4))
    assert table.passed, f"\n{table}"


def test_nve_deck_conserves_energy(folder: Path, tmp_path: Path) -> None:
    """As emitted; the total energy of a rattled cell drifts by less than 0.1 meV an atom in 200 steps of 0.25 fs."""
    shutil.copytree(folder, tmp_path / "deck")
    thermo = run_lammps(tmp_path / "deck" / "in.nve", variables={"steps": 200, "timestep": 0.00025})
    assert thermo["Step"][-1] == 200
    assert np.ptp(thermo["TotEng"]) < 8 * 1e-4
    assert np.ptp(thermo["KinEng"]) > 8 * 1e-3


def test_npt_deck_moves_the_box(folder: Path, tmp_path: Path) -> None:
    """As emitted, on two ranks: the volume answers to the pressure."""
    shutil.copytree(folder, tmp_path / "deck")
    thermo = run_lammps(tmp_path / "deck" / "in.npt", ranks=2, variables={"steps": 40})
    assert thermo["Step"][-1] == 40
    assert np.ptp(thermo["Volume"]) > 0
    assert all(np.isfinite(values).all() for values in thermo.values())
