"""A committee as a KIM model: means through KIM's arguments, and what its members say through the extension."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ase import Atoms
from exported import install_network, rattled, silicon_carbide_structures, small_network

pytest.importorskip("kimpy")

from kim_by_hand import ALL, KIMModel, logged
from kim_extension import SHAPES, Request, Simulator

from kimgnn.calculator import KimgnnCalculator
from kimgnn.export.driver import install_model
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import SAMPLES, export_portable_model
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import Network
from kimgnn.predictor import load_predictor
from kimgnn.verify.gate import approve_exports
from kimgnn.verify.parity import torch_predictions
from kimgnn.verify.simulators import ase_prediction, lammps_predictions
from kimgnn.verify.tabulation import tabulate
from kimgnn.verify.verification import verify_model

pytestmark = [
    pytest.mark.kim,
    pytest.mark.lammps,
    pytest.mark.filterwarnings("ignore:`product` is deprecated:DeprecationWarning"),  # ASE 3.22 with numpy 1.26
]

MEMBERS = 3
NAMES = {"torchscript": "Committee__MO_000000000031_000", "onnx": "Committee__MO_000000000032_000"}
SINGLE = "Committee__MO_000000000033_000"
KIM_EXPORT = Path(__file__).parents[2] / "kim_export"
ENERGY, FORCE = 1e-9, 1e-8  # eV, eV/Å: what the project promises


class Spread(NamedTuple):
    """What members say, each computed for itself in PyTorch on the periodic graph, and what follows from that."""

    energies: np.ndarray
    atomic_energies: np.ndarray
    forces: np.ndarray

    @property
    def energy_deviation(self) -> float:
        return self.energies.std(ddof=1)

    @property
    def atomic_deviation(self) -> np.ndarray:
        return self.atomic_energies.std(0, ddof=1)

    @property
    def forces_deviation(self) -> np.ndarray:
        return self.forces.std(0, ddof=1)


def spread_of(network: Network, atoms: Atoms) -> Spread:
    """What the members of ``network`` say."""
    said = [torch_predictions(member, [atoms])[0] for member in network.members]
    return Spread(
        np.array([one.energy for one in said]),
        np.array([one.atomic_energies for one in said]),
        np.array([one.forces for one in said]),
    )


@pytest.fixture(scope="module")
def committee() -> Network:
    """Three networks of two layers, whose atoms feel each other across several images of a small cell."""
    return small_network(2, members=MEMBERS)


@pytest.fixture(scope="module")
def folders(committee: Network, kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The committee, exported and installed, by format; and one network for itself."""
    install_network(small_network(2), SINGLE, tmp_path_factory.mktemp("single"))
    directory = tmp_path_factory.mktemp("committees")
    return {
        format_name: install_network(committee, name, directory, format_name) for format_name, name in NAMES.items()
    }


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIM writes kim.log where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=NAMES)
def simulator(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Simulator]:
    """A simulator of the committee in each format."""
    simulator = Simulator(NAMES[request.param])
    yield simulator
    simulator.close()


def export(network: Network, folder: Path, formats: list[str], tables: bool = False) -> Path:
    """Export a committee through the gate."""
    cell = silicon_carbide_structures()["cell"]
    sample = {"symbols": list(cell.symbols), "positions": cell.positions, "cell": cell.cell.array, "pbc": cell.pbc}
    checkpoint = Checkpoint(
        network, {"name": "PeriodicGraph", "kwargs": {"cutoff": network.cutoff}}, {}, {}, {SAMPLES: [sample]}
    )
    tabulation = tabulate(checkpoint, tables)
    approve = partial(approve_exports, checkpoint=checkpoint, rejected=folder / "rejected.md", tabulation=tabulation)
    return export_portable_model(
        checkpoint, "Gate__MO_000000000034_000", folder, formats=formats, tabulation=tabulation, approve=approve
    )


def parity_of(folder: Path, formats: list[str]) -> None:
    """Every runtime has computed what PyTorch computes."""
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["passed"]
    assert parity["not_run"] == {}
    assert len(parity["differences"]) == 4 * len(formats)


@pytest.mark.slow
def test_it_passes_the_gate_and_the_checks(committee: Network, kim_collection: Path, tmp_path: Path) -> None:
    """Python, ASE, LAMMPS on one rank and on two; and the checks of KIM."""
    formats = ["torchscript", "onnx"]
    folder = export(committee, tmp_path, formats)
    parity_of(folder, formats)
    assert f"committee of {MEMBERS}" in (folder / "README.md").read_text()
    for name in model_names(folder.name, formats).values():
        install_model(tmp_path / name, force=True)
        results = verify_model(name).results
        assert [result.check.name for result in results if not result.outcome.passed] == []


