"""`kimgnn data cache`: what is kept where, and its removal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kliff.dataset import Configuration
from typer.testing import CliRunner

from kimgnn.cli import app
from kimgnn.transforms.graph_cache import with_cache
from kimgnn.transforms.periodic_graph import PeriodicGraph


def keep_graphs(choice: bool | str, number: int) -> None:
    transform = with_cache(PeriodicGraph(2.0), choice)
    for index in range(number):
        transform(Configuration(np.eye(3) * (4 + index), ["Si"], np.zeros((1, 3)), [True] * 3))


def said(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["data", "cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is, how many graphs, how large; --clear removes them."""
    monkeypatch.setenv("KIMGNN_CACHE", str(tmp_path / "user"))
    assert said() == [f"folder      {tmp_path / 'user'}", "structures  none", "graphs      none"]
    assert not (tmp_path / "user").exists()
    keep_graphs(True, 3)
    _, structures, graphs = said()
    assert structures == "structures  none"
    assert graphs.startswith("graphs      3, 0.")
    assert said("--clear")[2] == f"{graphs}, removed"
    assert said()[2] == "graphs      none"
    keep_graphs(True, 2)
    assert said()[2].startswith("graphs      2, ")


def test_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that dataset.cache names; the user's is left alone."""
    monkeypatch.setenv("KIMGNN_CACHE", str(tmp_path / "user"))
    keep_graphs(True, 1)
    keep_graphs(str(tmp_path / "own"), 2)
    assert said(str(tmp_path / "own"), "--clear")[2].startswith("graphs      2, ")
    assert said(str(tmp_path / "own"))[2] == "graphs      none"
    assert said()[2].startswith("graphs      1, ")
