"""Which files and frames a dataset block reads, and what it says of those it cannot."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import ase.io
import kliff.dataset.dataset as kliff_dataset
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from crystals import HALF, NACL
from kliff.dataset import Configuration

from kimgnn.data.labels import has_label
from kimgnn.data.sources import read_configurations, read_records, source_of
from kimgnn.data.statistics import label_counts
from kimgnn.data.targets import TargetSpec
from kimgnn.data.to_atoms import save_configurations, to_atoms
from kimgnn.errors import DataError, ManifestError

KLIFF_FILE = """2
Lattice="8 0 0 0 8 0 0 0 8" PBC="1 0 1" Properties=species:S:1:pos:R:3:force:R:3 Energy="-2.5" Stress="1 2 3 4 5 6"
Si 0 0 0 0.1 0.2 0.3
C 0 0 2 -0.1 -0.2 -0.3
"""


def labelled(energy: float) -> ase.Atoms:
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((1, 3), energy), stress=np.full(6, energy))
    return atoms


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    """Ten frames; the energy of a frame is its number."""
    path = tmp_path / "run.extxyz"
    ase.io.write(path, [labelled(float(number)) for number in range(10)])
    return path


def read(path: object, **dataset: object) -> list[Configuration]:
    return read_configurations({"type": "ase", "path": path, **dataset})


def energies(configurations: list[Configuration]) -> list[float]:
    return [configuration.energy for configuration in configurations]


@pytest.mark.parametrize("slices", [None, ":", "::3", "2:5", "-2:", "::-1", ":-8", "4:5"])
def test_slices(trajectory: Path, slices: str | None) -> None:
    """A slice takes the frames that it takes of a list, and each keeps its number in the file."""
    start, stop, step = ([int(part) if part else None for part in (slices or "").split(":")] + [None] * 3)[:3]
    expected = list(range(10))[start:stop:step]
    configurations = read(str(trajectory), slices=slices)
    assert energies(configurations) == expected
    assert [item.identifier for item in configurations] == [f"{trajectory}:{number}" for number in expected]
    assert [item.metadata["identifier"] for item in configurations] == [item.identifier for item in configurations]
    assert [item.metadata["index"] for item in configurations] == list(range(len(expected)))


def test_bad_slices(trajectory: Path) -> None:
    """What is no slice, and a slice that leaves nothing, are told apart."""
    with pytest.raises(ManifestError, match=r"dataset\.slices: is not a slice.*'::x'"):
        read(str(trajectory), slices="::x")
    with pytest.raises(DataError, match="no structure is left"):
        read(str(trajectory), slices="50:")


def test_every_label_arrives(trajectory: Path) -> None:
    """Energy, forces and stress of a written file are those that were written."""
    configuration = read(str(trajectory))[7]
    assert configuration.energy == 7.0
    np.testing.assert_allclose(configuration.forces, np.full((1, 3), 7.0))
    np.testing.assert_allclose(configuration.stress, np.full(6, 7.0))


def test_folders_globs_and_lists(tmp_path: Path) -> None:
    """A folder is searched to the bottom, sorted; what ASE does not know and hidden files are left out."""
    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    ase.io.write(folder / "2.xyz", labelled(2.0))
    ase.io.write(folder / "b" / "3.xyz", labelled(3.0))
    ase.io.write(folder / "1.traj", labelled(1.0))
    (folder / "README.txt").write_text("about these data")
    (folder / "._2.xyz").write_text("left by a Mac")
    (folder / ".cache").mkdir()
    ase.io.write(folder / ".cache" / "2.xyz", labelled(2.0))
    assert energies(read(str(folder))) == [1.0, 2.0, 3.0]
    assert energies(read(str(folder / "**" / "*.xyz"))) == [2.0, 3.0]
    assert energies(read([str(folder / "b"), str(folder / "1.traj")])) == [3.0, 1.0]
    assert energies(read_configurations({"type": "path", "path": folder})) == [2.0, 3.0]
    assert energies(read(str(folder), slices="1:")) == [2.0, 3.0]


def test_other_formats(tmp_path: Path) -> None:
    """Compressed files, and formats without labels, read too; a name may hold an @."""
    with gzip.open(tmp_path / "zipped.xyz.gz", "wt") as file:
        ase.io.write(file, labelled(4.0), format="extxyz")
    ase.io.write(tmp_path / "POSCAR", bulk("Cu"))
    ase.io.write(tmp_path / "at@2.xyz", labelled(5.0))
    assert energies(read(str(tmp_path / "zipped.xyz.gz"))) == [4.0]
    assert energies(read(str(tmp_path / "at@2.xyz"))) == [5.0]
    assert not has_label(read(str(tmp_path / "POSCAR"))[0], "energy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", "", "empty.xyz: the file is empty"),
        ("broken.xyz", "2\n\nSi 0 0\n", "broken.xyz: cannot be read"),
        ("words.xyz", "these are not atoms\n", "words.xyz: cannot be read"),
        ("words.unknown", "these are not atoms\n", "words.unknown: cannot be read"),
        ("cut.xyz", "1\n\nSi 0 0 0\n2\n\nSi 0 0 0\n", "cut.xyz.*: cannot be read"),
        ("element.xyz", "1\n\nQq 0 0 0\n", "element.xyz.*Qq"),
        ("x.xyz", "1\n\nX 0 0 0\n", "x.xyz:0: an atom is of no element"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    """The message names the file and what was wrong with it."""
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(str(tmp_path / name))


def test_missing_paths(trajectory: Path) -> None:
    """A path that is not there is answered with the nearest that is; an empty folder says so."""
    with pytest.raises(DataError, match=r"dataset\.path: there is no such file.*Did you mean 'run.extxyz'"):
        read(str(trajectory.with_name("rum.extxyz")))
    with pytest.raises(DataError, match="no such file"):
        read(str(trajectory.with_name("nowhere") / "*.xyz"))
    (trajectory.parent / "hollow").mkdir()
    with pytest.raises(DataError, match="no file that ASE can read"):
        read(str(trajectory.parent / "hollow"))
    with pytest.raises(DataError, match=r"ending in \.xyz"):
        read_configurations({"type": "path", "path": str(trajectory.parent / "hollow")})
    with pytest.raises(ManifestError, match="a file, folder or glob is needed"):
        read(None)
    with pytest.raises(ManifestError, match="Did you mean 'ase'"):
        read_configurations({"type": "aes", "path": str(trajectory)})


def test_nan_label_names_file_and_frame(tmp_path: Path) -> None:
    """The second frame of a file is frame 1."""
    path = tmp_path / "nan.xyz"
    path.write_text("1\nenergy=1\nSi 0 0 0\n1\nenergy=nan\nSi 0 0 0\n")
    with pytest.raises(DataError, match=r"nan\.xyz:1 \(energy\): the energy is NaN"):
        read(str(path))


def test_a_frame_without_energy_is_read(tmp_path: Path) -> None:
    """A missing label is missing, not zero and not an error."""
    path = tmp_path / "some.xyz"
    path.write_text("1\nenergy=1\nSi 0 0 0\n1\n\nSi 0 0 0\n")
    configurations = read(str(path))
    assert label_counts(configurations) == {"energy": 1, "forces": 0, "stress": 0}


def test_kliffs_own_files(tmp_path: Path) -> None:
    """Type 'path' reads what KLIFF's parser reads, PBC header included, though it is asked for by the usual names."""
    path = tmp_path / "kliff.xyz"
    path.write_text(KLIFF_FILE)
    theirs = Configuration.from_file(path)
    for keys in ({}, {"energy": "energy", "forces": "forces", "stress": "stress"}):
        (ours,) = read_configurations({"type": "path", "path": str(path), "keys": keys})
        assert ours.energy == theirs.energy == -2.5
        assert ours.PBC == theirs.PBC == [True, False, True]
        assert ours.species == theirs.species
        for name in ("cell", "coords", "forces", "stress"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    (exact,) = read_configurations({"type": "path", "path": str(path), "keys": {"energy": "dft"}})
    assert not has_label(exact, "energy")
    (strict,) = read(str(path))
    assert not has_label(strict, "energy")
    assert strict.PBC == [True, False, True]


def test_files_that_kliff_writes(tmp_path: Path) -> None:
    """KLIFF calls the forces 'for' when it writes; several of its frames in one file read too, which KLIFF refuses."""
    source = tmp_path / "kliff.xyz"
    source.write_text(KLIFF_FILE)
    written = tmp_path / "written.xyz"
    Configuration.from_file(source).to_file(written)
    written.write_text(written.read_text() * 3)
    configurations = read_configurations({"type": "path", "path": str(written)})
    assert len(configurations) == 3
    np.testing.assert_array_equal(configurations[2].forces, Configuration.from_file(source).forces)


def test_kliffs_silicon_example(shared_data: Path, tmp_path: Path) -> None:
    """KLIFF's tutorial data are the same structures, in the same order, as KLIFF's own reader gives."""
    with tarfile.open(shared_data / "kliff" / "Si_training_set_4_configs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "Si_training_set_4_configs"
    theirs = kliff_dataset.Dataset.from_path(folder)
    ours = read_configurations({"type": "path", "path": str(folder)})
    assert energies(ours) == [item.energy for item in theirs]
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our.forces, their.forces)
        np.testing.assert_array_equal(our.coords, their.coords)


def test_published_silicon_set(shared_data: Path) -> None:
    """The mlearn test split has energy, forces and stress on each of its 25 structures."""
    configurations = read(str(shared_data / "mlearn" / "mlearn_Si_test.extxyz"))
    assert label_counts(configurations) == {"energy": 25, "forces": 25, "stress": 25}
    np.testing.assert_allclose(
        configurations[0].stress,
        [0.01699673780, 0.00294981652, 0.01152490333, 0.00489895004, 0.00107451116, 0.00197150465],
        rtol=1e-6,
    )


def test_colabfit_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said; KLIFF ends in an AttributeError."""
    monkeypatch.setattr(kliff_dataset, "MongoDatabase", None)
    source = {"type": "colabfit", "colabfit_dataset": {"dataset_name": "DS_1", "database_name": "mongo"}}
    with pytest.raises(DataError, match="pip install colabfit-tools"):
        read_configurations(source)
    with pytest.raises(ManifestError, match=r"colabfit_dataset\.database_name"):
        read_configurations({"type": "colabfit", "colabfit_dataset": {"dataset_name": "DS_1"}})


def test_colabfit_asks_kliff(monkeypatch: pytest.MonkeyPatch) -> None:
    """KLIFF's reader gets the names and the address where it wants them, and its labels are checked."""
    asked = {}

    def from_colabfit(**arguments: str) -> kliff_dataset.Dataset:
        asked.update(arguments)
        structure = Configuration(np.eye(3), ["H"], np.zeros((1, 3)), [True] * 3, energy=1, stress=np.eye(3))
        return kliff_dataset.Dataset([structure])

    monkeypatch.setattr(kliff_dataset, "MongoDatabase", object)
    monkeypatch.setattr(kliff_dataset.Dataset, "from_colabfit", from_colabfit)
    address = {"dataset_name": "DS_1", "database_name": "mongo", "database_url": "mongodb://here:1"}
    (configuration,) = read_configurations({"type": "colabfit", "colabfit_dataset": address})
    assert asked == {
        "colabfit_dataset": "DS_1", "colabfit_database": "mongo", "colabfit_uri": "mongodb://here:1"
    }  # fmt: skip
    assert configuration.identifier == "DS_1:0"
    assert configuration.stress.tolist() == [1, 1, 1, 0, 0, 0]


def test_weights_of_a_dataset(trajectory: Path) -> None:
    """A mapping of weights reaches every configuration."""
    configurations = read(str(trajectory), weights={"config": 2.0, "forces": 3.0})
    assert {item.weight.config_weight for item in configurations} == {2.0}
    assert {item.weight.forces_weight for item in configurations} == {3.0}
    assert {item.weight.energy_weight for item in configurations} == {None}


def test_saved_data_read_back(trajectory: Path, tmp_path: Path) -> None:
    """A data set goes to one file and comes back with its labels, a missing one still missing."""
    configurations = read(str(trajectory), slices=":3")
    configurations[1].forces = None
    path = save_configurations(configurations, tmp_path / "saved")
    assert path == tmp_path / "saved" / "dataset.extxyz"
    back = read(str(path))
    assert energies(back) == energies(configurations)
    assert label_counts(back) == {"energy": 3, "forces": 2, "stress": 3}
    assert [item.name for item in path.parent.iterdir()] == ["dataset.extxyz"]
    assert save_configurations(configurations, tmp_path / "a.xyz") == tmp_path / "a.xyz"


def test_to_atoms_has_the_labels_as_results(trajectory: Path) -> None:
    """The ASE structure answers with the labels."""
    atoms = to_atoms(read(str(trajectory))[3])
    assert atoms.get_potential_energy() == 3.0
    np.testing.assert_array_equal(atoms.get_stress(), np.full(6, 3.0))


@pytest.mark.parametrize("name", ["data.db", "data.json"])
def test_ase_databases(tmp_path: Path, name: str) -> None:
    """Key-value pairs and data of an ASE database are values and labels; its rows are frames."""
    with connect(tmp_path / name, append=False) as database:
        database.write(labelled(1.0), gap=1.5, stable=True, name="first")
        database.write(bulk("Si"), key_value_pairs={"e_dft": -3.0}, data={"gap": 2.5})
    first, second = read(
        str(tmp_path / name), keys={"energy": "e_dft"}, targets={"energy gap": "gap"}, **{"id_column": "name"}
    )
    assert (first.identifier, second.identifier) == ("first", f"{tmp_path / name}:1")
    assert second.energy == -3.0
    np.testing.assert_allclose(first.forces, np.full((1, 3), 1.0))
    targets = [TargetSpec("energy gap", "number"), TargetSpec("stable", "class", classes=("no", "yes"))]
    dataset = {"type": "ase", "path": str(tmp_path / name), "targets": {"energy gap": "gap"}}
    items = read_configurations(dataset, targets=targets)
    assert [item.metadata["targets"]["energy gap"].item() for item in items] == [1.5, 2.5]
    assert str([item.metadata["targets"]["stable"].item() for item in items]) == "[1.0, nan]"


def test_values_of_extended_xyz(tmp_path: Path) -> None:
    """Keys of a frame and columns of its atoms are values; so is what ASE takes for a result."""
    atoms = labelled(2.0) * (2, 1, 1)
    atoms.info |= {"gap": 1.5, "dipole": np.array([1.0, 2.0, 3.0])}
    atoms.arrays["bader"] = np.array([0.5, -0.5])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmoms=np.array([1.0, 2.0]))
    ase.io.write(tmp_path / "a.extxyz", [atoms, bulk("Cu")])
    targets = [
        TargetSpec("gap", "number"),
        TargetSpec("dipole", "number", components=3),
        TargetSpec("bader", "number", per_atom=True),
        TargetSpec("magmoms", "number", per_atom=True),
        TargetSpec("energy", "number"),
    ]
    first, second = read_configurations({"type": "ase", "path": str(tmp_path / "a.extxyz")}, targets=targets)
    values = {name: value.tolist() for name, value in first.metadata["targets"].items()}
    assert values == {
        "gap": [1.5],
        "dipole": [1, 2, 3],
        "bader": [[0.5], [-0.5]],
        "magmoms": [[1], [2]],
        "energy": [-1.0],
    }
    assert first.metadata["values"]["gap"] == 1.5
    assert all(np.isnan(value).all() for value in second.metadata["targets"].values())


