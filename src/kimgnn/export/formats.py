"""The formats that a network is exported in: the file, what writes it, which driver runs it, the model's KIM name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from kimgnn.errors import ExportError
from kimgnn.export.driver import DriverKind
from kimgnn.kim_id import parse_model_name
from kimgnn.models.network import Network


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file: Name of the model's file.
        driver: The kind of driver that runs it.
        write: Writes a network to a path, with metadata where the format holds any.
    """

    file: str
    driver: DriverKind
    write: Callable[[Network, Path, Mapping[str, str]], None]


def _write_torchscript(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    from kimgnn.export.torchscript import write_torchscript

    write_torchscript(network, path, metadata)


def require_onnx() -> None:
    """Do nothing if the packages that write ONNX are installed.

    Raises:
        ExportError: With the one that is missing.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            remedy = "Run: pip install 'kimgnn[onnx]'"
            raise ExportError(f"the package {package} is missing", where="export.formats", value="onnx", remedy=remedy)


def _write_onnx(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    require_onnx()
    from kimgnn.export.onnx_model import write_onnx

    write_onnx(network, path, metadata)


def _write_pt2(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    from kimgnn.export.pt2 import write_pt2

    write_pt2(network, path, metadata)


FORMATS: Final = {
    "torchscript": Format("model.pt", "torch", _write_torchscript),
    "onnx": Format("model.onnx", "onnx", _write_onnx),
    "pt2": Format("model.pt2", "torch", _write_pt2),
}
"""By the names that the manifest and the drivers' parameter file have."""


def model_names(name: str, formats: Sequence[str]) -> dict[str, str]:
    """Return the KIM name of the model in each format: ``name`` for the first, for the others one made from it.

    A KIM model names one driver, so each format is a model of its own. Versions of one model keep their number.

    Raises:
        ExportError: The name breaks KIM's rule, or a format is unknown or there twice.
    """
    prefix, number, version = parse_model_name(name)
    if not formats or len(set(formats)) < len(formats) or not FORMATS.keys() >= set(formats):
        raise ExportError(
            "not a list of formats",
            where="export.formats",
            value=list(formats),
            allowed=f"one or more of {', '.join(FORMATS)}, each once",
        )
    names = {formats[0]: name}
    for other in formats[1:]:
        digest = hashlib.sha256(f"{prefix}__MO_{number} {other}".encode()).hexdigest()
        names[other] = f"{prefix[: 99 - len(other)]}_{other}__MO_{int(digest, 16) % 10**12:012d}_{version}"
    return names
