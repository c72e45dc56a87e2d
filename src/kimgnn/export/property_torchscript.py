"""Properties as TorchScript: `kimgnn.export.property_contract`'s function, which returns its outputs by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kimgnn.export.property_contract import METADATA_FILE, ExportedProperties
from kimgnn.export.torchscript import save, script
from kimgnn.models.network import Network


def write_torchscript_properties(network: Network, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the properties of ``network`` to ``path``.

    Args:
        network: With a property or classification head.
        path: File to write.
        metadata: What the file tells of itself.

    Raises:
        ExportError: TorchScript cannot compile it.
    """
    text = json.dumps(dict(metadata), indent=2, ensure_ascii=False)
    save(script(ExportedProperties(network)), path, {METADATA_FILE: text})
