"""Labels computed elsewhere: what is right is kept, what is wrong or missing is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from test_label import ARGUMENTS, structures

from kimgnn.active.exchange import take_results, write_selected
from kimgnn.active.frames import NAME, read_frames
from kimgnn.errors import DataError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where structures are given out, and where labels go."""
    (tmp_path / "labels").mkdir()
    write_selected(tmp_path / "dft", structures())
    return tmp_path / "dft", tmp_path / "labels"


def computed(atoms: Atoms) -> Atoms:
    """What somebody else's program makes of a structure that was given out."""
    atoms = atoms.copy()
    calculator = LennardJones(**ARGUMENTS)
    found = {name: calculator.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **found)
    return atoms


def results_of(dft: Path) -> dict[str, Atoms]:
    return {path.stem: computed(read_frames(path)[0]) for path in sorted((dft / "selected").iterdir())}


def test_results_come_back(folders: tuple[Path, Path]) -> None:
    """In files of the structures' names, of different formats, or several in one, told by their names."""
    dft, labels = folders
    results = results_of(dft)
    assert list(results) == ["r00_0", "r00_1", "r00_2"]
    results["r00_0"].info.clear()
    ase.io.write(dft / "results" / "r00_0.traj", results["r00_0"])
    ase.io.write(dft / "results" / "all.xyz", [results["r00_2"], results["r00_1"]], format="extxyz")
    take_results(dft, structures(), labels)
    for atoms in structures():
        (found,) = read_frames(labels / f"{atoms.info[NAME]}.extxyz")
        expected = results[atoms.info[NAME]]
        assert found.info == atoms.info
        assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(found.get_forces(), expected.get_forces(), rtol=0, atol=1e-7)


def test_what_is_there_is_kept_and_what_is_missing_told(folders: tuple[Path, Path]) -> None:
    dft, labels = folders
    with pytest.raises(DataError, match=r"results: 3 of 3 results are missing: r00_0, r00_1, r00_2"):
        take_results(dft, structures(), labels)
    ase.io.write(dft / "results" / "r00_1.extxyz", results_of(dft)["r00_1"])
    with pytest.raises(DataError, match=r"results: 2 of 3 results are missing: r00_0, r00_2"):
        take_results(dft, structures(), labels)
    (dft / "results" / "r00_1.extxyz").unlink()
    with pytest.raises(DataError, match=r"2 of 3 results are missing"):
        take_results(dft, structures(), labels)
    assert [path.stem for path in labels.iterdir()] == ["r00_1"]


def moved(atoms: Atoms) -> None:
    atoms.positions[3] += 0.01


def expanded(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell * 1.001)


def without_forces(atoms: Atoms) -> None:
    del atoms.calc.results["forces"]


def without_labels(atoms: Atoms) -> None:
    atoms.calc = None


def with_nan(atoms: Atoms) -> None:
    atoms.calc.results["forces"][2, 1] = np.nan


def exchanged(atoms: Atoms) -> None:
    atoms.numbers[:2] = [14, 6]


def called_otherwise(atoms: Atoms) -> None:
    atoms.info[NAME] = "r07_12"


def a_slab(atoms: Atoms) -> None:
    atoms.pbc = (True, True, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved, r"has another geometry than was asked .*off by 0.017.*Allowed: 0.001 Å.*no relaxation"),
        (expanded, "has another geometry"),
        (without_forces, "has no forces.*Compute it to the end"),
        (without_labels, "has no energy"),
        (with_nan, "forces is not finite"),
        (exchanged, "has other atoms than were asked .*CSi7.*Allowed: Si8"),
        (called_otherwise, "is the result of no structure that was asked .*r07_12"),
        (a_slab, "has other periodic directions"),
    ],
)
def test_what_is_no_result(change: Callable[[Atoms], None], message: str, folders: tuple[Path, Path]) -> None:
    """Each is told with its file; the others are kept."""
    dft, labels = folders
    results = results_of(dft)
    change(results["r00_1"])
    for name, atoms in results.items():
        ase.io.write(dft / "results" / f"{name}.traj", atoms)
    with pytest.raises(DataError, match=rf"r00_1\.traj:0: {message}"):
        take_results(dft, structures(), labels)
    assert sorted(path.stem for path in labels.iterdir()) == ["r00_0", "r00_2"]


def test_files_that_cannot_be_read_and_results_that_are_there_twice(folders: tuple[Path, Path]) -> None:
    dft, labels = folders
    for name, atoms in results_of(dft).items():
        ase.io.write(dft / "results" / f"{name}.traj", atoms)
    ase.io.write(dft / "results" / "r00_0.extxyz", results_of(dft)["r00_0"])
    (dft / "results" / "r00_1.xyz").write_text("8\nLattice\nSi 0 0")
    with pytest.raises(DataError) as told:
        take_results(dft, structures(), labels)
    text = str(told.value)
    assert "r00_0.traj:0: is a second result, beside" in text
    assert "r00_1.xyz" in text
    assert "missing" not in text


def test_a_relaxation_is_no_single_point(folders: tuple[Path, Path]) -> None:
    dft, labels = folders
    results = results_of(dft)
    ase.io.write(dft / "results" / "r00_0.traj", [results["r00_0"], results["r00_0"]])
    with pytest.raises(DataError, match="has several frames of one structure .*Keep the last one"):
        take_results(dft, structures(), labels)


def test_atoms_in_another_order(folders: tuple[Path, Path]) -> None:
    """Programs that sort by element are told, not believed."""
    dft, labels = folders
    asked = structures()
    for atoms in asked:
        atoms.symbols[[0, 2]] = "C"
    answer = asked[0][[1, 0, 2, 3, 4, 5, 6, 7]]
    answer.info = dict(asked[0].info)
    answer.calc = SinglePointCalculator(answer, energy=0.0, forces=np.zeros((8, 3)))
    ase.io.write(dft / "results" / "r00_0.traj", answer)
    with pytest.raises(DataError, match="has its atoms in another order"):
        take_results(dft, asked, labels)


def test_wrapped_positions_are_the_same_geometry(folders: tuple[Path, Path]) -> None:
    dft, labels = folders
    for path in (dft / "selected").iterdir():
        (atoms,) = read_frames(path)
        atoms.positions += atoms.cell[0] - 2 * atoms.cell[2]
        ase.io.write(dft / "results" / f"{path.stem}.traj", computed(atoms))
    take_results(dft, structures(), labels)
    assert len(list(labels.iterdir())) == 3
