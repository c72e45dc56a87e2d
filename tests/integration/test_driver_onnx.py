"""The KIM model driver of ONNX networks, on one whose answer is known in closed form."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from kim_by_hand import ALL, KIMModel, logged
from toy_potential import write_package

from kimgnn.export import driver

pytestmark = pytest.mark.kim
springs = pytest.importorskip("springs", reason="needs onnx")

CUTOFF = 3.0
SPECIES = ["Si", "C"]
MODEL = "Springs__MO_000000000010_000"
ROUNDING = 1e-12  # eV, eV/Å: sums of a few hundred terms near one


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KIM writes kim.log where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model(kim_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The KIM name of the springs, installed."""
    directory = tmp_path_factory.mktemp("springs") / MODEL
    driver.install_model(write_package(directory, "onnx", springs.springs_onnx(), CUTOFF, 1, SPECIES))
    return MODEL


def rattled(size: int = 1) -> Atoms:
    """A cell of SiC, smaller than twice the cutoff if of size one, off its sites."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True).repeat((size, 1, 1))
    atoms.rattle(0.15, seed=1)
    return atoms


@pytest.mark.parametrize(
    "atoms",
    [
        rattled(),
        rattled(3),
        Atoms("SiCSi", [(0, 0, 0), (1.8, 0.1, 0), (2.5, 1.5, 0)]),
        Atoms("SiC", [(0, 0, 0), (9, 0, 0)]),
        Atoms("C", [(0, 0, 0)]),
    ],
    ids=["cell", "wire", "molecule", "apart", "lone"],
)
def test_springs(atoms: Atoms, model: str) -> None:
    """Energy, forces, stress and atomic energies are those of the formulas, with any number of edges."""
    expected, computed = springs.springs_expected(atoms, CUTOFF), KIMModel(model).compute(atoms)
    assert computed.energy == pytest.approx(expected.energy, abs=ROUNDING)
    np.testing.assert_allclose(computed.particle_energy, expected.atomic_energies, atol=ROUNDING, rtol=0)
    np.testing.assert_allclose(computed.forces, expected.forces, atol=ROUNDING, rtol=0)
    if atoms.pbc.all():
        np.testing.assert_allclose(computed.virial / atoms.get_volume(), expected.stress, atol=ROUNDING, rtol=0)
    np.testing.assert_allclose(computed.particle_virial.sum(0), computed.virial, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("wanted", [(name,) for name in ALL])
def test_each_argument_alone(wanted: tuple[str, ...], model: str) -> None:
    """What is computed does not depend on what else is asked for; energies alone need no gradient."""
    together, alone = KIMModel(model).compute(rattled()), KIMModel(model).compute(rattled(), wanted=wanted)
    for name, one, other in zip(ALL, together, alone, strict=True):
        if name in wanted:
            np.testing.assert_array_equal(other, one)


def test_nothing_contributes(model: str) -> None:
    """An MPI rank without atoms of its own gets zeros."""
    computed = KIMModel(model).compute(Atoms("SiC", [(0, 0, 0), (1.8, 0, 0)]), contributing=[0, 0])
    assert not any(np.any(result) for result in computed)


def test_one_model_in_threads(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models evaluated at the same time, each on two threads, give what one gives alone."""
    monkeypatch.setenv("KIMGNN_NUM_THREADS", "2")
    expected = KIMModel(model).compute(rattled(3)).forces
    models = [KIMModel(model) for _ in range(4)]
    results: list[np.ndarray] = []

    def work(one: KIMModel) -> None:
        results.extend(one.compute(rattled(3)).forces for _ in range(5))

    threads = [threading.Thread(target=work, args=(one,)) for one in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for forces in results:
        np.testing.assert_allclose(forces, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("edge_vectors", "vectors_of_edges", "vectors_of_edges float64 2D"),
        ("int64[L] edge_counts", "double[L] edge_counts", "edge_counts float64 1D"),
        (
            "int64[E] reverse_edge",
            "int64[E] reverse_edge, int64 temperature",
            "reverse_edge int64 1D, temperature int64 0D",
        ),
        (", double[E, 3] gradient)", ")", "reverse_edge int64 1D -> atomic_energies float64 1D\n"),
        ('"" : 18', '"" : 9999', "9999"),
    ],
    ids=["other name", "other type", "other input", "no gradient", "newer operators"],
)
def test_foreign_network(old: str, new: str, message: str, kim_collection: Path, tmp_path: Path) -> None:
    """A network that does not take and give what ours do is refused when it is loaded, with what it has instead."""
    assert_refused(springs.springs_onnx(old, new), message, tmp_path)


@pytest.mark.parametrize("content", [lambda: springs.springs_onnx()[:500], lambda: b"no network"])
def test_damaged_network(content: Callable[[], bytes], kim_collection: Path, tmp_path: Path) -> None:
    """A file that is no network, or the beginning of one, is named with what to do."""
    assert_refused(content(), "model.onnx cannot be loaded", tmp_path)


