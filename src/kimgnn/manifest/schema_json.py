"""The manifest's JSON schema, for editors: ``python -m kimgnn.manifest.schema_json manifests/schema.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kimgnn.manifest.schema import Manifest
from kimgnn.registry import ARCHITECTURES, HEADS


def json_schema() -> str:
    """Return the JSON schema of a manifest, with the options of every registered architecture and head."""
    schema = Manifest.model_json_schema()
    model = schema["$defs"]["Model"]
    model["allOf"] = [_options_of(name) for name in ARCHITECTURES.names()]
    model["properties"]["architecture"] = {
        "enum": [*ARCHITECTURES.names(), None],
        "description": model["properties"]["architecture"]["description"],
    }
    model["properties"]["heads"]["items"] = {"anyOf": [_head(name) for name in HEADS.names()]}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _options_of(architecture: str) -> dict[str, Any]:
    options = TypeAdapter(ARCHITECTURES.get(architecture).Options).json_schema()
    options = _inlined(options, options.pop("$defs", {}))
    # The transform's cutoff stands in for the architecture's.
    options["required"] = [name for name in options.get("required", []) if name != "cutoff"]
    return {
        "if": {"properties": {"architecture": {"const": architecture}}, "required": ["architecture"]},
        "then": {"properties": {"options": options}},
    }


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with its definitions in the places that refer to them: it is no document of its own."""
    if isinstance(value, list):
        return [_inlined(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(definitions[value["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(item, definitions) for key, item in value.items()}


def _head(kind: str) -> dict[str, Any]:
    head = TypeAdapter(HEADS.get(kind).Options).json_schema()
    head["properties"] = {"type": {"const": kind}, **head["properties"]}
    head["required"] = ["type", *head.get("required", [])]
    return head


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json_schema(), encoding="utf-8")
