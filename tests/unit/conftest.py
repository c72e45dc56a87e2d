"""What unit tests of several packages share."""

from pathlib import Path

import pytest
import torch
from structures import CUTOFF, small_checkpoint

from kimgnn.export.documents import file_metadata
from kimgnn.export.onnx_model import write_onnx
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.torchscript import write_torchscript
from kimgnn.models.checkpoint import save_checkpoint


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
