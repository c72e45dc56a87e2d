"""Each benchmark can be asked what it does, and the README says it of each."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
SHARED = {"harness", "made_up", "peer_networks", "steps"}
"""Modules that benchmarks import."""

BENCHMARKS = sorted(path.name for path in FOLDER.glob("*.py") if path.stem not in SHARED)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help(name, monkeypatch, capsys):
    """``--help`` says what is measured, with an example that names the file."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [str(FOLDER / name), "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    assert left.value.code == 0
    assert f"python benchmarks/{name}" in capsys.readouterr().out


def test_readme_has_each():
    """benchmarks/README.md has a row for each, and none for what is gone."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = {word.strip("`|") for word in readme.split() if word.strip("`|").endswith(".py")}
    assert {name.removeprefix("benchmarks/") for name in named} == set(BENCHMARKS) | {f"{name}.py" for name in SHARED}
