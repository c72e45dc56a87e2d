"""``kimgnn predict``: every model, every input, every output, and what it says of bad files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from structures import CUTOFF, mixed_atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.evaluation.calibrated import Calibration, ClassCalibration, ValueCalibration
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.export.formats import model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph

Command = Callable[..., tuple[int, str, str]]

HEADS = [
    {"type": "property", "target": "gap", "unit": "eV", "reference": "none", "mean": [1.0], "spread": [0.5]},
    {"type": "property", "target": "dipole", "unit": "D", "components": 3, "mean": [0.0] * 3, "spread": [1.0] * 3},
    {"type": "property", "target": "core_shift", "unit": "eV", "per_atom": True, "mean": [0.0], "spread": [1.0]},
    {"type": "property", "target": "eps", "transform": "log10", "loss": "nll", "mean": [1.0], "spread": [0.3]},
    {"type": "classification", "target": "metal", "classes": ["insulator", "metal"]},
]
"""Heads of a network that has no energy."""

CIF = """data_SiC
_cell_length_a 3.1
_cell_length_b 3.2
_cell_length_c 4.4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si 0.0 0.0 0.0 1.0
C1 C 0.5 0.5 0.4 1.0
"""

PARTIAL = CIF.replace("C1 C 0.5 0.5 0.4 1.0", "C1 C 0.5 0.5 0.4 0.5")


@pytest.fixture
def kimgnn(kimgnn: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The same in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return kimgnn


@pytest.fixture(scope="module")
def properties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network with property and classification heads and no energy."""
    torch.manual_seed(1)
    options = {"cutoff": CUTOFF, "hidden_channels": 8, "num_filters": 8, "num_gaussians": 8}
    network = build_network(NetworkSpec("schnet", options, HEADS, ["Si", "C"])).eval()
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF, "species": ["Si", "C"]}}
    path = tmp_path_factory.mktemp("properties") / "best.ckpt"
    save_checkpoint(path, Checkpoint(network, transform, {}))
    return path


def structures() -> list[Atoms]:
    """A skewed cell, a small one, and a molecule without a cell."""
    return [mixed_atoms(["Si", "C"]), bulk("SiC", "zincblende", a=4.4), molecule("C2H4")[:2]]


def expected(checkpoint: Path, atoms: Atoms) -> Prediction:
    """What PyTorch says of one structure alone."""
    network = load_checkpoint(checkpoint).network
    (found,) = predict(Potential(network), [configuration_from_atoms(atoms)], PeriodicGraph(CUTOFF))
    return found


@pytest.mark.parametrize("file", ["", "checkpoints/best.ckpt", "model.pt", "model.onnx"])
def test_every_kind_of_potential_says_what_pytorch_says(file: str, trained: Path, kimgnn: Command) -> None:
    """All in one batch, to 1e-12 (the same sums in another order); no stress without three periodic directions."""
    ase.io.write("in.extxyz", structures())
    status, output, messages = kimgnn("predict", trained / file, "in.extxyz", "--output", "out.json")
    assert (status, messages) == (0, "")
    assert output == "3 structures in out.json\n"
    rows = json.loads(Path("out.json").read_text(encoding="utf-8"))
    for row, atoms in zip(rows, ase.io.read("in.extxyz", index=":"), strict=True):
        right = expected(trained, atoms)
        assert row["energy (eV)"] == pytest.approx(right.energy, abs=1e-12)
        np.testing.assert_allclose(row["forces (eV/Å)"], right.forces, rtol=0, atol=1e-12)
        np.testing.assert_allclose(row["atomic_energies (eV)"], right.atomic_energies, rtol=0, atol=1e-12)
        stress = [row[f"stress[{index}] (eV/Å³)"] for index in range(6)]
        if atoms.pbc.all():
            np.testing.assert_allclose(stress, right.stress, rtol=0, atol=1e-12)
        else:
            assert stress == [None] * 6