def assert_refused(content: bytes, message: str, directory: Path) -> None:
    name = f"{directory.name}__MO_000000000011_000"  # one of its own: KIM keeps open what could not be created
    driver.install_model(write_package(directory / name, "onnx", content, CUTOFF, 1, SPECIES))
    with pytest.raises(RuntimeError):
        KIMModel(name)
    assert message in logged()
    assert "model.onnx " in logged()
    assert "Export the model again with `kimgnn export`." in logged()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "num_contributing = Slice (node_counts, last, end, zero)",
            "num_contributing = Shape (species_codes)",
            "failed",
        ),
        ("Mul (products, half)", "Div (products, nothing)", "model.onnx gave a number that is not finite as energy"),
        ("Div (vectors, lengths)", "Div (vectors, nothing)", "model.onnx gave a number that is not finite as force"),
    ],
    ids=["wrong shape", "energy", "force"],
)
def test_network_that_fails(old: str, new: str, message: str, kim_collection: Path, tmp_path: Path) -> None:
    """A result of the wrong shape, or that is no number, is an error of KIM with the reason in its log."""
    name = f"{tmp_path.name}__MO_000000000012_000"
    driver.install_model(write_package(tmp_path / name, "onnx", springs.springs_onnx(old, new), CUTOFF, 1, SPECIES))
    failing = KIMModel(name)
    with pytest.raises(RuntimeError):
        failing.compute(Atoms("SiC", [(0, 0, 0), (1.8, 0, 0)]), contributing=[1, 0])
    assert message in logged()


def test_no_gpu(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that this driver cannot use is refused, not ignored."""
    monkeypatch.setenv("KIMGNN_DEVICE", "cuda")
    with pytest.raises(RuntimeError):
        KIMModel(model)
    assert "KIMGNN_DEVICE='cuda' cannot be used: the ONNX driver runs on the CPU." in logged()


CREATE = f"""
import kimpy
def create():
    units = kimpy.length_unit.A, kimpy.energy_unit.eV, kimpy.charge_unit.e, kimpy.temperature_unit.K, kimpy.time_unit.ps
    return kimpy.model.create(kimpy.numbering.zeroBased, *units, {MODEL!r})
def loaded(name):
    return name in open("/proc/self/maps").read()
"""


def run_alone(program: str) -> str:
    """What a program, with `CREATE` before it, prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", CREATE + program], capture_output=True, text=True, check=True).stdout


def test_driver_stands_alone(model: str) -> None:
    """The driver's folder holds all it needs, in less than 100 MB: ONNX Runtime, and neither libtorch nor Python."""
    folder = driver.find_item(driver.driver_name("onnx")).path
    program = f"model = create()\nprint(loaded({str(folder / 'libonnxruntime.so.1')!r}), loaded('libtorch'))"
    assert run_alone(program).split() == ["True", "False"]
    needed = subprocess.run(["ldd", folder / "libkim-api-model-driver.so"], capture_output=True, text=True, check=True)
    assert "not found" not in needed.stdout
    assert not {"torch", "python"} & set(needed.stdout.replace("lib", " ").replace(".", " ").split())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100e6


def test_models_come_and_go(model: str) -> None:
    """KIM unloads the driver with its last model, and loads it again for the next one."""
    program = f"""
for _ in range(3):
    model = create()
    print(loaded({driver.driver_name("onnx") + "/libkim-api-model-driver"!r}))
    del model
    print(loaded({driver.driver_name("onnx") + "/libkim-api-model-driver"!r}))
"""
    assert run_alone(program).split() == ["True", "False"] * 3


@pytest.mark.parametrize(
    ("version", "has_table", "message"),
    [
        ("1.9.1", False, "libonnxruntime.so.1 is ONNX Runtime 1.9.1; this driver needs 1.20 or later, below 2."),
        ("2.0.0", True, "libonnxruntime.so.1 is ONNX Runtime 2.0.0; this driver needs 1.20 or later, below 2."),
        ("", False, "libonnxruntime.so.1 is not ONNX Runtime."),
        (None, False, "ONNX Runtime cannot be loaded: "),
    ],
    ids=["older", "newer", "another library", "none"],
)
def test_library_of_another_version(
    version: str | None, has_table: bool, message: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that this driver was not made for is not called, but named with its version and what to do."""
    library = copy_of_collection(tmp_path / "kim", monkeypatch) / "libonnxruntime.so.1"
    library.unlink()
    if version is not None:
        source = tmp_path / "library.c"
        source.write_text(
            f"""
            static int table[1000];
            static void *get_table(unsigned version) {{ return {int(has_table)} ? table : 0; }}
            static const char *get_version(void) {{ return "{version}"; }}
            static void *base[] = {{get_table, get_version}};
            void *{"OrtGetApiBase" if version else "other_function"}(void) {{ return base; }}
            """
        )
        subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    with pytest.raises(RuntimeError):
        KIMModel(model)
    assert message in logged()
    assert str(library) in logged()
    assert "then `kimgnn driver install onnx --force`" in logged()


def copy_of_collection(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the driver and the springs the user's collection; return the driver's folder in it."""
    items = [driver.find_item(driver.driver_name("onnx")).path, driver.find_item(MODEL).path]
    for name, value in driver.private_collection(directory).items():
        monkeypatch.setenv(name, value)
    for item, folder in zip(items, ("model-drivers-dir", "portable-models-dir"), strict=True):
        shutil.copytree(item, directory / folder / item.name)
    return directory / "model-drivers-dir" / items[0].name


def test_memory_does_not_grow(model: str) -> None:
    """Ten thousand evaluations of changing numbers of atoms keep the memory of the first thousand, to 0.2 kB each."""
    chain = Atoms("SiC" * 20, [(1.8 * site, 0.1 * (site % 3), 0) for site in range(40)])
    one, counts, resident = KIMModel(model), np.random.default_rng(0), {}
    for evaluation in range(1, 10001):
        one.compute(chain[: counts.integers(1, 41)])
        if evaluation in (1000, 10000):
            resident[evaluation] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident[10000] - resident[1000] < 2e6
