"""A committee's files: the mean of the members, and each member, whatever the format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.units import GPa
from structures import (
    energies_and_gradient,
    forces_of,
    mixed_atoms,
    small_checkpoint,
    small_network,
    staged_graphs,
)

from kimgnn.calculator import KimgnnCalculator
from kimgnn.evaluation.calibrated import Calibration, ClassCalibration, ValueCalibration
from kimgnn.evaluation.domain import SUMMARY, Domain, summary
from kimgnn.evaluation.predict import Prediction
from kimgnn.export.contract import CONTRACT, StagedGraph, contract_of
from kimgnn.export.formats import model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.export.runtimes import load_exported
from kimgnn.export.tracing import aten, trace
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import save_checkpoint
from kimgnn.models.network import Network
from kimgnn.predictor import load_predictor

FILES = ["model.pt", "model.onnx"]
"""A pt2 file takes a minute to compile: see the integration tests."""

SPECIES = ["Si", "C"]


@pytest.fixture(scope="module")
def committee() -> Network:
    """Two networks of two layers."""
    torch.manual_seed(1)
    return build_network(replace(small_network(SPECIES).spec, members=2)).eval()


CALIBRATION = Calibration(
    "conformal",
    0.8,
    {
        "energy": ValueCalibration(2.0, 0.01, 1.5, 30),
        "forces": ValueCalibration(3.0, 0.2, 1.25, 30),
        "stress": ValueCalibration(1.5, 0.4, 2.0, 30),
        "gap": ValueCalibration(9.0, 9.0, 9.0, 30),
        "energies": ValueCalibration(9.0, 9.0, 9.0, 30),
    },
    {"metal": ClassCalibration(2.0, 0.1, 30)},
)
"""Also of heads that are not in a potential's file, one of them called as what the calculator says of atoms."""

NAME = "Committee__MO_000000000041_000"
ATOMS = [mixed_atoms(["Si", "C"]), mixed_atoms(["Si"]), Atoms("SiC", [[0, 0, 0], [1.9, 0, 0]])]
"""Two crystals and a molecule, which has no stress."""


