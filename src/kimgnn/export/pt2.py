"""The network and its gradient compiled ahead of time by torch (AOTInductor), which torch has in TorchScript's place.

The file holds a shared library for this kind of processor, which libtorch runs. It takes nothing but tensors:
`kimgnn.export.tracing.input_names` says which.
"""

import json
import platform
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

from kimgnn.errors import ExportError
from kimgnn.export.contract import METADATA_ENTRY
from kimgnn.export.tracing import example_inputs, trace
from kimgnn.models.network import Network
from kimgnn.nn.rows import PLAIN

_OPTIONS: Final[dict[str, Any]] = {
    # Threads are the driver's to choose; otherwise the number of this machine's cores is compiled in.
    "cpp.dynamic_threads": True,
    # They name files of this machine.
    "aot_inductor.enable_line_tables": False,
    # Loops that share nothing but their length stay apart: torch 2.13 lost a term of some gradients in joining them.
    "cpp.max_horizontal_fusion_size": 1,
}
_X86: Final[dict[str, Any]] = {"cpp.march": "x86-64-v3", "cpp.simdlen": 256}
"""AVX2 in place of all that this very processor can do; Intel has had it since 2013 and AMD since 2015."""


def write_pt2(network: Network, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Compile ``network`` and write it to ``path``, which takes about a minute.

    Args:
        network: What is exported.
        path: Where.
        metadata: What the file tells of itself.

    Raises:
        ExportError: The network cannot be a potential, no C++ compiler is found, or torch cannot compile it.
    """
    if network.uses_triplets:
        raise ExportError(
            "a model of angles is not compiled ahead of time: its file would have to be given triplets of edges",
            where="export.formats",
            value="pt2",
            allowed="torchscript, onnx",
        )
    inputs = list(example_inputs(network).values())
    module = trace(network, PLAIN)
    shapes: list[dict[int, Any]] = [{0: torch.export.Dim.DYNAMIC} for _ in inputs]
    shapes[1] = {1: torch.export.Dim.DYNAMIC}
    options = _OPTIONS | (_X86 if platform.machine() in ("x86_64", "AMD64") else {})
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "model.pt2"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
                program = torch.export.export(module, tuple(inputs), dynamic_shapes=tuple(shapes), strict=False)
                torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
        except Exception as error:  # torch raises many kinds on what it cannot compile
            raise ExportError(
                f"torch cannot compile the model ahead of time:\n{error}",
                where="export.formats",
                value="pt2",
                remedy="It needs a C++ compiler (Debian: apt-get install g++); torchscript and onnx do without.",
            ) from error
        _write_without_paths(package, Path(path))
    if metadata:
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(f"{Path(path).stem}/{METADATA_ENTRY}", json.dumps(metadata))


def _write_without_paths(package: Path, path: Path) -> None:
    """Copy a package to ``path`` without its source code and the folders of this machine that messages would name."""
    folders = [str(Path(torch.__file__).parent).encode(), cache_dir().encode()]
    with zipfile.ZipFile(package) as archive, zipfile.ZipFile(path, "w") as file:
        for entry in archive.infolist():
            if entry.filename.endswith(".cpp"):
                continue
            content = archive.read(entry)
            for folder in folders:
                content = content.replace(folder, b"." * len(folder))  # a library's strings must keep their length
            # The archive's folder is called after its file.
            name = entry.filename.replace(f"{package.stem}/", f"{path.stem}/", 1)
            file.writestr(name, content)
