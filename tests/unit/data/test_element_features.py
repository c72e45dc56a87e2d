"""Tables of elements: the paper's properties against the authors' file, files in its format, elements outside."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from kimgnn.data.element_features import (
    binned_properties,
    element_feature_table,
    elements_outside,
    require_elements,
    within_table,
)
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError

PALLADIUM = 46


@pytest.fixture(scope="module")
def properties() -> np.ndarray:
    return binned_properties()


def test_properties_are_those_of_the_authors(properties: np.ndarray, shared_data: Path) -> None:
    """Bit by bit for 99 of 100 elements; the authors give palladium twelve valence electrons, where it has ten."""
    theirs = element_feature_table(shared_data / "cgcnn" / "sample-regression" / "atom_init.json")
    assert theirs.shape == properties.shape == (119, 92)
    differ = np.argwhere(properties[1:101] != theirs[1:101])
    assert (differ + [1, 0]).tolist() == [[PALLADIUM, 46 + 9], [PALLADIUM, 46 + 11]]
    assert np.isnan(theirs[101:]).all()


def test_properties_of_some_elements(properties: np.ndarray) -> None:
    """Iron: group 8, period 4, electronegativity 1.83, 116 pm, 8 electrons, 7.90 eV, 0.15 eV, d block, 7.1 cm³/mol."""
    assert np.flatnonzero(properties[26]).tolist() == [8, 22, 29, 40, 53, 61, 72, 80, 83]
    # Helium binds no electron and has no electronegativity: no bin of these.
    assert np.flatnonzero(properties[2]).tolist() == [18, 19, 36, 47, 67, 78, 88]
    # Lanthanum is in the f block, lutetium in group 3.
    assert np.flatnonzero(properties[57])[0] == 0
    assert np.flatnonzero(properties[71])[0] == 3
    assert np.isnan(properties[0]).all()
    assert np.isfinite(properties[1:]).all()
    assert set(np.unique(properties[1:])) == {0.0, 1.0}


def test_elements_outside_the_table_are_told_by_structure(tmp_path: Path) -> None:
    """Each structure with its elements; a file may hold any of them, in any order."""
    path = tmp_path / "atoms.json"
    path.write_text(json.dumps({"17": [0.5, 2], "11": [1, -1]}))
    table = element_feature_table(str(path))
    assert table[11].tolist() == [1.0, -1.0]
    structures = {}
    for name, atoms in {"salt": bulk("NaCl", "rocksalt", a=5.6), "lif": bulk("LiF", "rocksalt", a=4.0)}.items():
        structures[name] = configuration_from_atoms(atoms)
        structures[name].identifier = name
    assert elements_outside(table, structures["salt"]) == []
    require_elements(table, [structures["salt"]], "atoms.json")
    with pytest.raises(DataError, match=r"^lif: has elements that atoms.json has no features of \(got 'F, Li'\)"):
        require_elements(table, structures.values(), "atoms.json")
    within, problems = within_table(table, structures.values(), "atoms.json")
    assert within == [structures["salt"]]
    assert [problem.where for problem in problems] == ["lif"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no elements"),
        ('{"0": [1]}', "is not an atomic number"),
        ('{"H": [1]}', "is not an atomic number"),
        ('{"1": [1, 0], "2": [1]}', "equally many"),
        ('{"1": ["a"]}', "not numbers"),
        ('{"1": []}', "equally many"),
        ('{"1": [NaN]}', "not finite"),
    ],
)
def test_files_that_are_no_tables(content: str, words: str, tmp_path: Path) -> None:
    """The message names the file and what is wrong with it."""
    path = tmp_path / "atoms.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        element_feature_table(path)
    assert "atoms.json" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(DataError, match="No such file"):
        element_feature_table(tmp_path / "absent.json")
