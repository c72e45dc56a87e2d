"""Exported networks give in LAMMPS what they give in PyTorch, however LAMMPS divides the atoms, or LAMMPS stops."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from exported import install_network, silicon_carbide_structures, small_network

from kimgnn.errors import KIMError
from kimgnn.export.lammps import DATA_FILE, run_lammps
from kimgnn.export.lammps_data import write_data
from kimgnn.export.lammps_decks import setup_commands
from kimgnn.models.network import Network
from kimgnn.verify.parity import check_parity, torch_predictions
from kimgnn.verify.simulators import lammps_prediction

NAME = "Lammps_SiC__MO_000000000005_000"
SPECIES = ["Si", "C"]

SINGLE_POINT = "thermo_style custom step pe fmax\nthermo_modify format float %.17g\nrun 0\n"

pytestmark = [pytest.mark.kim, pytest.mark.lammps]


@pytest.fixture(scope="module")
def network() -> Network:
    """Three layers: ghosts reach beyond the neighbouring cells."""
    return small_network(3)


@pytest.fixture(scope="module", autouse=True)
def folder(network: Network, kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported folder of ``network``, which is installed."""
    return install_network(network, NAME, tmp_path_factory.mktemp("export"))


def test_lammps_equals_pytorch(network: Network) -> None:
    """On two ranks, to 1e-9 eV, 1e-8 eV/Å and 1e-9 eV/Å³, for every kind of structure."""
    table = check_parity(network, NAME, list(silicon_carbide_structures().values()), ranks=(2,))
    assert table.passed, f"\n{table}"


def test_one_and_four_ranks(network: Network) -> None:
    """Also alone, and in domains smaller than the cutoff, where most neighbours belong to another rank."""
    structures = silicon_carbide_structures()
    table = check_parity(network, NAME, [structures["cell"], structures["skewed"]], ranks=(1, 4))
    assert table.passed, f"\n{table}"


def test_types_in_another_order(network: Network, shared_data: Path) -> None:
    """Atom types C Si, of a model whose codes are Si C: energies and forces of KLIFF's SiC data are the same."""
    configurations = []
    with tarfile.open(shared_data / "kliff" / "SiC_training_set.tar.gz") as archive:
        for member in [member for member in archive.getmembers() if member.name.endswith(".xyz")][::5]:
            text = archive.extractfile(member).read().decode().replace("PBC=", "pbc=")
            atoms = ase.io.read(io.StringIO(text), format="extxyz")
            configurations.append(Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
    assert all(set(atoms.symbols) == {"Si", "C"} for atoms in configurations)
    for atoms, want in zip(configurations, torch_predictions(network, configurations), strict=True):
        for species in (["Si", "C"], ["C", "Si"]):
            found = lammps_prediction(atoms, NAME, species)
            assert found.energy == pytest.approx(want.energy, rel=0, abs=1e-9)
            np.testing.assert_allclose(found.forces, want.forces, rtol=0, atol=1e-8)


@pytest.fixture
def run_cell(network: Network, tmp_path: Path):
    """Run the 8-atom cell, a third of the influence distance wide, after a change of the commands.

    Returns a function of LAMMPS's commands before the box is made, of those after the potential, and of the ranks,
    which gives the energy and the largest force component less PyTorch's.
    """
    atoms = silicon_carbide_structures()["cell"]
    (expected,) = torch_predictions(network, [atoms])

    def run(before: str = "", after: str = "", ranks: int = 1) -> tuple[float, float]:
        write_data(tmp_path / DATA_FILE, atoms, SPECIES)
        setup = setup_commands(NAME, SPECIES, "ppp").replace("read_data", f"{before}\nread_data")
        (tmp_path / "in.cell").write_text(f"{setup}{after}\n{SINGLE_POINT}")
        thermo = run_lammps(tmp_path / "in.cell", ranks=ranks)
        return thermo["PotEng"][0] - expected.energy, thermo["Fmax"][0] - np.abs(expected.forces).max()

    return run


@pytest.mark.parametrize(
    ("before", "after", "ranks"),
    [
        ("processors 6 1 1", "", 6),  # domains of 0.9 Å, thinner than the neighbour skin
        ("", "comm_modify cutoff 2.0", 2),  # LAMMPS raises it to the influence distance
        ("", "comm_modify cutoff 30.0", 2),
        ("", "neighbor 0.0 bin", 2),
        ("", "neighbor 1.0 nsq", 2),
        ("newton off", "", 2),
    ],
)
def test_every_division_gives_the_same(run_cell, before: str, after: str, ranks: int) -> None:
    """Ghosts reach as far as the network looks, whatever a user says of domains, communication and neighbour lists."""
    assert run_cell(before, after, ranks) == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_blocks_of_each_rank(run_cell, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that evaluate their atoms one by one find the same as without blocks."""
    monkeypatch.setenv("KIMGNN_MAX_EDGES", "1")
    assert run_cell(ranks=ranks) == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("comm_style tiled", "cutoff for comm_style tiled cannot exceed periodic box length"),
        ("neighbor 1.0 multi", "neighbor stencil method does not exist"),
        ("neighbor 5.0 bin", "force cutoff <= skin"),
        ("neigh_modify one 10 page 100", "Neighbor list overflow, boost neigh_modify one"),
        (f"pair_style hybrid/overlay kim {NAME} zero 4.0\npair_coeff * * kim Si C", "does not support hybrid"),
    ],
)
def test_lammps_refuses_what_it_cannot_divide(run_cell, after: str, message: str) -> None:
    """With an error that says so, rather than with another number."""
    with pytest.raises(KIMError, match=message):
        run_cell(after=after)


def test_the_models_own_error_is_quoted(tmp_path: Path) -> None:
    """LAMMPS says only that KIM returned an error; the reason is the driver's, and not that of an earlier run."""
    pair = Atoms("SiC", [[5, 5, 5], [5, 5, 5]], cell=[20, 20, 20], pbc=True)
    write_data(tmp_path / DATA_FILE, pair, SPECIES)
    deck = tmp_path / "in.pair"
    deck.write_text(setup_commands(NAME, SPECIES, "ppp") + SINGLE_POINT)
    with pytest.raises(KIMError, match="KIM Compute returned error.*at the same place"):
        run_lammps(deck)
    deck.write_text(setup_commands(NAME, SPECIES, "ppp") + "nonsense\n")
    with pytest.raises(KIMError, match=r"Unknown command: nonsense \([^)]*\)\.$"):
        run_lammps(deck)


def test_ranks_agree_after_dynamics(folder: Path) -> None:
    """On 1, 2 and 4 ranks all energies of 100 steps at constant energy are within 1e-9 eV."""
    deck = folder / "in.nve"
    deck.write_text(deck.read_text().replace("%.12g", "%.17g"))
    alone = run_lammps(deck, variables={"steps": 100})
    assert alone["Step"][-1] == 100
    assert np.ptp(alone["PotEng"]) > 0.1  # the atoms have moved
    for ranks in (2, 4):
        divided = run_lammps(deck, ranks=ranks, variables={"steps": 100})
        for energy in ("PotEng", "KinEng", "TotEng"):
            np.testing.assert_allclose(divided[energy], alone[energy], rtol=0, atol=1e-9)