def test_properties_in_csv_have_units_in_the_header(properties: Path, kimgnn: Command) -> None:
    """One number, a vector, values of atoms, a logarithm with its deviation, a class: as a user wants them."""
    ase.io.write("in.extxyz", structures())
    status, output, messages = kimgnn("predict", properties, "in.extxyz")
    assert (status, output, messages) == (0, "3 structures in predictions.csv\n", "")
    with open("predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "id", "formula", "atoms", "gap (eV)", "dipole[0] (D)", "dipole[1] (D)", "dipole[2] (D)", "core_shift (eV)",
        "eps", "eps deviation", "metal", "metal P(insulator)", "metal P(metal)",
    ]  # fmt: skip
    for index, (row, atoms) in enumerate(zip(rows, structures(), strict=True)):
        right = expected(properties, atoms).properties
        assert (row["id"], row["atoms"]) == (f"in.extxyz:{index}", str(len(atoms)))
        # The file keeps eight decimals of a position.
        assert float(row["gap (eV)"]) == pytest.approx(right["gap"][0], abs=1e-6)
        assert float(row["eps"]) == pytest.approx(right["eps"][0], rel=1e-6)
        np.testing.assert_allclose(json.loads(row["core_shift (eV)"]), right["core_shift"], atol=1e-6)
        assert float(row["metal P(insulator)"]) + float(row["metal P(metal)"]) == pytest.approx(1.0)
        assert row["metal"] == ["insulator", "metal"][int(right["metal"].argmax())]