def test_bad_frames_are_told_together_or_left_out(tmp_path: Path) -> None:
    """All that is wrong in all files is told at once, or left out with a warning, as the manifest says."""
    (tmp_path / "1.xyz").write_text("2\n\nSi 0 0\n")
    (tmp_path / "2.xyz").write_text('1\nenergy="high"\nSi 0 0 0\n1\nenergy=1.0\nSi 0 0 0\n')
    ase.io.write(tmp_path / "3.xyz", labelled(3.0), format="extxyz")
    paths = [str(tmp_path / f"{number}.xyz") for number in (1, 2, 3)]
    with pytest.raises(DataError) as caught:
        read(paths)
    assert [problem.where for problem in caught.value.problems] == [paths[0], f"{paths[1]}:0 (energy)"]
    with pytest.warns(UserWarning, match=r"(?s)dataset: 2 entries are left out, 2 stay:\n.*1\.xyz: cannot be read.*"):
        assert energies(read(paths, on_error="skip")) == [1.0, 3.0]


def test_ids_of_frames_are_there_once(trajectory: Path, tmp_path: Path) -> None:
    """Also where a file is named twice, or a key of the frames has their ids."""
    folder = str(trajectory.parent)
    with pytest.raises(DataError, match=r"run\.extxyz:9, number 2: the id is there already") as caught:
        read([folder, str(trajectory)])
    assert len(caught.value.problems) == 10
    with connect(tmp_path / "d.db", append=False) as database:
        for name, energy in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
            database.write(labelled(energy), name=name)
    with pytest.raises(DataError, match="^a, number 2: the id is there already"):
        read(str(tmp_path / "d.db"), id_column="name")
    with pytest.warns(UserWarning, match="1 entries are left out, 2 stay"):
        assert energies(read(str(tmp_path / "d.db"), id_column="name", on_error="skip")) == [1.0, 2.0]
    assert len(read(str(tmp_path / "d.db"))) == 3  # by their numbers they are different


def test_elements_outside_the_networks_table(tmp_path: Path) -> None:
    """They are told with all else that is wrong, or left out."""
    (tmp_path / "atoms.json").write_text('{"29": [1.0]}')
    ase.io.write(tmp_path / "a.extxyz", [labelled(1.0), bulk("Si"), bulk("Cu"), bulk("SiC", "zincblende", a=4.4)])
    (tmp_path / "b.extxyz").write_text('1\nenergy="high"\nCu 0 0 0\n')
    dataset = {"type": "ase", "path": [str(tmp_path / "a.extxyz"), str(tmp_path / "b.extxyz")]}
    table = str(tmp_path / "atoms.json")
    with pytest.raises(DataError) as caught:
        read_configurations(dataset, element_features=table)
    told = [(Path(problem.where).name, problem.value) for problem in caught.value.problems]
    assert told == [("b.extxyz:0 (energy)", "high"), ("a.extxyz:1", "Si"), ("a.extxyz:3", "C, Si")]
    with pytest.warns(UserWarning, match=r"(?s)3 entries are left out, 2 stay:.*extxyz:3: has elements that .*'C, Si'"):
        items = read_configurations(dataset | {"on_error": "skip"}, element_features=table)
    assert [(Path(item.identifier).name, item.metadata["index"]) for item in items] == [
        ("a.extxyz:0", 0),
        ("a.extxyz:2", 1),
    ]
    dataset["path"] = str(tmp_path / "a.extxyz")
    for every in ("embedding", "onehot", "properties", None):
        assert len(read_configurations(dataset, element_features=every)) == 4