def test_with_tables_it_passes_the_gate(committee: Network, kim_collection: Path, tmp_path: Path) -> None:
    """Tables in the place of every member's filter networks, in every runtime."""
    formats = ["torchscript", "onnx"]
    parity_of(export(committee, tmp_path, formats, tables=True), formats)


@pytest.mark.slow
def test_compiled_it_passes_the_gate(committee: Network, kim_collection: Path, tmp_path: Path) -> None:
    """Ahead of time, by torch; and members are there too."""
    folder = export(committee, tmp_path, ["pt2"])
    parity_of(folder, ["pt2"])
    install_model(folder, force=True)
    atoms = silicon_carbide_structures()["skewed"]
    simulator = Simulator(folder.name)
    check_members(simulator, committee, atoms)
    simulator.close()


def check_members(simulator: Simulator, network: Network, atoms: Atoms) -> None:
    """All that the extension writes for a structure is what the members say in PyTorch."""
    expected = spread_of(network, atoms)
    simulator.place(atoms)
    found = simulator.ask()
    assert found is not None
    n = len(atoms)
    np.testing.assert_allclose(found["member_energies"], expected.energies, rtol=0, atol=ENERGY)
    np.testing.assert_allclose(found["energy_deviation"], expected.energy_deviation, rtol=0, atol=ENERGY)
    particles = found["particle_energy_deviation"]
    np.testing.assert_allclose(particles[:n], expected.atomic_deviation, rtol=0, atol=ENERGY)
    np.testing.assert_allclose(found["forces_deviation"][:n], expected.forces_deviation, rtol=0, atol=FORCE)
    assert not particles[n:].any()
    assert not found["forces_deviation"][n:].any()
    folded = np.zeros((MEMBERS, n, 3))
    for member, forces in enumerate(found["member_forces"]):
        np.add.at(folded[member], simulator.owner, forces)
    np.testing.assert_allclose(folded, expected.forces, rtol=0, atol=FORCE)


def test_members_through_kim_are_those_of_pytorch(simulator: Simulator, committee: Network) -> None:
    """Periodic or not, cells smaller than the reach, lone atoms: energies, forces and their spreads."""
    for atoms in silicon_carbide_structures().values():
        check_members(simulator, committee, atoms)


def test_the_extension_computes_what_compute_computes(simulator: Simulator) -> None:
    """KIM's own arguments get the mean in the same call; nothing else is written than what is wanted."""
    simulator.place(silicon_carbide_structures()["skewed"])
    energy, forces = simulator.compute()
    again = simulator.results
    for array in again.values():
        array[...] = np.nan
    for wanted in SHAPES:
        found = simulator.ask([wanted])
        assert found is not None
        assert not np.isnan(found[wanted]).any()
        assert again["partialEnergy"][0] == energy
        np.testing.assert_array_equal(again["partialForces"], forces)
    members = simulator.ask()
    assert members is not None
    assert members["member_energies"].mean() == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(members["member_forces"].mean(0), forces, rtol=0, atol=1e-12)


def test_every_runtime_says_the_same(folders: dict[str, Path], committee: Network, tmp_path: Path) -> None:
    """The mean of the members in PyTorch = calculator and predictor of each file = ASE = LAMMPS, spread included."""
    structures = [silicon_carbide_structures()[name] for name in ("cell", "skewed", "slab", "molecule")]
    save_checkpoint(
        tmp_path / "committee.ckpt", Checkpoint(committee, {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}, {})
    )
    files = [tmp_path / "committee.ckpt", *(folder / FORMATS[name].file for name, folder in folders.items())]
    expected = [spread_of(committee, atoms) for atoms in structures]
    for file in files:
        calculator = KimgnnCalculator(file)
        predictions = load_predictor(file).predict([(str(index), atoms) for index, atoms in enumerate(structures)])
        for atoms, want, predicted in zip(structures, expected, predictions, strict=True):
            calculator.calculate(atoms)
            results = calculator.results
            assert results["energy"] == pytest.approx(want.energies.mean(), abs=ENERGY)
            assert results["energy_deviation"] == pytest.approx(want.energy_deviation, abs=ENERGY)
            assert predicted.energy == pytest.approx(want.energies.mean(), abs=ENERGY)
            assert predicted.energy_deviation == pytest.approx(want.energy_deviation, abs=ENERGY)
            np.testing.assert_allclose(results["energies_deviation"], want.atomic_deviation, rtol=0, atol=ENERGY)
            np.testing.assert_allclose(predicted.forces, want.forces.mean(0), rtol=0, atol=FORCE)
            for found in (results["forces_deviation"], predicted.forces_deviation):
                np.testing.assert_allclose(found, want.forces_deviation, rtol=0, atol=FORCE)
            np.testing.assert_allclose(results["forces"], want.forces.mean(0), rtol=0, atol=FORCE)
    for name in NAMES.values():
        simulated = [[ase_prediction(atoms, name) for atoms in structures]]
        simulated += [lammps_predictions(structures, name, ["Si", "C"], ranks) for ranks in (1, 2)]
        for found in simulated:
            for want, said in zip(expected, found, strict=True):
                assert said.energy == pytest.approx(want.energies.mean(), abs=ENERGY)
                np.testing.assert_allclose(said.forces, want.forces.mean(0), rtol=0, atol=FORCE)


