"""The network as TorchScript; the driver differentiates it. See `kimgnn.export.contract`."""

import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from kimgnn.errors import ExportError
from kimgnn.export.contract import METADATA_FILE, ExportedCommittee, ExportedPotential, refuse_unless_potential
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network


def export_torchscript(network: Network) -> torch.jit.ScriptModule:
    """Return ``network`` as a script module with `ExportedPotential`'s contract, or `ExportedCommittee`'s.

    Raises:
        ExportError: The network cannot be a potential, or TorchScript cannot compile it.
    """
    refuse_unless_potential(network)
    return script(ExportedCommittee(network) if isinstance(network, Ensemble) else ExportedPotential(network))


def write_torchscript(network: Network, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``network`` to ``path``; raises as `export_torchscript` does.

    Args:
        network: What is exported.
        path: Where.
        metadata: What the file tells of itself.
    """
    save(export_torchscript(network), path, {METADATA_FILE: json.dumps(metadata)} if metadata else None)


def script(module: nn.Module, methods: str = "") -> torch.jit.ScriptModule:
    """Return ``module`` compiled by TorchScript.

    Args:
        module: In evaluation mode.
        methods: Source of methods to add, for those that Python cannot say: TorchScript has no ``*args``.

    Raises:
        ExportError: It is not scriptable; the message is TorchScript's.
    """
    with _torchscript_is_deprecated():
        try:
            scripted = torch.jit.script(module)
            if methods:
                scripted.define(methods)
            return scripted
        except Exception as error:  # torch raises many kinds on what it cannot compile
            raise ExportError(
                f"TorchScript cannot compile the model:\n{error}",
                where="export",
                remedy="Rewrite what the message points at; see https://pytorch.org/docs/stable/jit.html.",
            ) from error


def save(module: torch.jit.ScriptModule, path: str | Path, extra_files: Mapping[str, str] | None = None) -> None:
    """Write a script module to ``path``, without the debugging records, which hold paths of this machine.

    Args:
        module: What is written.
        path: Where.
        extra_files: Name -> text that `torch.jit.load` finds beside the module.
    """
    content = io.BytesIO()
    with _torchscript_is_deprecated():
        torch.jit.save(module, content, _extra_files=dict(extra_files or {}))
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(path, "w") as file:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                file.writestr(entry, archive.read(entry))


@contextmanager
def _torchscript_is_deprecated() -> Iterator[None]:
    """Silence torch's advice to move to torch.export, which the C++ of released torch cannot run without a compiler."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield
