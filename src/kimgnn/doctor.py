"""What this machine has and lacks for training, exporting and running models, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

EXTRAS = ("", "kim")
"""Optional requirements of kimgnn that are looked for: running exported models in ASE needs kimpy."""

PROGRAMS = {
    "c++": ("compiles the KIM model drivers", "g++", "cxx-compiler"),
    "cmake": ("configures the KIM model drivers", "cmake", "cmake"),
    "make": ("builds the KIM model drivers", "make", "make"),
    "kim-api-collections-management": ("installs drivers and models", "libkim-api-dev", "kim-api"),
    "lmp": ("runs molecular dynamics", "lammps", "lammps"),
    "mpirun": ("runs LAMMPS on several ranks", "openmpi-bin", "openmpi"),
}
"""Program -> what it does here, its package in Debian and on conda-forge."""

DRIVER_LIBRARIES = {
    "torch": ("libkim-api-model-driver.so",),
    "onnx": ("libkim-api-model-driver.so", "libonnxruntime.so.1"),
}
"""What lies in a driver's folder. The first is linked against a libtorch, which may have gone since."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: What it is.
        found: Whether it is there and works.
        detail: Its version or place; what it is for, or what is wrong with it, when it is not found.
        remedy: How to get it; empty when found.
    """

    name: str
    found: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok     ' if self.found else 'MISSING'} {self.name:32} {self.detail}"
        return line if self.found else f"{line}\n        -> {self.remedy}"


def examine() -> list[Check]:
    """Look at everything: Python, kimgnn's requirements, programs, LAMMPS's KIM package, the drivers."""
    checks = [_found("python", platform.python_version()), *map(_package, _requirements()), *map(_program, PROGRAMS)]
    if shutil.which("lmp"):
        checks.append(_lammps_kim())
    if shutil.which("kim-api-collections-management"):
        checks += _drivers()
    return checks


def _found(name: str, detail: str) -> Check:
    return Check(name, True, detail)


def _requirements() -> list[Requirement]:
    """What kimgnn's own package asks for."""
    declared = [Requirement(line) for line in requires("kimgnn") or ()]
    return [
        requirement
        for requirement in declared
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    ]


def _package(requirement: Requirement) -> Check:
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return Check(requirement.name, False, "Python package", remedy)
    if requirement.specifier.contains(installed, prereleases=True):
        return _found(requirement.name, installed)
    return Check(requirement.name, False, f"{installed} is there, {requirement.specifier} is needed", remedy)


def _program(name: str) -> Check:
    purpose, debian, conda = PROGRAMS[name]
    path = shutil.which(name)
    if path is not None:
        return _found(name, path)
    return Check(name, False, purpose, f"apt-get install {debian}, or conda install -c conda-forge {conda}")


def _lammps_kim() -> Check:
    from kimgnn.export.lammps import has_kim_package

    name = "LAMMPS's KIM package"
    if has_kim_package():
        return _found(name, "pair_style kim")
    return Check(
        name, False, "pair_style kim", "Use a LAMMPS built with -D PKG_KIM=on: Debian's and conda-forge's are."
    )


def _drivers() -> list[Check]:
    from kimgnn.export.driver import DRIVERS

    return [_driver(name, kind) for name, kind in DRIVERS.items()]


def _driver(name: str, kind: str) -> Check:
    from kimgnn.export.driver import find_item

    remedy = f"kimgnn driver install {kind}"
    item = find_item(name)
    if item is None:
        return Check(name, False, "runs exported models", remedy)
    for library in DRIVER_LIBRARIES[kind]:
        opened = subprocess.run(
            [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(item.path / library)],
            capture_output=True,
            text=True,
            check=False,
        )
        if opened.returncode:
            why = opened.stderr.strip().rpartition("\n")[2]
            return Check(name, False, f"cannot be opened: {why}", f"{remedy} --force")
    return _found(name, str(item.path))
