"""The KIM model driver of TorchScript networks against plain PyTorch, through ASE, kimpy and LAMMPS."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from kim_by_hand import ALL, KIMModel, logged
from torch import Tensor, nn
from toy_potential import ToyPotential, evaluate_periodic, write_model

from kimgnn.errors import KIMError
from kimgnn.export import driver

pytestmark = [
    pytest.mark.kim,
    pytest.mark.filterwarnings("ignore:`product` is deprecated:DeprecationWarning"),  # ASE 3.22 with numpy 1.26
]

CUTOFF = 3.0
SPECIES = ["Si", "C"]
MODELS = {layers: f"Toy{layers}__MO_00000000000{layers}_000" for layers in (1, 2, 3)}
ENERGY, FORCE, STRESS = 1e-9, 1e-8, 1e-9  # eV, eV/Å, eV/Å³: what the project promises


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIM writes kim.log where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def networks(kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, ToyPotential]:
    """Installed potentials of one to three layers, by number of layers."""
    made = {}
    for layers, name in MODELS.items():
        made[layers] = ToyPotential(layers, len(SPECIES), CUTOFF)
        driver.install_model(write_model(tmp_path_factory.mktemp("m") / name, made[layers], CUTOFF, layers, SPECIES))
    return made


@pytest.fixture
def silicon_carbide() -> Atoms:
    """A rattled, skewed cell of eight atoms, smaller than the influence distance, some atoms outside it."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    strain = np.array([[0.02, 0.05, 0], [0, -0.01, 0.03], [0.04, 0, 0]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.15, seed=1)
    atoms.positions[3] += atoms.cell[0]
    return atoms


