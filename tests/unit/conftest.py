"""What unit tests of several packages share: files whose export takes seconds."""

from pathlib import Path

import pytest
import torch
from properties import property_checkpoint, property_network
from structures import CUTOFF, small_checkpoint

from kimgnn.export.documents import file_metadata
from kimgnn.export.onnx_model import write_onnx
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.property_package import export_properties
from kimgnn.export.torchscript import write_torchscript
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a network for Si and C, with the network's exports: read, never written."""
    folder = tmp_path_factory.mktemp("trained")
    species = ["Si", "C"]
    torch.manual_seed(0)
    checkpoint = small_checkpoint(species)
    (folder / "checkpoints").mkdir()
    save_checkpoint(folder / "checkpoints" / "best.ckpt", checkpoint)
    write_torchscript(checkpoint.network, folder / "model.pt")
    (folder / PARAMETER_FILE).write_text(str(Parameters("torchscript", "model.pt", CUTOFF, 2, species)))
    write_onnx(checkpoint.network, folder / "model.onnx", file_metadata(checkpoint.network, checkpoint.manifest))
    return folder


@pytest.fixture(scope="session")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """A CGCNN with heads of every kind on six nearest neighbours, and its export in both formats: only read."""
    checkpoint = property_checkpoint(property_network("cgcnn"), max_neighbors=6, ties="break")
    directory = tmp_path_factory.mktemp("export")
    folder = export_properties(checkpoint, "crystals", directory, formats=["torchscript", "onnx"])
    return checkpoint, folder
