"""Exported files of properties say what the network says, in both formats, for structures of every kind."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ase import Atoms
from properties import (
    ENERGY,
    HEADS,
    OUTPUTS,
    property_checkpoint,
    property_network,
    property_structures,
    torch_says,
)

from kimgnn.errors import DataError, ExportError, ModelError
from kimgnn.export import property_onnx
from kimgnn.export.property_batches import joined, parted
from kimgnn.export.property_contract import ExportedProperties
from kimgnn.export.property_documents import how_to_use
from kimgnn.export.property_package import export_properties, write_property_file
from kimgnn.export.property_runtimes import is_property_file, load_property_model, property_graph
from kimgnn.export.runtimes import load_exported
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.tasks import tasks_of

pytestmark = pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")

FILES = {"torchscript": "properties.pt", "onnx": "properties.onnx"}

NEAREST: dict[str, Any] = {"max_neighbors": 6, "ties": "break"}

STATES = [
    {"name": "temperature", "mean": 300.0, "spread": 50.0},
    {"name": "method", "classes": ["PBE", "HSE", "r2SCAN"]},
]


def assert_equal(found: dict[str, Any], expected: dict[str, Any], tolerance: float, where: str) -> None:
    """Every output is there under its name, in its shape, and as large as it should be."""
    assert found.keys() == expected.keys(), where
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        assert found[name].shape == values.shape, f"{where}: {name}"
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=f"{where}: {name}")


@pytest.mark.parametrize("file", FILES.values())
def test_both_formats_say_what_pytorch_says(file: str, crystals: tuple[Checkpoint, Path]) -> None:
    """To 1e-11 of values of a few tens: sums in another order. Lone atoms and crystals with equal distances too."""
    checkpoint, folder = crystals
    model = load_property_model(folder / file)
    structures = property_structures()
    expected = torch_says(checkpoint, list(structures.values()))
    for name, found, right in zip(structures, model.predict(list(structures.values())), expected, strict=True):
        assert list(found) == OUTPUTS
        assert_equal(found, right, 1e-11, name)


def test_in_single_precision(tmp_path: Path) -> None:
    """To 2e-5: float32 has seven digits, of sums over neighbours and atoms; scales and sums stay float64."""
    checkpoint = property_checkpoint(property_network("schnet", HEADS[2:4], "single", num_interactions=1))
    structures = property_structures()
    expected = torch_says(checkpoint, list(structures.values()))
    for format_name, file in FILES.items():
        write_property_file(checkpoint, tmp_path, format_name)
        found = load_property_model(tmp_path / file).predict(list(structures.values()))
        for name, values, right in zip(structures, found, expected, strict=True):
            assert_equal(values, right, 2e-5, f"{file}: {name}")


def test_states_of_a_file(tmp_path: Path) -> None:
    """They change what it says; none is an error by the loader, and in the raw file what is no class is NaN."""
    checkpoint = property_checkpoint(property_network("megnet", HEADS[:1], state_inputs=STATES))
    write_property_file(checkpoint, tmp_path, "torchscript")
    model = load_property_model(tmp_path / "properties.pt")
    assert model.description.input_names == [
        "z", "atom_counts", "edge_index", "edge_vectors", "edge_of_length", "length_of_edge", "states",
    ]  # fmt: skip
    assert [state.classes for state in model.description.states] == [[], ["PBE", "HSE", "r2SCAN"]]
    atoms = property_structures()["rattled"]
    with pytest.raises(DataError, match=r"quartz \(temperature\).*no such value"):
        model.predict([atoms], ["quartz"])
    found = []
    for state in ((300, "HSE"), (320, "HSE"), ("300", "PBE")):
        atoms.info = dict(zip(("temperature", "method"), state, strict=True))
        found.append(model.predict([atoms])[0]["gap"].item())
    assert len(set(found)) == 3
    inputs = property_graph(atoms, model.description)
    assert np.isnan(model.evaluate(inputs | {"states": np.array([[300.0, 3.0]])})["gap"]).all()
    with pytest.raises(Exception, match="takes states"):
        model.evaluate({name: values for name, values in inputs.items() if name != "states"})
    assert (
        "| `states` | (n_structures, 2) | float64 | temperature: a number; method: 0 PBE, 1 HSE, 2 r2SCAN |"
        in how_to_use(model.description, ["properties.pt"])
    )


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("cgcnn", {"convolution": "shared", "normalization": "layer", "cutoff_function": "polynomial"}),
        ("cgcnn", {"convolution": "none", "normalization": "none", "element_features": "onehot"}),
        ("cgcnn", {"activate_output": True, "cutoff_function": "cosine", "activation": "silu"}),
        ("gat", {}),
        ("gat", {"score_activation": "silu", "cutoff_function": "cosine", "normalization": "layer"}),
        ("megnet", {}),
        ("alignn", {}),
    ],
)
@pytest.mark.parametrize("graph", [{}, {"max_neighbors": 5, "ties": "keep"}, {"max_neighbors": None}])
def test_torchscript_of_every_option(
    architecture: str, options: dict[str, Any], graph: dict[str, Any], tmp_path: Path
) -> None:
    """Convolutions, attention, sets, envelopes; all neighbours, the nearest ones, with ties kept."""
    checkpoint = property_checkpoint(property_network(architecture, **options), **graph)
    write_property_file(checkpoint, tmp_path, "torchscript")
    structures = property_structures()
    found = load_property_model(tmp_path / "properties.pt").predict(list(structures.values()))
    for name, values, right in zip(structures, found, torch_says(checkpoint, list(structures.values())), strict=True):
        assert_equal(values, right, 1e-11, name)


def test_the_line_graph_is_that_of_training(tmp_path: Path) -> None:
    """Neighbours at the very cutoff are all there, however the crystal is turned; and as many as were allowed."""
    graph = {"max_neighbors": 12, "max_triplets": 5000}
    checkpoint = property_checkpoint(property_network("alignn", HEADS[:1]), **graph)
    write_property_file(checkpoint, tmp_path, "torchscript")
    model = load_property_model(tmp_path / "properties.pt")
    assert model.description.max_triplets == 5000
    assert model.description.angle_cutoff is None
    cubic = Atoms("Si", cell=[4.0, 4.0, 4.0], pbc=True)
    turned = cubic.copy()
    turned.rotate(37.0, (1, 2, 3), rotate_cell=True)
    assert property_graph(cubic, model.description)["triplets"].shape == (2, 36)
    assert property_graph(turned, model.description)["triplets"].shape == (2, 36)
    (right,) = torch_says(checkpoint, [cubic])
    for atoms in (cubic, turned):
        np.testing.assert_allclose(model.predict([atoms])[0]["gap"], right["gap"], rtol=1e-9)


def test_the_onnx_file_is_standard_and_says_what_it_is(crystals: tuple[Checkpoint, Path]) -> None:
    """Operators of ONNX only, none that races or lacks float64; dimensions have names; heads stand in the metadata."""
    model = onnx.load(crystals[1] / "properties.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & {"Cos", "Softplus", "ScatterND"}
    # Of x·sigmoid(x), ONNX Runtime before 1.31 makes an operator that it has in float32 only.
    sigmoids = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    products = [tuple(node.input) for node in model.graph.node if node.op_type == "Mul"]
    assert not [(x, y) for x, y in products if sigmoids.get(x) == y or sigmoids.get(y) == x]
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["z"] == ["n_atoms"]
    assert shapes["edge_index"] == [2, "n_edges"]
    assert shapes["edge_vectors"] == ["n_edges", 3]
    assert shapes["atom_counts"] == ["n_structures"]
    assert shapes["edge_of_length"] == ["n_lengths"]
    assert shapes["length_of_edge"] == shapes["copies"] == ["n_edges"]
    assert shapes["born"] == ["n_atoms", 3]
    assert shapes["gap_deviation"] == ["n_structures", 1]
    assert shapes["lattice"] == ["n_structures", 3]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    with zipfile.ZipFile(crystals[1] / "properties.pt") as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/extra/kimgnn.json")]
        assert json.loads(archive.read(name)) == metadata
    heads = {head["name"]: head for head in json.loads(metadata["heads"])}
    assert heads["total"]["unit"] == "eV"
    assert heads["total"]["extensive"]
    assert heads["born"]["per_atom"]
    assert heads["lattice"]["classes"] == ["a", "b", "c"]
    for name, value in {"species": "Si C", "cutoff": "4.0", "max_neighbors": "6", "ties": "break",
                        "transform": "CrystalGraph", "property_contract": "3", "merges": "true"}.items():  # fmt: skip
        assert metadata[name] == value
    assert len(metadata["manifest_hash"]) == 64
    assert "somewhere" not in json.dumps(metadata)


def test_threads_change_nothing(crystals: tuple[Checkpoint, Path]) -> None:
    """The file gives the same on eight threads, bit for bit."""
    _, folder = crystals
    model = load_property_model(folder / "properties.onnx")
    structures = property_structures()
    graphs = [
        property_graph(atoms.repeat((1, 2, 2)), model.description) for atoms in structures.values() if atoms.pbc.all()
    ]
    graph = joined(graphs)
    right = model.evaluate(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 8
    session = onnxruntime.InferenceSession(str(folder / "properties.onnx"), options)
    for _ in range(5):
        again = session.run(OUTPUTS, graph)
        assert all(np.array_equal(values, right[name]) for name, values in zip(OUTPUTS, again, strict=True))


@pytest.mark.parametrize("file", FILES.values())
def test_edges_need_not_be_merged(file: str, crystals: tuple[Checkpoint, Path]) -> None:
    """One by one, each of its own length and in another order about an atom, they give the same: to 1e-12, of other
    sums."""
    model = load_property_model(crystals[1] / file)
    atoms = property_structures()["tiny"].repeat((2, 1, 1))
    merged = property_graph(atoms, model.description)
    plain = property_graph(atoms, replace(model.description, merges=False))
    n_edges = plain["edge_index"].shape[1]
    assert merged["edge_index"].shape[1] < n_edges == merged["copies"].sum()
    assert len(merged["edge_of_length"]) == 1
    order = np.lexsort((np.random.default_rng(0).random(n_edges), plain["edge_index"][1]))
    each = np.arange(n_edges)
    found = model.evaluate(
        plain
        | {"edge_index": plain["edge_index"][:, order], "edge_vectors": plain["edge_vectors"][order]}
        | {"edge_of_length": each, "length_of_edge": each, "copies": np.ones_like(each)}
    )
    for name, right in model.evaluate(merged).items():
        np.testing.assert_allclose(found[name], right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("file", "named"), [("properties.onnx", True), ("properties.pt", False)])
def test_what_a_batch_must_be_is_looked_at(file: str, named: bool, crystals: tuple[Checkpoint, Path]) -> None:
    """Edges that are not sorted, too few or too many atoms: no number comes out, and the message says why."""
    model = load_property_model(crystals[1] / file)
    graph = property_graph(property_structures()["rattled"], model.description)
    backwards = graph | {name: graph[name][..., ::-1].copy() for name in ("edge_index", "length_of_edge", "copies")}
    with pytest.raises(Exception, match="edges_must_be_sorted_by_receiver" if named else "not sorted by receiver"):
        model.evaluate(backwards | {"edge_vectors": graph["edge_vectors"][::-1].copy()})
    for counts in ([7], [9], [4, 3], [4, 5]):
        with pytest.raises(Exception, match="must_add_up|out of|marked" if named else "do not add up"):
            model.evaluate(graph | {"atom_counts": np.array(counts)})


@pytest.mark.parametrize("file", FILES.values())
def test_an_unknown_element_is_refused_and_nan_in_the_raw_file(file: str, crystals: tuple[Checkpoint, Path]) -> None:
    """Never a number: the loader tells element and structure; the file itself returns NaN, for oganesson too, and for
    its own structure alone."""
    model = load_property_model(crystals[1] / file)
    structures = property_structures()
    others = [structures["crystal"], structures["lone"]]
    atoms = structures["rattled"]
    graph = joined([property_graph(each, model.description) for each in (others[0], atoms, others[1])])
    per_atom = [name for name in OUTPUTS if name.startswith("born")]
    right = parted(model.evaluate(graph), graph["atom_counts"], per_atom)
    for number in (1, 118):
        foreign = graph["z"].copy()
        foreign[len(others[0]) + 3] = number
        found = parted(model.evaluate(graph | {"z": foreign}), graph["atom_counts"], per_atom)
        assert all(np.isnan(values).all() for values in found[1].values())
        for index in (0, 2):
            assert_equal(found[index], right[index], 0.0, f"beside it: {index}")
    atoms.symbols[3] = "H"
    with pytest.raises(DataError, match=r"quartz: the model was not trained on every element.*'H'.*Si, C"):
        model.predict([atoms], ["quartz"])


def test_files_of_contract_2_are_read(tmp_path: Path) -> None:
    """Those of one structure, and one by one: a file with the metadata that were, which says the number of edges."""
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        one (int64[n_atoms] z, int64[2, n_edges] edge_index, double[n_edges, 3] edge_vectors) => (double[1] gap)
        { n = Shape <start = 0, end = 1> (edge_vectors)  gap = Cast <to = 11> (n) }
    """
    model = onnx.parser.parse_model(text)
    heads = [asdict(task) for task in tasks_of(HEADS[:1])]
    metadata = {"property_contract": "2", "heads": json.dumps(heads), "deviations": "[]", "species": "Si C",
                "cutoff": "2.5", "max_neighbors": "all", "ties": "break"}  # fmt: skip
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "properties.onnx")
    old = load_property_model(tmp_path / "properties.onnx")
    assert old.description.input_names == ["z", "edge_index", "edge_vectors"]
    structures = [property_structures()[name] for name in ("crystal", "lone", "molecule")]
    assert [values["gap"].tolist() for values in old.predict(structures)] == [[32.0], [0.0], [4.0]]
    onnx.helper.set_model_props(model, metadata | {"property_contract": "4"})
    onnx.save(model, tmp_path / "properties.onnx")
    with pytest.raises(ModelError, match=r"'property contract 4'.*Allowed: property contract 1 to 3"):
        load_property_model(tmp_path / "properties.onnx")