@pytest.mark.parametrize("layers", MODELS)
def test_ase_equals_pytorch(layers: int, networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """Energy, forces and stress through ASE's own KIM calculator are those of the periodic graph."""
    from ase.calculators.kim import KIM

    expected = evaluate_periodic(networks[layers], layers, silicon_carbide, SPECIES)
    silicon_carbide.calc = KIM(MODELS[layers])
    assert silicon_carbide.get_potential_energy() == pytest.approx(expected.energy, abs=ENERGY)
    np.testing.assert_allclose(silicon_carbide.get_forces(), expected.forces, atol=FORCE, rtol=0)
    np.testing.assert_allclose(silicon_carbide.get_stress(), expected.stress, atol=STRESS, rtol=0)


@pytest.mark.parametrize("layers", MODELS)
def test_all_arguments_equal_pytorch(layers: int, networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """Per-atom energies are the network's, the virial is volume times stress, and per-atom virials sum to it."""
    expected = evaluate_periodic(networks[layers], layers, silicon_carbide, SPECIES)
    computed = KIMModel(MODELS[layers]).compute(silicon_carbide)
    assert computed.energy == pytest.approx(expected.energy, abs=ENERGY)
    np.testing.assert_allclose(computed.particle_energy, expected.atomic_energies, atol=ENERGY, rtol=0)
    np.testing.assert_allclose(computed.forces, expected.forces, atol=FORCE, rtol=0)
    np.testing.assert_allclose(computed.virial / silicon_carbide.get_volume(), expected.stress, atol=STRESS, rtol=0)
    np.testing.assert_allclose(computed.particle_virial.sum(0), computed.virial, atol=ENERGY, rtol=0)


def test_forces_are_minus_the_gradient(networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """Central differences of the driver's energy give its forces."""
    model = KIMModel(MODELS[3])
    forces = model.compute(silicon_carbide).forces
    step = 1e-4  # error: third derivative * step² / 6, near 1e-7 here
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            moved = silicon_carbide.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(model.compute(moved, wanted=("partialEnergy",)).energy)
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=2e-6)


@pytest.mark.parametrize("wanted", [(name,) for name in ALL])
def test_each_argument_alone(
    wanted: tuple[str, ...], networks: dict[int, ToyPotential], silicon_carbide: Atoms
) -> None:
    """What is computed does not depend on what else is asked for, and nothing else is written."""
    model = KIMModel(MODELS[2])
    together, alone = model.compute(silicon_carbide), KIMModel(MODELS[2]).compute(silicon_carbide, wanted=wanted)
    for name, one, other in zip(ALL, together, alone, strict=True):
        if name in wanted:
            np.testing.assert_allclose(other, one, rtol=1e-13, atol=1e-13)
        else:
            assert np.min(other) >= 1e300


# Å and eV, CODATA 2018; KIM's own constants are older and differ by less than 1e-6.
LENGTHS = {"A": 1.0, "Bohr": 0.529177211, "cm": 1e8, "m": 1e10, "nm": 10.0}
ENERGIES = {
    "eV": 1.0,
    "Hartree": 27.21138625,
    "J": 1 / 1.602176634e-19,
    "erg": 1 / 1.602176634e-12,
    "kcal_mol": 0.0433641043,
    "amu_A2_per_ps2": 1.03642697e-4,
}


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("length", LENGTHS)
def test_units(length: str, energy: str, networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """Every length and energy unit of KIM gives the same physics, to the digits of KIM's conversion factors."""
    expected = evaluate_periodic(networks[2], 2, silicon_carbide, SPECIES)
    ev, angstrom = ENERGIES[energy], LENGTHS[length]
    computed = KIMModel(MODELS[2], length, energy).compute(silicon_carbide, angstrom)
    assert computed.energy * ev == pytest.approx(expected.energy, rel=1e-6)
    np.testing.assert_allclose(computed.particle_energy * ev, expected.atomic_energies, rtol=1e-6)
    np.testing.assert_allclose(computed.forces * ev / angstrom, expected.forces, atol=1e-5)
    np.testing.assert_allclose(computed.virial * ev, expected.stress * silicon_carbide.get_volume(), atol=1e-5)
    np.testing.assert_allclose(computed.particle_virial.sum(0) * ev, computed.virial * ev, atol=1e-12)


def test_influence_distance_and_neighbor_lists(networks: dict[int, ToyPotential]) -> None:
    """The simulator must bring ghosts a cutoff a layer; only one layer does without the ghosts' neighbours."""
    for layers, name in MODELS.items():
        model = KIMModel(name).model
        assert model.get_influence_distance() == layers * CUTOFF
        cutoffs, no_ghost_lists = model.get_neighbor_list_cutoffs_and_hints()
        assert (list(cutoffs), list(no_ghost_lists)) == ([CUTOFF], [layers == 1])


def test_subset_of_species(networks: dict[int, ToyPotential]) -> None:
    """A system of the second species alone gets its embedding, not the first one's."""
    diamond = bulk("C", "diamond", a=3.57, cubic=True)
    expected = evaluate_periodic(networks[2], 2, diamond, SPECIES)
    assert KIMModel(MODELS[2]).compute(diamond).energy == pytest.approx(expected.energy, abs=ENERGY)


@pytest.mark.parametrize("layers", MODELS)
def test_molecule(layers: int, networks: dict[int, ToyPotential]) -> None:
    """No cell, no ghosts; the same objects then serve systems of other sizes."""
    model = KIMModel(MODELS[layers])
    for atoms in (Atoms("SiC", [(0, 0, 0), (1.8, 0.1, 0)]), Atoms("CSiC", [(0, 0, 0), (1.8, 0.1, 0), (2.5, 1.5, 0)])):
        expected = evaluate_periodic(networks[layers], layers, atoms, SPECIES)
        computed = model.compute(atoms)
        assert computed.energy == pytest.approx(expected.energy, abs=ENERGY)
        np.testing.assert_allclose(computed.forces, expected.forces, atol=FORCE, rtol=0)


@pytest.mark.parametrize("positions", [[(0.0, 0, 0)], [(0.0, 0, 0), (50.0, 0, 0)]], ids=["one atom", "no neighbours"])
def test_no_edges(positions: list[tuple[float, ...]], networks: dict[int, ToyPotential]) -> None:
    """Isolated atoms have the network's energy without messages, and no forces."""
    atoms = Atoms(["Si"] * len(positions), positions)
    none = torch.zeros(0, dtype=torch.long)
    alone = networks[3](torch.tensor([0]), none.view(2, 0), torch.zeros(0, 3), [1] * 3, [0] * 3, none)
    computed = KIMModel(MODELS[3]).compute(atoms)
    np.testing.assert_allclose(computed.particle_energy, alone.item(), atol=ENERGY)
    assert not np.any(computed.forces)
    assert not np.any(computed.virial)


def test_ghosts_contribute_no_energy(networks: dict[int, ToyPotential]) -> None:
    """Atomic energies of a partition add up to the whole; with nothing contributing all results are zero."""
    atoms = Atoms("SiCSi", [(0, 0, 0), (1.8, 0.1, 0), (2.5, 1.9, 0)])
    model = KIMModel(MODELS[3])
    whole = model.compute(atoms)
    parts = [model.compute(atoms, contributing=mask) for mask in ([0, 1, 0], [1, 0, 1])]
    for one, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(np.add(first, second), one, atol=1e-12)
    assert parts[0].particle_energy[0] == 0.0
    assert not any(np.any(result) for result in model.compute(atoms, contributing=[0, 0, 0]))


def test_models_in_threads(networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """Separate models evaluated at the same time give what one gives alone."""
    expected = KIMModel(MODELS[3]).compute(silicon_carbide).forces
    models = [KIMModel(MODELS[3]) for _ in range(4)]
    results: list[np.ndarray] = []

    def work(model: KIMModel) -> None:
        results.extend(model.compute(silicon_carbide).forces for _ in range(5))

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for forces in results:
        np.testing.assert_array_equal(forces, expected)


def test_torch_threads_of_the_caller_are_kept(
    networks: dict[int, ToyPotential], silicon_carbide: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's number of threads is its own; a Python session's stays as it was."""
    monkeypatch.setenv("KIMGNN_NUM_THREADS", "2")
    before = torch.get_num_threads()
    KIMModel(MODELS[1]).compute(silicon_carbide)
    assert torch.get_num_threads() == before


class Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def test_memory_of_the_caller_stays_where_it_was(networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """An array of up to 32 MiB comes from the heap, not from the system, which would clear its pages every time."""
    glibc = ctypes.CDLL(None)
    if not hasattr(glibc, "mallinfo2"):
        pytest.skip("glibc before 2.33 does not tell, and other libraries do otherwise")
    glibc.mallinfo2.restype = Mallinfo
    glibc.malloc.restype, glibc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    glibc.free.argtypes = [ctypes.c_void_p]
    KIMModel(MODELS[1]).compute(silicon_carbide)
    before = glibc.mallinfo2().hblks
    array = glibc.malloc(31 << 20)
    from_system = glibc.mallinfo2().hblks - before
    glibc.free(array)
    assert from_system == 0


BLOCKS = ["1", "200", "1000", "4000"]
"""Edges at once: each atom alone; and, of 64 atoms and one layer to three, any number of blocks from one to 64."""


@pytest.mark.parametrize("max_edges", BLOCKS)
@pytest.mark.parametrize("layers", MODELS)
def test_blocks_equal_the_whole(
    layers: int, max_edges: str, networks: dict[int, ToyPotential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Atoms evaluated in blocks have the same energies, forces and virials, to rounding in sums of terms near ten."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True).repeat((2, 2, 2))
    atoms.rattle(0.15, seed=2)
    atoms.pbc = (True, True, False)
    whole = KIMModel(MODELS[layers]).compute(atoms)
    monkeypatch.setenv("KIMGNN_MAX_EDGES", max_edges)
    in_blocks = KIMModel(MODELS[layers]).compute(atoms)
    for one, other in zip(in_blocks, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.abs(other).max())


def test_blocks_of_one_system_and_the_next(networks: dict[int, ToyPotential], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept from one call to the next does not change it, whether the next system is smaller or larger."""
    small = bulk("SiC", "zincblende", a=4.36, cubic=True)
    small.rattle(0.15, seed=3)
    large = small.repeat((3, 1, 1))
    alone = Atoms("Si", [(0, 0, 0)])
    monkeypatch.setenv("KIMGNN_MAX_EDGES", "300")
    model = KIMModel(MODELS[2])
    for atoms in (large, small, alone, large):
        expected = evaluate_periodic(networks[2], 2, atoms, SPECIES)
        computed = model.compute(atoms)
        assert computed.energy == pytest.approx(expected.energy, abs=ENERGY)
        np.testing.assert_allclose(computed.forces, expected.forces, atol=FORCE, rtol=0)


def test_blocks_without_contributing_atoms(
    networks: dict[int, ToyPotential], silicon_carbide: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank may have ghosts only, and some of a cell's atoms may not contribute."""
    some = [1, 0, 0, 1, 0, 1, 1, 0]
    whole = KIMModel(MODELS[2]).compute(silicon_carbide, contributing=some)
    monkeypatch.setenv("KIMGNN_MAX_EDGES", "1")
    model = KIMModel(MODELS[2])
    for one, other in zip(model.compute(silicon_carbide, contributing=some), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.abs(other).max())
    nothing = model.compute(silicon_carbide, contributing=[0] * 8)
    assert all(not np.any(values) for values in nothing)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_coordinate(value: float, networks: dict[int, ToyPotential]) -> None:
    """A coordinate that is not a number is an error, not a missing neighbour."""
    with pytest.raises(RuntimeError):
        KIMModel(MODELS[1]).compute(Atoms("SiC", [(0, 0, 0), (1.8, 0, 0)]), spoilt=(1, value))
    assert "particle 1 has a coordinate that is not a finite number" in logged()


@pytest.mark.parametrize("code", [-1, 2])
def test_unknown_species_code(code: int, networks: dict[int, ToyPotential]) -> None:
    """A code that no species has is an error, not a read outside the embedding."""
    with pytest.raises(RuntimeError):
        KIMModel(MODELS[1]).compute(Atoms("SiC", [(0, 0, 0), (1.8, 0, 0)]), codes=[0, code])
    assert f"particle 1 has species code {code}" in logged()


def test_two_atoms_at_one_place(networks: dict[int, ToyPotential]) -> None:
    """Coincident atoms have no direction between them, hence no force."""
    with pytest.raises(RuntimeError):
        KIMModel(MODELS[1]).compute(Atoms("SiC", [(1, 1, 1), (2, 1, 1)]), spoilt=(1, 1.0))
    assert "are at the same place" in logged()


@pytest.mark.parametrize("layers", [1, 3])
def test_lists_that_contradict_each_other(
    layers: int, networks: dict[int, ToyPotential], silicon_carbide: Atoms
) -> None:
    """An atom that its neighbours hear but that does not hear them would give wrong forces, not an error."""
    with pytest.raises(RuntimeError):
        KIMModel(MODELS[layers]).compute(silicon_carbide, deaf=2)
    assert "are not in each other's neighbour list exactly once. The simulator must give full lists" in logged()


def test_an_error_leaves_the_model_usable(networks: dict[int, ToyPotential], silicon_carbide: Atoms) -> None:
    """A step that failed does not spoil the next one."""
    model = KIMModel(MODELS[2])
    expected = model.compute(silicon_carbide)
    with pytest.raises(RuntimeError):
        model.compute(silicon_carbide, spoilt=(1, np.nan))
    np.testing.assert_array_equal(model.compute(silicon_carbide).forces, expected.forces)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("KIMGNN_DEVICE", "abacus", "KIMGNN_DEVICE='abacus' cannot be used"),
        ("KIMGNN_DEVICE", "cuda:99", "KIMGNN_DEVICE='cuda:99' cannot be used"),
        ("KIMGNN_NUM_THREADS", "many", "KIMGNN_NUM_THREADS='many' is not a number of threads"),
        ("KIMGNN_NUM_THREADS", "0", "KIMGNN_NUM_THREADS='0' is not a number of threads"),
        ("KIMGNN_MAX_EDGES", "all", "KIMGNN_MAX_EDGES='all' is not a number of edges"),
        ("KIMGNN_MAX_EDGES", "-5", "KIMGNN_MAX_EDGES='-5' is not a number of edges"),
        ("KIMGNN_MAX_EDGES", "1e6", "KIMGNN_MAX_EDGES='1e6' is not a number of edges"),
    ],
)
def test_bad_environment(
    variable: str, value: str, message: str, networks: dict[int, ToyPotential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be honoured is refused, with the setting's name."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(RuntimeError):
        KIMModel(MODELS[1])
    assert message in logged()


class WrongShape(nn.Module):
    """Gives one energy for the whole system where one an atom is due."""

    def forward(
        self, codes: Tensor, edges: Tensor, vectors: Tensor, nodes: list[int], counts: list[int], reverse: Tensor
    ) -> Tensor:
        return vectors.sum().unsqueeze(0)


class Raising(nn.Module):
    """Fails when it runs."""

    def forward(
        self, codes: Tensor, edges: Tensor, vectors: Tensor, nodes: list[int], counts: list[int], reverse: Tensor
    ) -> Tensor:
        raise RuntimeError("no such luck")


class Constant(nn.Module):
    """Has energies but no forces."""

    def forward(
        self, codes: Tensor, edges: Tensor, vectors: Tensor, nodes: list[int], counts: list[int], reverse: Tensor
    ) -> Tensor:
        return codes[: nodes[-1]].to(torch.float64)


class NotFinite(nn.Module):
    """Overflows."""

    def forward(
        self, codes: Tensor, edges: Tensor, vectors: Tensor, nodes: list[int], counts: list[int], reverse: Tensor
    ) -> Tensor:
        return torch.zeros(nodes[-1], dtype=torch.float64) + vectors.sum() / 0.0


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (WrongShape(), "where Double[2] is expected"),
        (Raising(), "no such luck"),
        (Constant(), "do not depend on the edge vectors"),
        (NotFinite(), "model.pt gave a number that is not finite as energy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_network_that_breaks_the_contract(
    module: nn.Module, message: str, kim_collection: Path, tmp_path: Path
) -> None:
    """Whatever a network does wrong comes back as an error of KIM with the reason in its log."""
    name = f"{type(module).__name__}__MO_000000000009_000"
    driver.install_model(write_model(tmp_path / name, module, CUTOFF, 1, SPECIES))
    model = KIMModel(name)
    with pytest.raises(RuntimeError):
        model.compute(Atoms("SiC", [(0, 0, 0), (1.8, 0.1, 0.2)]))
    assert message in logged()


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.pt", lambda content: content[:200], "model.pt cannot be loaded"),
        ("model.pt", lambda content: b"no network", "model.pt cannot be loaded"),
        ("kimgnn.param", lambda content: content.replace(b"model.pt", b"other.pt"), "no file 'other.pt'"),
        ("kimgnn.param", lambda content: content.replace(b"layers 1\n", b""), "line 5: begins with 'species'"),
        ("kimgnn.param", lambda content: content + b"colour red\n", "kimgnn.param line 7: is not expected"),
        (
            "kimgnn.param",
            lambda content: content.replace(b"torchscript", b"abacus"),
            "no driver of kimgnn runs 'abacus'",
        ),
        ("kimgnn.param", lambda content: content.replace(b"kimgnn 2", b"kimgnn 1"), "kimgnn.param is of version 1;"),
    ],
    ids=["truncated", "foreign", "missing", "line missing", "line extra", "unknown backend", "old version"],
)
def test_damaged_file(
    file: str, damage: Callable[[bytes], bytes], message: str, kim_collection: Path, tmp_path: Path
) -> None:
    """A file that is not what it was stops the model's creation, and the log names it and says what to do."""
    name = f"{tmp_path.name}__MO_000000000008_000"  # one of its own: KIM keeps open what could not be created
    source = write_model(tmp_path / name, Constant(), CUTOFF, 1, SPECIES)
    (source / file).write_bytes(damage((source / file).read_bytes()))
    driver.install_model(source)
    with pytest.raises(RuntimeError):
        KIMModel(name)
    assert message in logged()
    assert "`kimgnn export`" in logged()


def test_network_of_the_other_driver(kim_collection: Path, tmp_path: Path) -> None:
    """A model that names a driver which cannot run it is told of the one that can."""
    name = "Misdirected__MO_000000000004_000"
    source = write_model(tmp_path / name, Constant(), CUTOFF, 1, SPECIES)
    torch_driver, onnx_driver = driver.driver_name("torch"), driver.driver_name("onnx")
    text = (source / "CMakeLists.txt").read_text()
    (source / "CMakeLists.txt").write_text(text.replace(torch_driver, onnx_driver))
    driver.install_model(source)
    with pytest.raises(RuntimeError):
        KIMModel(name)
    assert f"does not run 'torchscript' networks; {torch_driver} does" in logged()


def compile_with_driver(directory: Path, main: str, *names: str) -> Path:
    """Return a program of one of the driver's sources and a ``main`` that has its headers."""
    sources = Path(__file__).parents[2] / "kim_export"
    names_of_headers = ["<iostream>", '"parameters.hpp"', '"backend.hpp"', '"blocks.hpp"']
    headers = "".join(f"#include {name}\n" for name in names_of_headers) + "using namespace kimgnn;\n"
    (directory / "main.cpp").write_text(headers + main)
    program = directory / "program"
    files = [directory / "main.cpp", *(sources / name for name in names)]
    compiler = ["c++", "-std=c++20", "-O2", f"-I{sources}", *files, "-o", program]
    subprocess.run(compiler, check=True)
    return program


def test_parameter_file_is_read_strictly(tmp_path: Path) -> None:
    """Each line that is missing, extra or garbled is named with its number; the right file is read as it stands."""
    program = compile_with_driver(
        tmp_path,
        """
        int main(int, char** arguments) try {
          const auto p = read_parameters(arguments[1]);
          std::cout << p.backend << ' ' << p.cutoff << ' ' << p.layers << ' ' << p.species.size() << ' ' << p.members;
        } catch (const Error& error) { std::cout << error.what(); }""",
        "parameters.cpp",
    )
    (tmp_path / "model.pt").touch()
    good = ["kimgnn 2", "backend torchscript", "model model.pt", "cutoff 4.0", "layers 3", "species Si C"]

    def read(lines: list[str]) -> str:
        (tmp_path / "kimgnn.param").write_text("\n".join(lines) + "\n")
        return subprocess.run([program, tmp_path], capture_output=True, text=True, check=True).stdout

    assert read(good) == "torchscript 4 3 2 1"
    for line, text, message in [
        (1, "kimgnn 1", "version 1; this driver reads the versions 2 and 3. Export the model again"),
        (1, "kimgnn 4", "version 4; this driver reads the versions 2 and 3. Bring the driver up to date"),
        (3, "model ../model.pt", "plain file name"),
        (3, "model a.pt b.pt", "takes one value"),
        (4, "cutoff 4,0", "'cutoff 4,0' is not a positive length"),
        (4, "cutoff -4", "is not a positive length"),
        (4, "cutoff nan", "is not a positive length"),
        (5, "layers 2.5", "is not a positive whole number"),
        (5, "layers", "has no value"),
        (6, "species Si Si", "given twice"),
        (6, "", "'species <value>' is expected"),
    ]:
        complaint = read([*good[: line - 1], text, *good[line:]])
        assert message in complaint
        assert line == 1 or f"line {line}:" in complaint
    assert "line 4: begins with 'layers'" in read(good[:3] + good[4:])
    assert "line 7: is not expected" in read([*good, "comment none"])
    committee = ["kimgnn 3", *good[1:], "members 5"]
    assert read(committee) == "torchscript 4 3 2 5"
    assert "line 7: is not expected" in read([*good, "members 5"])
    assert "line 7: ends here" in read(committee[:-1])
    assert "line 7: 'members none' is not a number of networks" in read([*committee[:-1], "members none"])
    assert "line 7: a committee has two members at least" in read([*committee[:-1], "members 1"])
    (tmp_path / "kimgnn.param").unlink()
    assert "cannot be read" in subprocess.run([program, tmp_path], capture_output=True, text=True, check=True).stdout


def test_blocks_are_no_smaller_than_what_lies_around_them(tmp_path: Path) -> None:
    """Where many layers reach far, an atom alone has about as many edges as all: they are evaluated together."""
    main = """
        #include <cmath>
        int main(int, char** arguments) {
          const int side = 14, n = side * side * side;
          std::vector<double> coordinates;
          std::vector<int> codes(n, 0), atoms(n), list;
          for (int i = 0; i < n; ++i) {
            atoms[i] = i;
            for (const int x : {i / side / side, i / side % side, i % side}) coordinates.push_back(x);
          }
          const auto neighbors = [&](int i) -> std::span<const int> {
            list.clear();
            for (int j = 0; j < n; ++j) {
              double squared = 0;
              for (int axis = 0; axis < 3; ++axis) {
                squared += std::pow(coordinates[3 * i + axis] - coordinates[3 * j + axis], 2);
              }
              if (j != i && squared < 3.1 * 3.1) list.push_back(j);
            }
            return list;
          };
          std::optional<std::size_t> max_edges;
          if (arguments[2] != nullptr) max_edges = std::stoul(arguments[2]);
          StagedGraph graph(3.1, std::stoi(arguments[1]));
          std::size_t blocks = 0, largest = 0;
          in_blocks(graph, {coordinates, codes, codes, 1.0, neighbors}, atoms, max_edges, [&] {
            ++blocks;
            largest = std::max(largest, graph.view().num_edges());
          });
          std::cout << blocks << ' ' << largest;
        }"""
    program = compile_with_driver(tmp_path, main, "blocks.cpp", "staged_graph.cpp")

    def blocks(*arguments: int) -> tuple[int, int]:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=True)
        count, largest = done.stdout.split()
        return int(count), int(largest)

    assert blocks(4) == (1, 258_512)  # all edges that there are; an atom in the middle alone has nearly as many
    count, largest = blocks(1)  # of which an atom alone has a hundred
    assert count == 2
    assert largest <= 150_000
    count, largest = blocks(4, 250_000)  # what is asked for stands
    assert count > 1
    assert largest <= 250_000


def test_ranks_share_the_cores(tmp_path: Path) -> None:
    """By default the ranks of a machine have its cores between them; a setting of the user's comes first."""
    main = "int main() { std::cout << read_runtime().num_threads; }"
    program = compile_with_driver(tmp_path, main, "runtime.cpp")

    def threads(**environment: str) -> int:
        done = subprocess.run([program], env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    cores, allowed = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    assert threads() == allowed
    for variable in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"):
        assert threads(**{variable: str(cores)}) == 1
        assert threads(**{variable: str(10 * cores)}) == 1
        assert threads(**{variable: str(cores), "OMP_NUM_THREADS": "3"}) == 3
        assert threads(**{variable: str(cores), "OMP_NUM_THREADS": "3", "KIMGNN_NUM_THREADS": "5"}) == 5


def run_lammps(ranks: int, model: str, atoms: Atoms, units: str, directory: Path) -> dict[str, np.ndarray]:
    """Energy, pressure, forces and per-atom virials of ``atoms`` in LAMMPS, in its units."""
    from ase.io import write

    write(directory / "data", atoms, format="lammps-data", specorder=SPECIES, units=units, atom_style="atomic")
    (directory / "in").write_text(
        f"""
        kim init {model} {units}
        boundary p p p
        atom_modify map array sort 0 0
        read_data data
        mass * 1.0
        kim interactions {" ".join(SPECIES)}
        compute v all stress/atom NULL virial
        compute total all reduce sum c_v[1] c_v[2] c_v[3] c_v[6] c_v[5] c_v[4]
        thermo_style custom pe vol pxx pyy pzz pyz pxz pxy c_total[*]
        thermo_modify format float %.17g
        dump forces all custom 1 forces id fx fy fz
        dump_modify forces sort id format float %.17g
        run 0
        """
    )
    subprocess.run(
        ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), "lmp", "-in", "in", "-log", "log"],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    lines = (directory / "log").read_text().splitlines()
    header = next(i for i, line in enumerate(lines) if "PotEng" in line)
    thermo = np.array(lines[header + 1].split(), float)
    forces = np.loadtxt(directory / "forces", skiprows=9)[:, 1:]
    return {"energy": thermo[0], "volume": thermo[1], "pressure": thermo[2:8], "virial": thermo[8:], "forces": forces}


@pytest.mark.lammps
@pytest.mark.parametrize(("ranks", "units"), [(1, "metal"), (2, "metal"), (2, "real")])
def test_lammps_equals_pytorch(
    ranks: int, units: str, networks: dict[int, ToyPotential], silicon_carbide: Atoms, tmp_path: Path
) -> None:
    """LAMMPS, on one rank or with a neighbour's atoms as ghosts on two, computes the periodic graph's numbers."""
    from ase.calculators.lammps import convert

    atoms = silicon_carbide.repeat((2, 1, 1))
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)  # LAMMPS's own orientation
    expected = evaluate_periodic(networks[3], 3, atoms, SPECIES)
    found = run_lammps(ranks, MODELS[3], atoms, units, tmp_path)
    energy = convert(found["energy"], "energy", units, "ASE")
    forces = convert(found["forces"], "force", units, "ASE")
    bar, atmosphere = 1 / 1.6021765e6, 1 / 68568.415 * 0.0433641043
    stress = -found["pressure"] * {"metal": bar, "real": atmosphere}[units]
    # KIM's kcal/mol, the same as LAMMPS's, differs from ASE's in the seventh digit.
    relative = 0.0 if units == "metal" else 1e-6
    assert energy == pytest.approx(expected.energy, abs=ENERGY, rel=relative)
    np.testing.assert_allclose(forces, expected.forces, atol=FORCE, rtol=relative)
    np.testing.assert_allclose(stress, expected.stress, atol=STRESS, rtol=relative)
    np.testing.assert_allclose(found["virial"], -found["pressure"] * found["volume"], rtol=1e-9)


class TestCollections:
    """Installing into KIM collections, and what goes wrong with them."""

    def test_driver_is_found(self, kim_collection: Path) -> None:
        """KIM finds the installed driver in the collection it went to."""
        for name in driver.DRIVERS:
            assert driver.find_item(name) == ("user", kim_collection / "model-drivers-dir" / name)

    def test_no_environment_is_needed(self, networks: dict[int, ToyPotential]) -> None:
        """The driver carries the path to libtorch, which lies in no folder that the system searches."""
        library = driver.find_item(driver.driver_name("torch")).path / "libkim-api-model-driver.so"
        dynamic = subprocess.run(["ldd", library], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert "not found" not in dynamic.stdout
        assert str(Path(torch.__file__).parent / "lib") in dynamic.stdout

    def test_model_is_not_replaced_unasked(self, networks: dict[int, ToyPotential], tmp_path: Path) -> None:
        """An installed model stays unless forced; removed, it is gone."""
        source = write_model(tmp_path / MODELS[1], networks[1], CUTOFF, 1, SPECIES)
        with pytest.raises(KIMError, match="a model of this name is installed"):
            driver.install_model(source)
        driver.install_model(source, force=True)
        assert driver.is_installed(MODELS[1])

    def test_remove(self, kim_collection: Path, tmp_path: Path) -> None:
        """A removed model is gone, and removing it again says so."""
        name = "Removed__MO_000000000007_000"
        driver.install_model(write_model(tmp_path / name, Constant(), CUTOFF, 1, SPECIES))
        driver.remove_item(name)
        assert not driver.is_installed(name)
        with pytest.raises(KIMError, match="no such KIM item"):
            driver.remove_item(name)

    def test_collection_that_cannot_be_written(
        self, kim_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No compiler is started for a folder that cannot take the result."""
        (tmp_path / "file").touch()
        monkeypatch.setenv("KIM_API_MODEL_DRIVERS_DIR", str(tmp_path / "file" / "drivers"))
        with pytest.raises(KIMError, match="cannot be written"):
            driver.install_driver(collection="environment")

    def test_environment_that_names_no_collection(self, kim_collection: Path) -> None:
        """The variable to set is named."""
        with pytest.raises(KIMError, match="KIM_API_MODEL_DRIVERS_DIR"):
            driver.install_driver(collection="environment")

    def test_unknown_collection(self, kim_collection: Path) -> None:
        """The collections there are are listed."""
        with pytest.raises(KIMError, match="user, environment, CWD"):
            driver.install_driver(collection="home")  # type: ignore[arg-type]

    def test_compiler_missing(self, kim_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is missing is named with the packages that bring it."""
        for tool in ("cmake", "make", "kim-api-collections-management"):
            (tmp_path / tool).symlink_to(str(shutil.which(tool)))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(KIMError, match=r"not found: c\+\+.*apt-get install g\+\+.*conda-forge cxx-compiler"):
            driver.install_driver()

    def test_build_failure(self, kim_collection: Path, tmp_path: Path) -> None:
        """The compiler's last lines and the log's path are in the message."""
        source = write_model(tmp_path / "Broken__MO_000000000006_000", Constant(), CUTOFF, 1, SPECIES)
        (source / "CMakeLists.txt").write_text('message(FATAL_ERROR "the roof is on fire")')
        with pytest.raises(KIMError, match=r"(?s)build\.log.*the roof is on fire"):
            driver.install_model(source)

    def test_current_directory_and_hidden_items(self, kim_collection: Path, tmp_path: Path) -> None:
        """A model may lie in the current directory, where it would hide one of its name in another collection."""
        name = "Here__MO_000000000005_000"
        (tmp_path / "source").mkdir()
        source = write_model(tmp_path / "source" / name, Constant(), CUTOFF, 1, SPECIES)
        assert driver.install_model(source, "CWD") == tmp_path / name
        assert driver.find_item(name) == ("currentWorkingDirectory", tmp_path / name)
        with pytest.raises(KIMError, match="would hide the one in the user collection"):
            driver.install_model(source)

    def test_not_a_model(self, kim_collection: Path, tmp_path: Path) -> None:
        """A folder without a CMakeLists.txt is refused."""
        with pytest.raises(KIMError, match="not a KIM model"):
            driver.install_model(tmp_path)
