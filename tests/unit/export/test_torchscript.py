"""The scripted network is the network."""

import zipfile
from pathlib import Path

import pytest
import torch
from structures import energies_and_gradient, forces_of, small_network, staged_graphs
from torch import nn

from kimgnn.errors import ExportError
from kimgnn.export.torchscript import export_torchscript, save, script, write_torchscript


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-12), ("single", 1e-5)])
def test_scripted_equals_eager(precision: str, tolerance: float, tmp_path: Path) -> None:
    """Read back from its file, it gives the same energies, float64, and the same forces, with ghosts and without."""
    net = small_network(["Si", "C"], 3, precision)
    write_torchscript(net, tmp_path / "model.pt")
    model = torch.jit.load(tmp_path / "model.pt")
    for name, graph in staged_graphs(net).items():
        expected, expected_gradient = energies_and_gradient(net, graph)
        vectors = graph.edge_vectors.requires_grad_()
        with torch.jit.optimized_execution(False):  # as the driver runs it
            energies = model(*graph)
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        assert energies.dtype == torch.float64
        torch.testing.assert_close(energies.detach(), expected, rtol=0, atol=tolerance, msg=name)
        forces, expected_forces = forces_of(graph, gradient), forces_of(graph, expected_gradient)
        torch.testing.assert_close(forces, expected_forces, rtol=0, atol=tolerance, msg=name)


def test_export_leaves_the_network_alone() -> None:
    """A network can be trained on after an export."""
    net = small_network(["Si"]).train()
    export_torchscript(net)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_file_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    """No path of a source file is in it: TorchScript's debugging records hold them."""
    save(export_torchscript(small_network(["Si"])), tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parents[3]).encode() not in content


def test_what_cannot_be_a_potential_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network says why; the export passes it on."""
    net = small_network(["Si"])
    monkeypatch.setattr(net.trunk, "potential_refusal", lambda: "it pools over the whole structure")
    with pytest.raises(ExportError, match="pools over the whole structure"):
        export_torchscript(net)


class Unscriptable(nn.Module):
    """TorchScript has no keyword arguments of any name."""

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return inputs["x"]


def test_torchscript_says_what_it_cannot_compile() -> None:
    """The reason is TorchScript's own."""
    with pytest.raises(ExportError, match="variable number of arguments"):
        script(Unscriptable())