def test_properties_in_the_other_formats_are_the_same(properties: Path, kimgnn: Command) -> None:
    """JSON, JSON lines and extended XYZ hold the same numbers."""
    ase.io.write("in.extxyz", structures())
    for name in ("out.json", "out.jsonl", "out.xyz"):
        assert kimgnn("predict", properties, "in.extxyz", "--output", name)[0] == 0
    rows = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert rows == [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, atoms in zip(rows, ase.io.read("out.xyz", index=":", format="extxyz"), strict=True):
        assert atoms.info["gap"] == pytest.approx(row["gap (eV)"], rel=1e-7)
        assert atoms.info["gap_unit"] == "eV"
        assert atoms.info["metal"] == row["metal"]
        assert atoms.info["eps_deviation"] == pytest.approx(row["eps deviation"], rel=1e-7)
        np.testing.assert_allclose(atoms.info["dipole"], [row[f"dipole[{i}] (D)"] for i in range(3)], rtol=1e-7)
        np.testing.assert_allclose(atoms.arrays["core_shift"], np.ravel(row["core_shift (eV)"]), atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")
@pytest.mark.parametrize("file", ["properties.pt", "properties.onnx"])
def test_exported_properties_say_what_the_checkpoint_says(
    file: str, crystals: tuple[Checkpoint, Path], kimgnn: Command
) -> None:
    """The same columns; the same numbers to 1e-9 (the same sums in another order, through ten to the power)."""
    checkpoint, folder = crystals
    save_checkpoint("best.ckpt", checkpoint)
    ase.io.write("in.extxyz", structures())
    assert kimgnn("predict", "best.ckpt", "in.extxyz", "--output", "right.json")[0] == 0
    assert kimgnn("predict", folder / file, "in.extxyz", "--output", "out.json")[0] == 0
    right, found = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("right.json", "out.json"))
    assert [list(row) for row in found] == [list(row) for row in right]
    for row, expected_row in zip(found, right, strict=True):
        for name, value in expected_row.items():
            if isinstance(value, str | int):
                assert row[name] == value
            else:
                np.testing.assert_allclose(row[name], value, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def committee(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A calibrated committee with energies and heads of every kind: its checkpoint, and the folder of each format."""
    torch.manual_seed(2)
    options = {"cutoff": CUTOFF, "hidden_channels": 8, "num_filters": 8, "num_gaussians": 8}
    energy = {"type": "energy", "reference_energies": {"Si": -1.0, "C": -2.0}, "scale": 1.0}
    network = build_network(NetworkSpec("schnet", options, [energy, *HEADS], ["Si", "C"], members=2)).eval()
    own = ValueCalibration(2.0, 0.1, 1.5, 30)
    values = dict.fromkeys(["energy", "forces", "stress", "gap", "dipole", "core_shift", "eps"], own)
    calibration = Calibration("conformal", 0.9, values, {"metal": ClassCalibration(3.0, 0.2, 30, of_members=True)})
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF, "species": ["Si", "C"]}}
    checkpoint = Checkpoint(network, transform, {}, calibration=calibration.to_dict())
    directory = tmp_path_factory.mktemp("committee")
    save_checkpoint(directory / "best.ckpt", checkpoint)
    formats, name = ["torchscript", "onnx"], "Mixed__MO_000000000042_000"
    export_portable_model(checkpoint, name, directory, formats=formats)
    return directory / "best.ckpt", [directory / folder for folder in model_names(name, formats).values()]


def test_an_exported_folder_gives_the_output_of_the_checkpoint(
    committee: tuple[Path, list[Path]], kimgnn: Command
) -> None:
    """A potential and the properties beside it, deviations and intervals of all, to 1e-9: sums in another order."""
    checkpoint, folders = committee
    ase.io.write("in.extxyz", structures()[:2])
    assert kimgnn("predict", checkpoint, "in.extxyz", "--output", "right.json")[0] == 0
    right = json.loads(Path("right.json").read_text(encoding="utf-8"))
    for part in (
        "energy lower (eV)",
        "stress upper[5] (eV/Å³)",
        "forces deviation (eV/Å)",
        "metal set",
        "metal deviation P(metal)",
    ):
        assert part in right[0]
    for folder in folders:
        status, _, messages = kimgnn("predict", folder, "in.extxyz", "--output", "out.json", "--force")
        assert (status, messages) == (0, "")
        for row, expected in zip(json.loads(Path("out.json").read_text(encoding="utf-8")), right, strict=True):
            assert list(row) == list(expected)
            for name, value in expected.items():
                if isinstance(value, str) or name == "metal set":
                    assert row[name] == value
                else:
                    np.testing.assert_allclose(row[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_uncertainties_in_extended_xyz(committee: tuple[Path, list[Path]], kimgnn: Command) -> None:
    """Under the names of ASE's results, beside these; of a molecule, nothing of the stress."""
    ase.io.write("in.extxyz", structures())
    for name in ("out.xyz", "out.json"):
        assert kimgnn("predict", committee[0], "in.extxyz", "--output", name)[0] == 0
    rows = json.loads(Path("out.json").read_text(encoding="utf-8"))
    for row, atoms in zip(rows, ase.io.read("out.xyz", index=":", format="extxyz"), strict=True):
        assert atoms.info["energy_lower"] == pytest.approx(row["energy lower (eV)"], rel=1e-7)
        np.testing.assert_allclose(atoms.arrays["forces_upper"], row["forces upper (eV/Å)"], atol=1e-7)
        there = {f"stress_{name}" for name in ("deviation", "lower", "upper")} & atoms.info.keys()
        if atoms.pbc.all():
            assert len(there) == 3
            told = [row[f"stress deviation[{index}] (eV/Å³)"] for index in range(6)]
            np.testing.assert_allclose(np.ravel(atoms.info["stress_deviation"]), told, atol=1e-7)
        else:
            assert not there


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_a_model_is_told(name: str, kimgnn: Command) -> None:
    Path("empty").mkdir()
    status, _, messages = kimgnn("predict", name, "in.extxyz")
    assert status == 1
    assert f"{name}: there is no" in messages


def test_cif_poscar_and_a_folder_of_them(properties: Path, kimgnn: Command, tmp_path: Path) -> None:
    """The same crystal in each gives the same numbers; what is no structure is left out of a folder; sorted."""
    folder = tmp_path / "crystals"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.cif").write_text(CIF)
    (folder / ".hidden.cif").write_text("nonsense")
    (folder / "notes.txt").write_text("nonsense")
    atoms = Atoms("SiC", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.4]], cell=[3.1, 3.2, 4.4], pbc=True)
    ase.io.write(folder / "POSCAR", atoms, format="vasp")
    ase.io.write(folder / "deeper" / "a.vasp", atoms, format="vasp")
    assert kimgnn("predict", properties, "crystals", "--output", "out.json")[0] == 0
    rows = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == ["crystals/POSCAR:0", "crystals/b.cif", "crystals/deeper/a.vasp"]
    for row in rows:
        assert row["gap (eV)"] == pytest.approx(expected(properties, atoms).properties["gap"][0], abs=1e-9)


@pytest.mark.parametrize(("format_name", "options"), [("extxyz", []), ("cif", ["--format", "cif"])])
def test_standard_input(
    format_name: str, options: list[str], properties: Path, kimgnn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extended XYZ unless --format says otherwise."""
    text = io.StringIO()
    ase.io.write(text, structures()[:2], format="extxyz")
    monkeypatch.setattr("sys.stdin", io.StringIO(text.getvalue() if format_name == "extxyz" else CIF))
    status, output, messages = kimgnn("predict", properties, "-", *options, "--output", "out.csv")
    assert (status, messages) == (0, "")
    assert output.startswith("2" if format_name == "extxyz" else "1")
    assert "stdin" in Path("out.csv").read_text(encoding="utf-8").splitlines()[1]


def test_bad_files_are_told_one_by_one_and_the_others_are_predicted(properties: Path, kimgnn: Command) -> None:
    """Damaged, partly occupied, empty, absent, of a foreign element: each by its name, with exit status 1."""
    for name, text in {"good.cif": CIF, "damaged.cif": CIF[:180], "partial.cif": PARTIAL, "empty.xyz": "",
                       "foreign.cif": CIF.replace("C1 C ", "C1 Ge ")}.items():  # fmt: skip
        Path(name).write_text(text)
    ase.io.write("good.extxyz", structures())
    names = ["damaged.cif", "good.cif", "partial.cif", "empty.xyz", "absent.cif", "foreign.cif", "good.extxyz"]
    status, output, messages = kimgnn("predict", properties, *names, "--output", "out.csv")
    assert status == 1
    assert output == "4 structures in out.csv\n"
    told = [line for line in messages.splitlines()[1:] if not line.startswith("Warning")]
    assert [line.partition(":")[0] for line in told] == [
        "damaged.cif", "partial.cif", "empty.xyz", "absent.cif", "foreign.cif",
    ]  # fmt: skip
    for what in (
        "the structure does not parse",
        "a site is partly occupied",
        "the file is empty",
        "there is no such file",
    ):
        assert sum(what in line for line in told) == 1
    assert "Ge" in told[-1]
    rows = Path("out.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["good.cif", *(f"good.extxyz:{index}" for index in range(3))]


def test_many_small_files_are_predicted_together(
    properties: Path, kimgnn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """70 files take three batches, and are written in their order."""
    sizes: list[int] = []

    def counting(
        potential: Potential, configurations: list, transform: object, manifest: object, batch_size: int
    ) -> list[Prediction]:
        sizes.append(len(configurations))
        return predict(potential, configurations, transform, batch_size)

    monkeypatch.setattr("kimgnn.predictor.predict_as_asked", counting)
    names = [f"{index:03d}.cif" for index in range(70)]
    for index, name in enumerate(names):
        Path(name).write_text(CIF.replace("4.4", f"{4 + index / 100}"))
    assert kimgnn("predict", properties, *names)[0] == 0
    assert sizes == [32, 32, 6]
    rows = Path("predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == names


def test_nothing_is_written_where_nothing_is_predicted(properties: Path, kimgnn: Command, tmp_path: Path) -> None:
    """An output that is there stays, unless forced; a suffix that is no format is told before anything is read."""
    Path("out.csv").write_text("precious")
    Path("good.cif").write_text(CIF)
    assert "exists already" in kimgnn("predict", properties, "good.cif", "--output", "out.csv")[2]
    assert kimgnn("predict", properties, "absent.cif", "--output", "out.csv", "--force")[0] == 1
    assert Path("out.csv").read_text() == "precious"
    status, _, messages = kimgnn("predict", properties, "good.cif", "--output", "out.xlsx")
    assert status == 1
    assert "Allowed: .csv, .json, .jsonl, .extxyz, .xyz" in messages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.cif", "out.csv"]


def test_an_unknown_format_is_told(properties: Path, kimgnn: Command) -> None:
    """With the nearest name."""
    Path("in.dat").write_text("1\n\nSi 0 0 0\n")
    status, _, messages = kimgnn("predict", properties, "in.dat", "--format", "extxzy")
    assert status == 1
    assert "Did you mean 'extxyz'?" in messages
