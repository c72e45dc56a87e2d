"""The README's manifest is the one that is shipped."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_readme_quotes_the_manifest():
    """What the README explains line by line is manifests/silicon_schnet.yaml, letter by letter."""
    manifest = (ROOT / "manifests" / "silicon_schnet.yaml").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```yaml\n{manifest[manifest.index('workspace:') :]}```" in readme
