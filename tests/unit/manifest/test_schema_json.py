"""The schema that editors use is the one that the code has."""

import json
from pathlib import Path

from kimgnn.manifest.schema_json import json_schema

COMMITTED = Path(__file__).resolve().parents[3] / "manifests" / "schema.json"


def test_committed_schema_is_the_generated_one():
    """`make schema` writes it again."""
    assert COMMITTED.read_text(encoding="utf-8") == json_schema()


def test_schema_describes_every_key():
    """Each key has a description, its own or its block's, and each architecture its options."""
    schema = json.loads(json_schema())
    blocks = [*schema["$defs"].values(), schema]
    keys = [(name, key) for block in blocks for name, key in block["properties"].items()]
    assert not [name for name, key in keys if not {"description", "$ref"} & key.keys()]
    assert all("description" in block for block in blocks)
    architectures = schema["$defs"]["Model"]["allOf"]
    assert (
        sum("num_interactions" in entry["then"]["properties"]["options"]["properties"] for entry in architectures) == 1
    )