@pytest.mark.parametrize("name", NAMES.values())
def test_forces_are_minus_the_gradient_of_the_mean_energy(name: str, folders: dict[str, Path]) -> None:
    """Central differences of the driver's energy give its forces, and of the virial's the strain's."""
    model, atoms = KIMModel(name), silicon_carbide_structures()["cell"]
    computed = model.compute(atoms)
    step = 1e-4  # error: third derivative * step² / 6, near 1e-7 here
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(model.compute(moved, wanted=("partialEnergy",)).energy)
        assert computed.forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=2e-6)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * step), scale_atoms=True)
        energies.append(model.compute(strained, wanted=("partialEnergy",)).energy)
    assert computed.virial[:3].sum() == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=1e-4)


@pytest.mark.parametrize("edges", ["1", "200", "4000"])
@pytest.mark.parametrize("name", NAMES.values())
def test_in_blocks(
    name: str, edges: str, folders: dict[str, Path], committee: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a system is divided, down to an atom at a time, means and members stay what they are."""
    atoms = rattled(silicon_carbide_structures()["cell"].repeat((2, 1, 1)))
    whole = KIMModel(name).compute(atoms)
    monkeypatch.setenv("KIMGNN_MAX_EDGES", edges)
    for one, other in zip(whole, KIMModel(name).compute(atoms, wanted=ALL), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    simulator = Simulator(name)
    check_members(simulator, committee, atoms)
    simulator.close()


@pytest.mark.parametrize(
    ("length", "energy", "angstrom", "ev"),
    [("nm", "kcal_mol", 10.0, 0.0433641043), ("Bohr", "Hartree", 0.529177211, 27.21138625)],
)
def test_units(
    length: str, energy: str, angstrom: float, ev: float, folders: dict[str, Path], committee: Network
) -> None:
    """What the members say comes in the units that the simulator asked for; KIM's constants have seven digits."""
    atoms = silicon_carbide_structures()["skewed"]
    expected = spread_of(committee, atoms)
    for name in NAMES.values():
        simulator = Simulator(name, length, energy)
        simulator.place(atoms, angstrom)
        found = simulator.ask()
        assert found is not None
        np.testing.assert_allclose(found["member_energies"] * ev, expected.energies, rtol=1e-6)
        np.testing.assert_allclose(found["energy_deviation"] * ev, expected.energy_deviation, rtol=1e-6)
        deviation = found["forces_deviation"][: len(atoms)] * ev / angstrom
        np.testing.assert_allclose(deviation, expected.forces_deviation, rtol=1e-6)
        simulator.close()


def test_two_ranks_add_up_members(simulator: Simulator, committee: Network) -> None:
    """Each rank has half of the atoms; sums of members over ranks and images, and only then deviations, are right."""
    atoms = silicon_carbide_structures()["cell"]
    expected = spread_of(committee, atoms)
    energies, forces = np.zeros(MEMBERS), np.zeros((MEMBERS, len(atoms), 3))
    for own in (np.arange(len(atoms)) < 3, np.arange(len(atoms)) >= 3):
        simulator.place(atoms, contributing=own)
        found = simulator.ask(["member_energies", "member_forces"], owner=None)
        assert found is not None
        energies += found["member_energies"]
        for member, of_member in enumerate(found["member_forces"]):
            np.add.at(forces[member], simulator.owner, of_member)
    np.testing.assert_allclose(energies, expected.energies, rtol=0, atol=ENERGY)
    np.testing.assert_allclose(forces.std(0, ddof=1), expected.forces_deviation, rtol=0, atol=FORCE)


def test_what_cannot_be_answered_says_why(simulator: Simulator) -> None:
    """Images without owners, owners that are none, a structure of another version, no arguments, no such extension."""
    simulator.place(silicon_carbide_structures()["cell"])
    foreign, chained = simulator.owner.copy(), simulator.owner.copy()
    foreign[3], chained[0] = len(foreign), 1
    chained[1] = 2
    assert simulator.ask(owner=None) is None
    assert "forces_deviation needs owner" in logged()
    assert simulator.ask([name for name in SHAPES if name != "forces_deviation"], owner=None) is not None
    assert simulator.ask(owner=foreign.ctypes.data) is None
    assert f"owner of particle 3 is {len(foreign)}" in logged()
    assert simulator.ask(owner=chained.ctypes.data) is None
    assert "owner of particle 0 is 1, which is no particle that owns itself" in logged()
    assert simulator.ask(size=8) is None
    assert "size says 8" in logged()
    assert simulator.extend(b"kimgnn_comittee", Request())
    assert "no extension 'kimgnn_comittee'; this driver has kimgnn_committee_deviation" in logged()
    assert simulator.extend(b"kimgnn_committee_deviation", None)
    assert "was given no structure" in logged()
    simulator.place(Atoms("Si"))  # without images, nothing has to be told of them
    assert simulator.ask(owner=None) is not None


def test_arguments_that_are_not_set_or_another_models(folders: dict[str, Path]) -> None:
    """Compute arguments without particles, and those of another model, are refused."""
    simulator, other = Simulator(NAMES["torchscript"]), Simulator(NAMES["onnx"])
    atoms = Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    request = simulator.request(compute_arguments=simulator.cpp_arguments())
    assert simulator.extend(b"kimgnn_committee_deviation", request)
    assert "could not be computed; the entry of Compute says why" in logged()
    simulator.place(atoms)
    other.place(atoms)
    request = simulator.request(compute_arguments=other.cpp_arguments())
    assert simulator.extend(b"kimgnn_committee_deviation", request)
    assert "the compute arguments are another model's" in logged()
    for each in (simulator, other):
        assert each.ask() is not None
        each.close()


def test_one_network_has_no_members(folders: dict[str, Path]) -> None:
    """It tells so, and that it has no extension; a committee tells that it has one."""
    single = Simulator(SINGLE)
    single.place(silicon_carbide_structures()["cell"])
    assert single.supported() == []
    assert single.ask() is None
    assert "model.pt is a single network, without members to compare. Train an ensemble" in logged()
    single.close()
    several = Simulator(NAMES["onnx"])
    assert several.supported() == [b"kimgnn_committee_deviation"]
    several.close()


def test_the_example_of_a_simulator(folders: dict[str, Path], committee: Network, tmp_path: Path) -> None:
    """The program of kim_export, compiled as it says, prints what the members say in PyTorch."""
    source = KIM_EXPORT / "example" / "committee.cpp"
    command = next(line for line in source.read_text().splitlines() if "c++ -std" in line).removeprefix("//     ")
    assert command in (KIM_EXPORT / "README.md").read_text()
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is missing")
    subprocess.run(
        ["sh", "-c", command.replace("-o committee", f"-o {tmp_path}/committee")], cwd=source.parent, check=True
    )
    atoms = silicon_carbide_structures()["skewed"]
    expected = spread_of(committee, atoms)
    rows = [" ".join(map(repr, vector)) for vector in atoms.cell.tolist()]
    rows += [f"{atom.symbol} {float(atom.x)!r} {float(atom.y)!r} {float(atom.z)!r}" for atom in atoms]
    (tmp_path / "cell.txt").write_text("\n".join(rows) + "\n")
    for name in NAMES.values():
        output = subprocess.run(
            [tmp_path / "committee", name, tmp_path / "cell.txt"], check=True, capture_output=True, text=True
        )
        members, energy, *lines = (line.split() for line in output.stdout.splitlines())
        assert members == ["members", str(MEMBERS)]
        assert float(energy[1]) == pytest.approx(expected.energies.mean(), abs=ENERGY)
        assert float(energy[3]) == pytest.approx(expected.energy_deviation, abs=ENERGY)
        numbers = np.array([[*line[1:4], *line[5:]] for line in lines], float)
        np.testing.assert_allclose(numbers[:, :3], expected.forces.mean(0), rtol=0, atol=FORCE)
        np.testing.assert_allclose(numbers[:, 3:], expected.forces_deviation, rtol=0, atol=FORCE)
    refused = subprocess.run(
        [tmp_path / "committee", SINGLE, tmp_path / "cell.txt"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "kimgnn_committee_deviation failed; kim.log says why" in refused.stderr


@pytest.mark.parametrize("format_name", NAMES)
def test_members_that_are_not_in_the_file(format_name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """A parameter file that tells another number of members than the network has is refused."""
    for members, name in ((2, "Fewer__MO_000000000035_000"), (4, "More__MO_000000000036_000")):
        folder = tmp_path / name
        shutil.copytree(folders[format_name], folder)
        for file in ("CMakeLists.txt", "kimgnn.param"):
            text = (folder / file).read_text().replace(NAMES[format_name], name)
            (folder / file).write_text(text.replace(f"members {MEMBERS}", f"members {members}"))
        install_model(folder, force=True)
        with pytest.raises(RuntimeError):
            KIMModel(name).compute(silicon_carbide_structures()["cell"])
        assert "Export the model again" in logged()
