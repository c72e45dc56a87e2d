"""Files of structures, one at a time: what they are read as, and what is said of those that cannot be."""

from __future__ import annotations

import io
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from kimgnn.data.structure_files import read_structure_file, read_structure_stream, structure_files
from kimgnn.errors import DataError

ANGLES = ("alpha", "beta", "gamma")


def test_a_folder_is_searched_to_its_bottom_in_order(tmp_path: Path) -> None:
    """Structures and empty files, not notes or hidden files or folders."""
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("z.cif", "b/POSCAR", "b/a.extxyz", "b/x.vasp", "notes.txt", ".hidden.cif", ".git/c.cif"):
        (tmp_path / name).write_text("something")
    (tmp_path / "empty.dat").touch()
    found = [str(path.relative_to(tmp_path)) for path in structure_files(tmp_path)]
    assert found == ["b/POSCAR", "b/a.extxyz", "b/x.vasp", "empty.dat", "z.cif"]
    assert structure_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_a_folder_without_structures_and_a_name_that_is_not_there(tmp_path: Path) -> None:
    """The nearest name is proposed."""
    (tmp_path / "notes.txt").write_text("something")
    with pytest.raises(DataError, match="the folder has no file of structures"):
        structure_files(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'notes.txt'"):
        structure_files(tmp_path / "note.txt")


@pytest.mark.parametrize(
    ("name", "format_name", "written"),
    [("a.cif", None, "cif"), ("POSCAR", None, "vasp"), ("a.vasp", None, "vasp"), ("a.extxyz", None, "extxyz"),
     ("a.in", None, "aims"), ("a.data", "cif", "cif"), ("a.data", "vasp", "vasp"), ("a.data", "extxyz", "extxyz")],
)  # fmt: skip
def test_a_crystal_in_many_formats(name: str, format_name: str | None, written: str, tmp_path: Path) -> None:
    """Cell and positions to the digits of the files; periodic."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    ase.io.write(tmp_path / name, atoms, format=written)
    ((identifier, found),) = read_structure_file(tmp_path / name, format_name)
    assert identifier.startswith(str(tmp_path / name))
    assert found.pbc.all()
    assert sorted(found.symbols) == sorted(atoms.symbols)
    np.testing.assert_allclose(
        found.get_all_distances(mic=True).sum(), atoms.get_all_distances(mic=True).sum(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cif", b"", "a.cif: the file is empty"),
        ("a.vasp", b"\xff\xfe\x00nonsense", "a.vasp: the structure does not parse"),
        ("a.cif", b"data_\n_cell_length_a 3\n", "a.cif: the structure does not parse"),
        ("a.extxyz", b"", "a.extxyz: the file is empty"),
        ("a.extxyz", b"2\n\nSi 0 0 0\n", "a.extxyz: cannot be read"),
        ("a.extxyz", b"\xff\xfe\x00nonsense", "a.extxyz: cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pymatgen")
def test_bad_files_are_told_by_name(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """Whatever is in them, it is a DataError."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_structure_file(tmp_path / name)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder that calls itself a CIF."""
    (tmp_path / "a.cif").mkdir()
    with pytest.raises(DataError, match="a.cif: cannot be read: Is a directory"):
        read_structure_file(tmp_path / "a.cif")


def test_assumptions_are_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    """A CIF that names its space group but does not list the operations."""
    cell = "".join(
        f"_cell_length_{axis} 3\n_cell_angle_{angle} 90\n" for axis, angle in zip("abc", ANGLES, strict=True)
    )
    sites = "loop_\n_atom_site_label\n" + "".join(f"_atom_site_fract_{axis}\n" for axis in "xyz") + "Si1 0 0 0\n"
    (tmp_path / "a.cif").write_text(f"data_Si\n{cell}_symmetry_space_group_name_H-M 'P 1'\n{sites}")
    with pytest.warns(UserWarning, match=r"a\.cif: ") as told:
        ((_, atoms),) = read_structure_file(tmp_path / "a.cif")
    assert any("Spacegroup" in str(warning.message) for warning in told)
    assert all(str(warning.message).startswith(f"{tmp_path / 'a.cif'}: ") for warning in told)
    assert atoms.get_volume() == pytest.approx(27.0)


def test_standard_input_that_is_empty() -> None:
    """Nothing came, and so it is said."""
    with pytest.raises(DataError, match="stdin: nothing came"):
        read_structure_stream(io.StringIO("\n"), "extxyz", "stdin")