def test_records(trajectory: Path) -> None:
    """Records have all values, and no target needs to be named."""
    records = read_records({"type": "ase", "path": str(trajectory), "slices": ":2"})
    assert [record.identifier for record in records] == [f"{trajectory}:0", f"{trajectory}:1"]
    assert records[1].values["energy"] == 1.0
    with pytest.raises(ManifestError, match="has no records"):
        read_records({"type": "colabfit"})


def test_type_of_files(tmp_path: Path, trajectory: Path) -> None:
    """What a file is follows from its name or content; a folder of CIFs with a table is CGCNN's."""
    assert source_of(trajectory) == {"type": "ase", "path": str(trajectory), "id_column": "material_id"}
    assert source_of(tmp_path)["type"] == "ase"
    (tmp_path / "id_prop.csv").write_text("")
    assert source_of(tmp_path)["type"] == "cif_folder"
    with connect(tmp_path / "rows.json") as database:
        database.write(bulk("Cu"))
    assert source_of(tmp_path / "rows.json")["type"] == "ase"
    with pytest.raises(DataError, match="none.csv: there is no such file"):
        source_of(tmp_path / "none.csv")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="broken.json: is not JSON"):
        source_of(tmp_path / "broken.json")


def test_cache_of_parsed_structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache, a second reading parses nothing and gives the same."""
    path = tmp_path / "t.csv"
    path.write_text(f'id,cif\na,"{NACL}"\n')
    dataset = {"type": "table", "path": str(path), "cache": str(tmp_path / "cache")}
    (first,) = read_configurations(dataset)
    monkeypatch.setattr("kimgnn.data.parsing._from_cif", lambda text: pytest.fail("parsed again"))
    (second,) = read_configurations(dataset)
    np.testing.assert_array_equal(first.coords, second.coords)
    assert list(first.species) == list(second.species)
    assert (tmp_path / "cache" / "structures.lmdb").is_file()


def test_partly_occupied_sites(tmp_path: Path) -> None:
    """A CIF that ASE reads with the likelier atom is refused by its id; a full one has no values but its own."""
    (tmp_path / "full.cif").write_text(NACL)
    (tmp_path / "half.cif").write_text(HALF)
    with pytest.raises(DataError, match=r"half\.cif:0: a site is partly occupied .*Na.*0\.5"):
        read(str(tmp_path))
    (record,) = read_records(source_of(tmp_path / "full.cif"))
    assert record.values == {}
