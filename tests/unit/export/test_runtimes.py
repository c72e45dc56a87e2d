"""Exported files in Python: they say what the network says; damaged, foreign and outdated ones are told."""

import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch
from structures import CUTOFF, energies_and_gradient, forces_of, staged_graphs
from torch import Tensor, nn

from kimgnn.errors import ModelError
from kimgnn.export.runtimes import load_exported
from kimgnn.export.torchscript import save, script
from kimgnn.models.checkpoint import load_checkpoint

FILES = ["model.pt", "model.onnx"]
"""A pt2 file takes a minute to compile: see test_pt2."""


@pytest.mark.parametrize("file", FILES)
def test_a_file_tells_what_its_caller_has_to_know(file: str, trained: Path) -> None:
    """Species in the order of their codes, cutoff and layers."""
    model = load_exported(trained / file)
    assert (model.species, model.cutoff, model.num_layers) == (["Si", "C"], CUTOFF, 2)


@pytest.mark.parametrize("file", FILES)
def test_a_file_says_what_the_network_says(file: str, trained: Path) -> None:
    """Energies and forces to 1e-12, whatever the sizes of one graph after the other, ghosts or none, edges or none."""
    evaluate = load_exported(trained / file).evaluate
    network = load_checkpoint(trained).network
    for name, graph in staged_graphs(network).items():
        energies, gradient = map(torch.from_numpy, evaluate(graph))
        expected, expected_gradient = energies_and_gradient(network, graph)
        forces, expected_forces = forces_of(graph, gradient), forces_of(graph, expected_gradient)
        torch.testing.assert_close(energies, expected, rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(forces, expected_forces, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("file", FILES)
def test_inputs_are_left_alone(file: str, trained: Path) -> None:
    """Evaluating changes no tensor of the graph, and asks for no gradient of it."""
    network = load_checkpoint(trained).network
    graph, untouched = (staged_graphs(network)["ghosts"] for _ in range(2))
    load_exported(trained / file).evaluate(graph)
    assert not graph.edge_vectors.requires_grad
    for tensor, before in zip(graph, untouched, strict=True):
        assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(before))


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"not a model\n" * 99]
)
@pytest.mark.parametrize("file", [*FILES, "model.pt2"])
def test_damaged_files(file: str, damage, trained: Path, tmp_path: Path) -> None:
    """A truncated file and a text are told by name, with the cure; no error of the runtime's own comes through."""
    content = (trained / file.replace("pt2", "pt")).read_bytes()
    (tmp_path / file).write_bytes(damage(content))
    with pytest.raises(ModelError, match=rf"{file}: the file is damaged or not .*Export the model again"):
        load_exported(tmp_path / file)


class Foreign(nn.Module):
    """Takes other inputs than ours."""

    def forward(self, species: Tensor, coords: Tensor) -> Tensor:
        return coords.sum() + species.sum()


def test_torchscript_of_another_kind(tmp_path: Path) -> None:
    """A module with another forward is refused by what it takes."""
    save(script(Foreign()), tmp_path / "model.pt")
    with pytest.raises(
        ModelError, match=r"model\.pt: not exported by kimgnn.*species, coords.*species_codes, edge_index"
    ):
        load_exported(tmp_path / "model.pt")


@pytest.mark.parametrize(("contract", "found"), [(None, "none"), ("1", "contract 1")])
def test_onnx_of_another_kind(contract: str | None, found: str, trained: Path, tmp_path: Path) -> None:
    """A model without our metadata, and one of an older contract."""
    model = onnx.load(trained / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props} | {"contract": contract}
    onnx.helper.set_model_props(model, {} if contract is None else metadata)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=rf"model\.onnx: not exported by kimgnn.*{found}.*Allowed: contract 2"):
        load_exported(tmp_path / "model.onnx")


def test_parameters_of_another_file(trained: Path, tmp_path: Path) -> None:
    """kimgnn.param must be there, and must be this file's."""
    shutil.copy(trained / "model.pt", tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"kimgnn\.param: cannot be read"):
        load_exported(tmp_path / "model.pt")
    text = (trained / "kimgnn.param").read_text()
    (tmp_path / "kimgnn.param").write_text(text.replace("model.pt", "model.pt2"))
    with pytest.raises(ModelError, match=r"kimgnn\.param: describes another file .*'model\.pt2'.*Allowed: model\.pt\."):
        load_exported(tmp_path / "model.pt")


def test_what_is_not_there(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a format, and the package that runs one."""
    with pytest.raises(ModelError, match=r"other\.onnx: no such file"):
        load_exported(trained / "other.onnx")
    with pytest.raises(ModelError, match=r"best\.ckpt: not the suffix.*'\.ckpt'.*Allowed: \.pt, \.pt2, \.onnx"):
        load_exported(trained / "checkpoints" / "best.ckpt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"onnxruntime is not installed.*pip install kimgnn\[onnx\]"):
        load_exported(trained / "model.onnx")
