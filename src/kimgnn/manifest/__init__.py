"""The manifest: six typed blocks, read from YAML or a dict, out to the plain dict that KLIFF gets."""

from kimgnn.manifest.load import load_manifest, manifest_hash
from kimgnn.manifest.schema import Manifest

__all__ = ["Manifest", "load_manifest", "manifest_hash"]
