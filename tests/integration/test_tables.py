"""Networks with tables for what layers make of distances: every format, every runtime, the checks of KIM."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import CUTOFF, silicon_carbide_structures

from kimgnn.calculator import periodic_graph
from kimgnn.export import driver
from kimgnn.export.contract import INPUTS, OUTPUTS
from kimgnn.export.driver import install_model
from kimgnn.export.formats import model_names
from kimgnn.export.portable_model import SAMPLES, export_portable_model
from kimgnn.export.runtimes import RunnableModel
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.models.tabulation import tabulated
from kimgnn.verify.gate import approve_exports
from kimgnn.verify.tabulation import tabulate
from kimgnn.verify.verification import verify_model

onnxruntime = pytest.importorskip("onnxruntime")
export_onnx = pytest.importorskip("kimgnn.export.onnx_model", reason="needs onnx").export_onnx

pytestmark = [pytest.mark.kim, pytest.mark.lammps]

NAME = "Tables__MO_000000000018_000"

OPTIONS = {
    "schnet": {"num_interactions": 2, "num_filters": 12},
    "cgcnn": {"num_convolutions": 2, "normalization": "none"},
    "gat": {"num_convolutions": 2, "normalization": "layer", "score_activation": "silu", "num_heads": 3},
}


def network_of(architecture: str, precision: str) -> Network:
    """A network of silicon and carbon with random weights."""
    torch.manual_seed(0)
    options = {"cutoff": CUTOFF, "hidden_channels": 12, "cutoff_function": "polynomial", **OPTIONS[architecture]}
    head = {"type": "energy", "reference_energies": {"Si": -5.4, "C": -9.2}, "scale": 1.0}
    return build_network(NetworkSpec(architecture, options, [head], ["Si", "C"], precision)).eval()


def export(architecture: str, formats: list[str], folder: Path, precision: str = "double") -> list[str]:
    """Export a network with tables through the gate, and return the models' names."""
    network = network_of(architecture, precision)
    cell = silicon_carbide_structures()["cell"]
    sample = {"symbols": list(cell.symbols), "positions": cell.positions, "cell": cell.cell.array, "pbc": cell.pbc}
    checkpoint = Checkpoint(
        network, {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF}}, {}, data={SAMPLES: [sample]}
    )
    tabulation = tabulate(checkpoint, True)
    approve = partial(approve_exports, checkpoint=checkpoint, rejected=folder / "rejected.md", tabulation=tabulation)
    written = export_portable_model(checkpoint, NAME, folder, formats=formats, tabulation=tabulation, approve=approve)
    parity = json.loads((written / "parity.json").read_text())
    assert parity["passed"]
    assert parity["not_run"] == {}
    assert len(parity["differences"]) == 4 * len(formats)
    assert 0 < parity["tables"]["energy_error"] < 1e-7
    assert 0 < parity["tables"]["forces_error"] < 2e-6
    return list(model_names(NAME, formats).values())


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [("schnet", "double"), ("schnet", "single"), ("cgcnn", "double"), ("gat", "double")],
)
def test_it_passes_the_gate(architecture: str, precision: str, kim_collection: Path, tmp_path: Path) -> None:
    """Python, ASE, LAMMPS on one rank and on two: what the tabulated network says in PyTorch."""
    export(architecture, ["torchscript", "onnx"], tmp_path, precision)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", OPTIONS)
def test_compiled_it_passes_the_gate(architecture: str, kim_collection: Path, tmp_path: Path) -> None:
    """Ahead of time, by torch."""
    export(architecture, ["pt2"], tmp_path)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("architecture", ["schnet", "cgcnn"])
def test_kernels_compute_what_the_file_says(architecture: str, precision: str, kim_collection: Path) -> None:
    """The driver's kernels against ONNX's own operators, and on eight threads bit for bit as on one."""
    driver.install_driver("onnx")
    item = driver.find_item(driver.driver_name("onnx"))
    (library,) = item.path.glob("libkim-api-model-driver*")
    network = tabulated(network_of(architecture, precision), 60)
    content = export_onnx(network, {}).SerializeToString()
    atoms = silicon_carbide_structures()["cell"].repeat(3)
    graph = periodic_graph(atoms, RunnableModel(None, ["Si", "C"], CUTOFF, network.num_layers))
    inputs = {name: np.asarray(value) for name, value in zip(INPUTS, graph, strict=True)}
    found = []
    for threads, with_kernels in ((1, False), (1, True), (8, True)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if with_kernels:
            options.register_custom_ops_library(str(library))
        found.append(onnxruntime.InferenceSession(content, options).run(OUTPUTS, inputs))
    by_file, on_one, on_eight = found
    tolerance = 1e-12 if precision == "double" else 1e-4  # rounding of a few eV, and of a few eV/Å
    for expected, one, eight in zip(by_file, on_one, on_eight, strict=True):
        np.testing.assert_allclose(one, expected, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(one, eight)
    assert not np.array_equal(by_file[1], on_one[1])  # other sums, or the kernels were not taken


@pytest.mark.slow
def test_it_passes_the_checks(kim_collection: Path, tmp_path: Path) -> None:
    """The checks of KIM with the grades of a network without tables: forces are those of the energy, and smooth."""
    for model in export("schnet", ["torchscript", "onnx"], tmp_path):
        install_model(tmp_path / model, force=True)
        results = verify_model(model).results
        assert [result.check.name for result in results if not result.outcome.passed] == []
        assert {result.outcome.grade for result in results} <= {"A", "P"}