@pytest.fixture(scope="module")
def calibrated(committee: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A calibrated committee that knows its training data: its checkpoint, and its file in each format."""
    directory = tmp_path_factory.mktemp("calibrated")
    known = summary([["Si", "Si"], ["Si", "C"]], {})
    checkpoint = replace(
        small_checkpoint(SPECIES), network=committee, calibration=CALIBRATION.to_dict(), data={SUMMARY: known}
    )
    save_checkpoint(directory / "best.ckpt", checkpoint)
    export_portable_model(checkpoint, NAME, directory, formats=["torchscript", "onnx"])
    torchscript, onnx = (directory / name for name in model_names(NAME, ["torchscript", "onnx"]).values())
    return {"": directory / "best.ckpt", "model.pt": torchscript / "model.pt", "model.onnx": onnx / "model.onnx"}


def said(network: Network, graph: StagedGraph) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces in PyTorch."""
    energies, gradient = energies_and_gradient(network, graph)
    return energies.numpy(), forces_of(graph, gradient).numpy()


@pytest.mark.parametrize("file", FILES)
def test_files_say_mean_and_members(file: str, committee: Network, calibrated: dict[str, Path]) -> None:
    """Energies and forces to 1e-12, with ghosts or none, edges or none."""
    model = load_exported(calibrated[file])
    assert model.evaluate_members is not None
    for name, graph in staged_graphs(committee).items():
        expected = [said(member, graph) for member in committee.members]
        energies, gradients = model.evaluate_members(graph)
        assert energies.shape == (2, graph.node_counts[-1])
        assert gradients.shape == (2, *graph.edge_vectors.shape)
        for member, (want_energies, want_forces) in enumerate(expected):
            forces = forces_of(graph, torch.from_numpy(gradients[member])).numpy()
            np.testing.assert_allclose(energies[member], want_energies, rtol=0, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(forces, want_forces, rtol=0, atol=1e-12, err_msg=name)
        mean_energies, mean_gradient = model.evaluate(graph)
        mean_forces = forces_of(graph, torch.from_numpy(mean_gradient)).numpy()
        np.testing.assert_allclose(mean_energies, np.mean([want for want, _ in expected], 0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(mean_forces, np.mean([want for _, want in expected], 0), rtol=0, atol=1e-12)


def test_what_is_the_same_in_all_members_is_computed_once(committee: Network) -> None:
    """Of the distances: the envelope and the Gaussians, which have no weights, whatever the number of members."""
    of_one, of_two = trace(committee.members[0]), trace(committee)
    for operation in (aten.cos.default, aten.sqrt.default, aten.linalg_vector_norm.default):
        found = [len(module.graph.find_nodes(op="call_function", target=operation)) for module in (of_one, of_two)]
        assert found[0] == found[1], operation
    exponentials = [
        len(module.graph.find_nodes(op="call_function", target=aten.exp.default)) for module in (of_one, of_two)
    ]
    assert exponentials[0] == exponentials[1] > 0


def test_a_single_network_is_exported_as_before(trained: Path, committee: Network) -> None:
    """In the contract that drivers of before know; a committee's they refuse."""
    assert contract_of(committee.members[0]) == CONTRACT == 2
    assert contract_of(committee) == 3
    assert load_exported(trained / "model.onnx").evaluate_members is None
    assert load_exported(trained / "model.pt").evaluate_members is None
    assert (trained / "kimgnn.param").read_text().startswith("kimgnn 2\n")


# -- Calibration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_files_predict_the_calibrated_numbers_of_the_checkpoint(file: str, calibrated: dict[str, Path]) -> None:
    """All of a prediction, deviations and intervals with it: the same sums in another order."""
    named = [(str(index), atoms) for index, atoms in enumerate(ATOMS)]
    ours, right = load_predictor(calibrated[file]), load_predictor(calibrated[""])
    assert (ours.level, ours.training_data) == (0.8, right.training_data)
    assert Domain(ours.training_data).warnings_of(["Si", "Si"]) == []
    assert "has O" in Domain(ours.training_data).warnings_of(["O"])[0]
    for found, expected in zip(ours.predict(named), right.predict(named), strict=True):
        assert found.energy_deviation == pytest.approx(expected.energy_deviation, abs=1e-12)
        for name in ("forces_deviation", "stress", "stress_deviation"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-12)
        assert list(found.intervals) == list(expected.intervals) == ["energy", "forces", "stress"]
        for name, interval in found.intervals.items():
            np.testing.assert_allclose(interval, expected.intervals[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", ["", *FILES])
def test_the_calculator_gives_calibrated_deviations_and_their_intervals(file: str, calibrated: dict[str, Path]) -> None:
    """s = a σ + b, of the energy per atom and of the stress in GPa; raw ones where they are asked for."""
    told, plain = KimgnnCalculator(calibrated[file]), KimgnnCalculator(calibrated[file], calibrated=False)
    for atoms, prediction in zip(ATOMS, _predictions(calibrated[""]), strict=True):
        told.calculate(atoms)
        plain.calculate(atoms)
        n, results, raw = len(atoms), told.results, plain.results
        assert isinstance(results["energy_deviation"], float)
        assert results["energy_deviation"] == pytest.approx(2.0 * raw["energy_deviation"] + n * 0.01, abs=1e-12)
        half = 1.5 * results["energy_deviation"]
        np.testing.assert_allclose(results["energy_interval"], [results["energy"] - half, results["energy"] + half])
        np.testing.assert_allclose(results["forces_deviation"], 3.0 * raw["forces_deviation"] + 0.2, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(results["energies_deviation"], raw["energies_deviation"])
        assert "energies_interval" not in results
        assert not [name for name in raw if name.endswith("_interval")]
        for name in ("energy", "forces", "stress"):
            if name == "stress" and not atoms.pbc.all():
                assert not {"stress_deviation", "stress_interval"} & results.keys()
                continue
            np.testing.assert_allclose(
                told.get_property(f"{name}_interval", atoms), prediction.intervals[name], atol=1e-12
            )
            deviation = told.get_property(f"{name}_deviation", atoms)
            np.testing.assert_allclose(deviation, getattr(prediction, f"{name}_deviation"), rtol=0, atol=1e-12)
        if atoms.pbc.all():
            expected = (1.5 * raw["stress_deviation"] / GPa + 0.4) * GPa
            np.testing.assert_allclose(results["stress_deviation"], expected, rtol=0, atol=1e-12)


def _predictions(checkpoint: Path) -> list[Prediction]:
    return load_predictor(checkpoint).predict([(str(index), atoms) for index, atoms in enumerate(ATOMS)])


def test_the_readme_says_what_is_calibrated_and_what_is_raw(calibrated: dict[str, Path]) -> None:
    """a, b and q with units for who asks the extension; nothing of other heads; and that there is no calibration."""
    text = (calibrated["model.pt"].parent / "README.md").read_text()
    for phrase in (
        "| energy | a = 2, b = 0.01 eV/atom, q = 1.5 |",
        "| forces | a = 3, b = 0.2 eV/Å, q = 1.25 |",
        "| stress | a = 1.5, b = 0.4 GPa, q = 2 |",
        "intervals of 80 %",
        "`kimgnn_committee_deviation` gives raw ones",
    ):
        assert phrase in text
    for phrase in ("gap", "softmax", SUMMARY):
        assert phrase not in text


def test_without_calibration_deviations_are_raw_and_the_readme_says_so(committee: Network, tmp_path: Path) -> None:
    checkpoint = replace(small_checkpoint(SPECIES), network=committee)
    folder = export_portable_model(checkpoint, NAME, tmp_path)
    assert "they are raw" in (folder / "README.md").read_text()
    calculator = KimgnnCalculator(folder / "model.pt")
    calculator.calculate(ATOMS[0])
    assert calculator.calibration is None
    assert "energy_interval" not in calculator.results
    (found,) = load_predictor(folder / "model.pt").predict([("a", ATOMS[0])])
    assert found.intervals == {}
    assert found.stress_deviation is not None


def test_files_without_what_they_tell_of_themselves_are_read(trained: Path) -> None:
    """Those of before, which say nothing of calibration and training data."""
    for file in FILES:
        model = load_exported(trained / file)
        assert (model.calibration, model.training_data) == ({}, {})
        assert load_predictor(trained / file).level is None
