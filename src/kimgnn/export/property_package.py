"""The files of properties: alone in a folder of their own, or beside a potential in a KIM portable model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from kimgnn.errors import ExportError
from kimgnn.evaluation.domain import SUMMARY
from kimgnn.export import documents
from kimgnn.export.calibrated import carried_calibration, tempered
from kimgnn.export.folders import refuse_if_taken, write_folders
from kimgnn.export.formats import require_onnx
from kimgnn.export.property_contract import describe_properties
from kimgnn.export.property_documents import property_readme
from kimgnn.models.checkpoint import CALIBRATION, Checkpoint
from kimgnn.models.network import Network
from kimgnn.models.tasks import tasks_of


@dataclass(frozen=True)
class PropertyFormat:
    """A format of files of properties.

    Attributes:
        file: Name of the file.
        write: Writes a network's properties to a path, with metadata.
    """

    file: str
    write: Callable[[Network, Path, Mapping[str, str]], None]


def _write_torchscript(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    from kimgnn.export.property_torchscript import write_torchscript_properties

    write_torchscript_properties(network, path, metadata)


def _write_onnx(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    require_onnx()
    from kimgnn.export.property_onnx import write_onnx_properties

    write_onnx_properties(network, path, metadata)


PROPERTY_FORMATS: Final = {
    "torchscript": PropertyFormat("properties.pt", _write_torchscript),
    "onnx": PropertyFormat("properties.onnx", _write_onnx),
}
"""By the names that the manifest has."""


def has_properties(checkpoint: Checkpoint) -> bool:
    """Return whether there is anything to write: a property or classification head."""
    return isinstance(checkpoint.network, Network) and bool(tasks_of(checkpoint.network.spec.heads))


def property_file(format_name: str) -> str:
    """Return the name of the file of properties that travels with a potential in a format; pt2 has TorchScript's."""
    return PROPERTY_FORMATS["onnx" if format_name == "onnx" else "torchscript"].file


def write_property_file(checkpoint: Checkpoint, folder: Path, format_name: str) -> None:
    """Write the properties of ``checkpoint`` into ``folder``, as `property_file` calls it.

    Raises:
        ExportError: They cannot be exported, with the reason.
    """
    description = describe_properties(checkpoint)
    manifest = documents.without_machine(checkpoint.manifest)
    metadata = documents.file_metadata(checkpoint.network, manifest) | description.to_metadata()
    # What a potential's file says of itself.
    for key in ("contract", "units"):
        del metadata[key]
    metadata["transform"] = str(checkpoint.transform["name"])
    metadata[SUMMARY] = json.dumps(checkpoint.data.get(SUMMARY, {}), ensure_ascii=False)
    metadata[CALIBRATION] = json.dumps(carried_calibration(checkpoint), ensure_ascii=False)
    chosen = PROPERTY_FORMATS["onnx" if format_name == "onnx" else "torchscript"]
    chosen.write(tempered(checkpoint), folder / chosen.file, metadata)


def export_properties(
    checkpoint: Checkpoint,
    name: str,
    directory: str | Path,
    *,
    formats: Sequence[str] = ("torchscript",),
    tarball: bool = False,
    force: bool = False,
    approve: Callable[[Sequence[Path]], None] | None = None,
) -> Path:
    """Write the properties of ``checkpoint`` into a folder, whole or not at all; the folder is no KIM item.

    Args:
        checkpoint: A trained network with property or classification heads.
        name: The folder's.
        directory: Where it is made.
        formats: Of `PROPERTY_FORMATS`.
        tarball: Also write ``<name>.tar.gz`` beside it.
        force: Replace an export of this name.
        approve: Called with the folder before it is in its place: it may add files, and nothing is left of the export
            if it raises.

    Returns:
        The folder.

    Raises:
        ExportError: A folder of the name exists, or cannot be written, or the properties cannot be exported, with the
            reason.
    """
    if not formats or len(set(formats)) < len(formats) or not PROPERTY_FORMATS.keys() >= set(formats):
        raise ExportError(
            "not a list of formats of properties",
            where="export.formats",
            value=list(formats),
            allowed=f"one or more of {', '.join(PROPERTY_FORMATS)}, each once",
        )
    if Path(name).name != name or name in ("", ".", ".."):
        raise ExportError("cannot name a folder", where="--name", value=name, allowed="a name without /")
    target = Path(directory) / name
    refuse_if_taken(target, force and _is_export(target))
    description = describe_properties(checkpoint)
    manifest = documents.without_machine(checkpoint.manifest)
    files = [property_file(format_name) for format_name in formats]

    def write(folder: Path) -> None:
        for format_name in formats:
            write_property_file(checkpoint, folder, format_name)
        texts = {
            "README.md": property_readme(name, checkpoint, description, files, manifest),
            "manifest.yaml": yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True),
        }
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")

    write_folders({target: write}, tarball=tarball, approve=approve)
    return target


def _is_export(folder: Path) -> bool:
    """Whether a folder is an export of properties, and not, say, the run that it is made from."""
    return any((folder / known.file).is_file() for known in PROPERTY_FORMATS.values())