def test_the_activations_of_onnx_do_not_overflow() -> None:
    """As torch's, to the last bits, from -1000 to 1000, where the exponential is infinite."""
    x = torch.linspace(-1000, 1000, 4001, dtype=torch.float64)
    softplus, silu = torch.nn.functional.softplus(x, threshold=40.0), torch.nn.functional.silu(x)
    torch.testing.assert_close(property_onnx._softplus(x), softplus, rtol=1e-15, atol=2e-16)
    torch.testing.assert_close(property_onnx._silu(x), silu, rtol=1e-15, atol=2e-16)


@pytest.mark.parametrize(
    ("file", "nearest"), [("properties.onnx", True), ("properties.pt", True), ("properties.pt", False)]
)
def test_the_example_of_the_readme_runs(
    file: str, nearest: bool, crystals: tuple[Checkpoint, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Word for word, without kimgnn: it gives what the loader gives, by the names of the outputs."""
    _, folder = crystals
    if not nearest:
        folder = export_properties(property_checkpoint(property_network("schnet", HEADS[:1])), "schnet", tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.print", lambda outputs: printed.append(outputs))
    printed: list[Any] = []
    model = load_property_model(file)
    atoms = property_structures()["rattled"]
    monkeypatch.setattr(ase.io, "read", lambda name: {"structure.cif": atoms}[name])
    for block in how_to_use(model.description, [file]).split("```python\n")[1:]:
        exec(block.partition("```")[0], {})
    (with_kimgnn,), without = printed
    assert with_kimgnn.keys() == without.keys() == model.predict([atoms])[0].keys()
    for name, values in without.items():
        of_first = np.asarray(values) if name == "born" else np.asarray(values)[0]
        np.testing.assert_allclose(of_first, with_kimgnn[name], rtol=1e-12, atol=1e-12)


def test_the_folder_says_what_is_in_it(crystals: tuple[Checkpoint, Path]) -> None:
    """README with outputs, units, classes and errors; the manifest; nothing of the machine."""
    _, folder = crystals
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "manifest.yaml", "properties.onnx", "properties.pt",
    ]  # fmt: skip
    page = (folder / "README.md").read_text(encoding="utf-8")
    for text in (
        "no KIM item",
        "| `gap` | (n_structures, 1) | eV |",
        "| `gap_deviation` | (n_structures, 1) | eV | its standard deviation |",
        "| `born` | (n_atoms, 3) | – | of each atom |",
        "| `metal` | (n_structures, 2) | probability | of <= 0.1, > 0.1, in this order |",
        "6 nearest neighbours within 4 Å",
        "| val_gap_mae | 0.25 eV |",
        "| val_total_mae | 0.5 eV |",
        "| val_total_mae_per_atom | 0.25 eV/atom |",
        "| val_metal_accuracy | 0.75 |",
    ):
        assert text in page, text
    for file in folder.iterdir():
        assert b"somewhere" not in file.read_bytes()
    lines = page.splitlines()
    assert not [line for line, following in pairwise(lines) if line == following == ""]


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    """No head, two outputs of one name, a graph that a file cannot tell, a format there is not, a taken name."""
    only_energy = property_checkpoint(property_network("schnet", [ENERGY]))
    with pytest.raises(ExportError, match="no property or classification head"):
        export_properties(only_energy, "it", tmp_path)
    twice = [HEADS[0], HEADS[0] | {"target": "gap_deviation", "loss": "mse"}]
    with pytest.raises(ExportError, match=r"one name.*gap_deviation"):
        export_properties(property_checkpoint(property_network("schnet", twice)), "it", tmp_path)
    input_name = property_checkpoint(property_network("schnet", [HEADS[0] | {"name": "z"}]))
    with pytest.raises(ExportError, match=r"one name.*'z'"):
        export_properties(input_name, "it", tmp_path)
    good = property_checkpoint(property_network("schnet", HEADS[:1]))
    staged = Checkpoint(good.network, {"name": "RadialGraph", "kwargs": {}}, {})
    with pytest.raises(ExportError, match=r"RadialGraph.*PeriodicGraph, CrystalGraph"):
        export_properties(staged, "it", tmp_path)
    with pytest.raises(ExportError, match=r"pt2.*torchscript, onnx"):
        export_properties(good, "it", tmp_path, formats=["pt2"])
    with pytest.raises(ExportError, match="cannot name a folder"):
        export_properties(good, "../it", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_exports_and_nothing_else(tmp_path: Path) -> None:
    """A run directory of the same name survives."""
    checkpoint = property_checkpoint(property_network("schnet", HEADS[:1]))
    folder = export_properties(checkpoint, "it", tmp_path)
    with pytest.raises(ExportError, match="exists already"):
        export_properties(checkpoint, "it", tmp_path)
    assert export_properties(checkpoint, "it", tmp_path, force=True) == folder
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ExportError, match="exists already"):
        export_properties(checkpoint, "run", tmp_path, force=True)
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_files_are_told_apart(crystals: tuple[Checkpoint, Path], trained: Path, tmp_path: Path) -> None:
    """Properties from potentials, and both from what is no model or damaged."""
    _, folder = crystals
    for suffix in (".pt", ".onnx"):
        assert is_property_file(folder / f"properties{suffix}")
        assert not is_property_file(trained / f"model{suffix}")
        with pytest.raises(ModelError, match="not exported by kimgnn"):
            load_exported(folder / f"properties{suffix}")
        with pytest.raises(ModelError, match="not a file of properties"):
            load_property_model(trained / f"model{suffix}")
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes((folder / f"properties{suffix}").read_bytes()[:5000])
        assert not is_property_file(damaged)
        with pytest.raises(ModelError, match="damaged"):
            load_property_model(damaged)
        with pytest.raises(ModelError, match="no such file"):
            load_property_model(tmp_path / f"nothing{suffix}")
    with pytest.raises(ModelError, match=r"\.pt, \.onnx"):
        load_property_model(trained / "model.txt")


def test_the_network_is_copied() -> None:
    """Its batch normalisation stays what it is, and learns on."""
    network = property_network("cgcnn")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    ExportedProperties(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
