"""What every test shares: seeds, one thread, and reasons to skip."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

# The suite draws the same examples every time; `make fuzz` draws new ones.
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def _missing() -> dict[str, str]:
    """Marker -> why its tests cannot run on this machine, for those that cannot."""
    reasons = {}
    if not shutil.which("kim-api-collections-management"):
        reasons["kim"] = "the KIM API is not installed (libkim-api-dev; conda-forge: kim-api)"
    if not shutil.which("lmp"):
        reasons["lammps"] = "LAMMPS is not installed (lammps)"
    if not torch.cuda.is_available():
        reasons["gpu"] = "there is no CUDA device"
    return reasons


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    reasons = _missing()
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random numbers."""
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout, which is no part of the product."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture
def kimgnn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return exit status, output and messages."""
    from kimgnn import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kimgnn", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        output, messages = capsys.readouterr()
        return int(left.value.code or 0), output, messages

    return run
