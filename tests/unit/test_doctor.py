"""kimgnn doctor: what is found, what is missing, and how to get it."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement

from kimgnn import doctor
from kimgnn.export.driver import DriverKind, InstalledItem, driver_name


def test_every_requirement_of_the_package_is_looked_for() -> None:
    """The list is the package's own, with kimpy, and without what only developers need."""
    names = {requirement.name for requirement in doctor._requirements()}
    assert {"kliff", "torch", "lightning", "ase", "numpy", "kimpy"} <= names
    assert not {"pytest", "ruff", "onnx"} & names


@pytest.mark.parametrize(
    ("requirement", "detail"),
    [("ase>=99", f"{version('ase')} is there, >=99 is needed"), ("no-such-package-here>=1", "Python package")],
)
def test_package_that_is_missing_or_too_old(requirement: str, detail: str) -> None:
    """The remedy is the command that installs it."""
    check = doctor._package(Requirement(requirement))
    assert (check.found, check.detail, check.remedy) == (False, detail, f"pip install '{requirement}'")
    assert str(check).startswith("MISSING")


def test_an_empty_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any program, each is named with its Debian and conda-forge packages, and nothing is run."""
    monkeypatch.setenv("PATH", "")
    missing = {check.name: check.remedy for check in doctor.examine() if check.name in doctor.PROGRAMS}
    assert missing.keys() == doctor.PROGRAMS.keys()
    assert missing["c++"] == "apt-get install g++, or conda install -c conda-forge cxx-compiler"


@pytest.mark.parametrize(("packages", "found"), [("KSPACE KIM MANYBODY", True), ("KSPACE MANYBODY", False)])
def test_lammps_without_kim(packages: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMMPS's own list of packages decides."""
    said = f"Installed packages:\n\n{packages}\n\nList of individual style options"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=said))
    assert doctor._lammps_kim().found is found


@pytest.mark.parametrize("kind", get_args(DriverKind))
def test_driver_that_is_not_installed(kind: DriverKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it."""
    monkeypatch.setattr("kimgnn.export.driver.find_item", lambda name: None)
    check = next(check for check in doctor._drivers() if check.name == driver_name(kind))
    assert (check.found, check.remedy) == (False, f"kimgnn driver install {kind}")


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("torch", "libkim-api-model-driver.so"),
        ("onnx", "libkim-api-model-driver.so"),
        ("onnx", "libonnxruntime.so.1"),
    ],
)
def test_driver_that_cannot_be_opened(
    kind: DriverKind, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver whose libtorch or ONNX Runtime is gone is told from one that works."""
    mapped = Path("/proc/self/maps").read_text().split()
    works = next(word for word in mapped if Path(word).name.startswith("libc.so"))
    for library in doctor.DRIVER_LIBRARIES[kind]:
        (tmp_path / library).symlink_to(works)
    monkeypatch.setattr("kimgnn.export.driver.find_item", lambda name: InstalledItem("user", tmp_path))
    assert doctor._driver(driver_name(kind), kind).found
    (tmp_path / broken).unlink()
    (tmp_path / broken).write_text("not a library")
    check = doctor._driver(driver_name(kind), kind)
    assert (check.found, check.name) == (False, driver_name(kind))
    assert broken in check.detail
    assert check.remedy == f"kimgnn driver install {kind} --force"
