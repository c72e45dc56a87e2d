"""Building and installing the KIM model drivers, and the models that they run.

A KIM collection is a folder of installed items. KIM looks for an item in the current directory first, then in the
folders named by environment variables, then in the user's, then in the system's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from kimgnn.errors import KIMError

DriverKind = Literal["torch", "onnx"]
"""What a driver runs networks with: libtorch, or ONNX Runtime's C library."""

DRIVERS: Final[dict[str, DriverKind]] = {
    "kimgnn__MD_706233094551_001": "torch",
    "kimgnn_onnx__MD_381945207716_000": "onnx",
}
"""KIM's name of each driver -> its kind."""

Collection = Literal["user", "environment", "CWD"]

_MANAGER: Final = "kim-api-collections-management"
_DIRECTORY_VARIABLES: Final = {
    "model_drivers": "KIM_API_MODEL_DRIVERS_DIR",
    "portable_models": "KIM_API_PORTABLE_MODELS_DIR",
    "simulator_models": "KIM_API_SIMULATOR_MODELS_DIR",
}
_SEARCHED_FIRST: Final = {
    "CWD": (),
    "environment": ("currentWorkingDirectory",),
    "user": ("currentWorkingDirectory", "environmentVariable"),
}
"""The collections, by KIM's names, that hide an item of the same name in ours."""

_TOOLS: Final = {
    _MANAGER: ("libkim-api-dev", "kim-api"),
    "cmake": ("cmake", "cmake"),
    "make": ("make", "make"),
    "c++": ("g++", "cxx-compiler"),
}
"""What is needed -> its package in Debian and on conda-forge."""


class InstalledItem(NamedTuple):
    """An item as KIM finds it: the collection by KIM's name for it, and the item's own folder."""

    collection: str
    path: Path


def driver_name(kind: DriverKind) -> str:
    """Return KIM's name of the driver of that kind.

    Raises:
        KIMError: There is no such kind.
    """
    for name, its_kind in DRIVERS.items():
        if its_kind == kind:
            return name
    raise KIMError("unknown driver", value=kind, allowed=", ".join(DRIVERS.values()))


def install_driver(kind: DriverKind = "torch", collection: Collection = "user", force: bool = False) -> Path:
    """Build a model driver, unless that was done before, and install it.

    A driver that is there already is brought up to date.

    Args:
        kind: ``torch`` is linked against this Python's torch and runs while that stays where it is. ``onnx`` takes
            the library of this Python's onnxruntime along, or the system's where Python has none.
        collection: ``user``, ``environment`` (where ``KIM_API_MODEL_DRIVERS_DIR`` points) or ``CWD``.
        force: Compile anew even what was compiled before.

    Returns:
        The folder of the installed driver.

    Raises:
        KIMError: KIM or a compiler is missing, the collection cannot be written, or the build fails.
    """
    name = driver_name(kind)
    _require_tools()
    target = _free_target(name, "model_drivers", collection)
    source = _driver_source()
    folder, version = _library(kind)
    options = {"KIMGNN_BACKEND": kind, **folder}
    build = _cache() / _fingerprint(source, options, version)
    with _locked(build):
        if force:
            shutil.rmtree(build, ignore_errors=True)
        _build_and_install(source, build, collection, options)
    return target


def install_model(path: str | Path, collection: Collection = "user", force: bool = False) -> Path:
    """Install an exported KIM portable model, whose driver must be installed.

    Args:
        path: The folder that the export wrote; its name is the model's.
        collection: ``user``, ``environment`` (where ``KIM_API_PORTABLE_MODELS_DIR`` points) or ``CWD``.
        force: Replace a model of this name in the collection.

    Returns:
        The folder of the installed model.

    Raises:
        KIMError: No such folder, a model of this name is there, or as for `install_driver`.
    """
    _require_tools()
    source = Path(path).resolve()
    if not (source / "CMakeLists.txt").is_file():
        raise KIMError(
            "not a KIM model: no CMakeLists.txt", where=str(path), remedy="Give the folder the export wrote."
        )
    target = _free_target(source.name, "portable_models", collection)
    if target.exists() and not force:
        raise KIMError("a model of this name is installed", where=str(target), remedy="Force, or remove it first.")
    build = Path(tempfile.mkdtemp(prefix=f"{source.name}-"))
    _build_and_install(source, build, collection, {})
    shutil.rmtree(build)
    return target


def remove_item(name: str) -> None:
    """Remove an installed driver or model, from the first collection in which KIM finds it.

    Raises:
        KIMError: It is not installed, or its folder cannot be removed.
    """
    item = find_item(name)
    if item is None:
        raise KIMError("no such KIM item is installed", value=name, remedy=f"`{_MANAGER} list` shows what is.")
    try:
        shutil.rmtree(item.path)
    except OSError as error:
        raise KIMError(f"cannot be removed: {error.strerror}", where=str(item.path)) from error


def find_item(name: str) -> InstalledItem | None:
    """Return where KIM finds the driver or model ``name``, or ``None``.

    Raises:
        KIMError: The KIM API is not installed.
    """
    for kind in _DIRECTORY_VARIABLES:
        if found := _collections_info(kind, "find", name):
            collection, _, directory = found[0].split(" ", 2)
            return InstalledItem(collection, Path(directory).absolute() / name)
    return None


def is_installed(name: str) -> bool:
    """Whether KIM finds the driver or model ``name``.

    Raises:
        KIMError: The KIM API is not installed.
    """
    return find_item(name) is not None


def private_collection(directory: str | Path) -> dict[str, str]:
    """Make ``directory`` a user collection of its own, and return the environment in which KIM uses it.

    Args:
        directory: Made if missing.

    Returns:
        Environment variables to set; in them, ``collection="user"`` is this folder.
    """
    directory = Path(directory).resolve()
    config = directory / "config"
    lines = []
    for key in ("model-drivers-dir", "portable-models-dir", "simulator-models-dir"):
        (directory / key).mkdir(parents=True, exist_ok=True)
        lines.append(f"{key} = {directory / key}\n")
    config.write_text("".join(lines), encoding="utf-8")
    return {"KIM_API_CONFIGURATION_FILE": str(config)} | dict.fromkeys(_DIRECTORY_VARIABLES.values(), "")


def missing_tools() -> list[str]:
    """Return the programs that are needed here and are not in ``PATH``."""
    return [name for name in _TOOLS if shutil.which(name) is None]


def _require_tools() -> None:
    if missing := missing_tools():
        debian, conda = zip(*(_TOOLS[name] for name in missing), strict=True)
        raise KIMError(
            f"not found: {', '.join(missing)}",
            where="PATH",
            remedy=f"Debian, Ubuntu: apt-get install {' '.join(debian)}. conda: conda install -c conda-forge "
            f"{' '.join(conda)}.",
        )


def _driver_source() -> Path:
    package = Path(__file__).resolve().parents[1]
    for source in (package / "kim_export", package.parents[1] / "kim_export"):
        if (source / "CMakeLists.txt").is_file():
            return source
    raise KIMError("the driver's source is not in this installation", where=str(package), remedy="Reinstall kimgnn.")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kimgnn"


def _library(kind: DriverKind) -> tuple[dict[str, str], str]:
    """CMake's definition of where this Python has what a driver is built on, and the version of that."""
    if kind == "torch":
        import torch

        return {"KIMGNN_TORCH_DIR": str(Path(torch.__file__).parent)}, torch.__version__
    try:
        import onnxruntime
    except ImportError:
        return {}, ""  # CMake looks for the system's
    return {"KIMGNN_ONNXRUNTIME_DIR": str(Path(onnxruntime.__file__).parent / "capi")}, onnxruntime.__version__


def _fingerprint(source: Path, options: Mapping[str, str], version: str) -> str:
    """A hash of all that goes into a driver."""
    digest = hashlib.sha256("\0".join([str(source), *options.values(), version]).encode())
    digest.update("".join(_run([_MANAGER, "--version"])).encode())
    for file in sorted(source.iterdir()):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _free_target(name: str, kind: str, collection: Collection) -> Path:
    """Where the item goes: a folder that can be written and that no other collection hides."""
    target = _collection_directory(kind, collection) / name
    found = find_item(name)
    if found is not None and found.collection in _SEARCHED_FIRST[collection]:
        raise KIMError(
            f"this item would hide the one in the {collection} collection",
            where=str(found.path),
            remedy="Remove that folder first.",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target if target.is_dir() else target.parent):
            pass
    except OSError as error:
        raise KIMError(
            f"the KIM collection cannot be written: {error.strerror}",
            where=str(target.parent),
            remedy="Install into another collection (user, environment, CWD), or make the folder writable.",
        ) from error
    return target


def _build_and_install(source: Path, build: Path, collection: Collection, definitions: Mapping[str, str]) -> None:
    """Configure, compile, test and install with CMake, as KIM's own installer does, but keep ``build``."""
    environment = dict.fromkeys(_DIRECTORY_VARIABLES.values(), str(Path.cwd())) if collection == "CWD" else {}
    options = {"KIM_API_INSTALL_COLLECTION": "USER" if collection == "user" else "ENVIRONMENT", **definitions}
    steps = (
        ["cmake", "-S", str(source), "-B", str(build), *(f"-D{key}={value}" for key, value in options.items())],
        ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)],
        ["cmake", "--build", str(build), "--target", "test"],  # KIM's own: can the library be opened?
        ["cmake", "--install", str(build)],
    )
    build.mkdir(parents=True, exist_ok=True)
    log = build / "build.log"
    log.unlink(missing_ok=True)
    for step in steps:
        with log.open("a", encoding="utf-8") as output:
            done = subprocess.run(step, stdout=output, stderr=output, env=os.environ | environment, check=False)
        if done.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
            raise KIMError(
                f"{source.name} could not be built and installed; the last lines were\n{tail}\n",
                where=str(log),
                remedy="The log has the whole story. `kimgnn doctor` says what is missing here.",
            )


@contextmanager
def _locked(build: Path) -> Iterator[None]:
    """Hold a build folder, for which other processes wait."""
    try:
        build.parent.mkdir(parents=True, exist_ok=True)
        file = build.with_suffix(".lock").open("w")
    except OSError as error:
        raise KIMError(
            f"the cache cannot be written: {error.strerror}",
            where=str(build.parent),
            remedy="Set XDG_CACHE_HOME to a folder that can.",
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _collection_directory(kind: str, collection: Collection) -> Path:
    if collection not in get_args(Collection):
        raise KIMError("unknown collection", value=collection, allowed=", ".join(get_args(Collection)))
    if collection == "CWD":
        return Path.cwd()
    directories = _collections_info("config_file" if collection == "user" else "env", kind)
    if not directories:
        raise KIMError(
            "the environment names no KIM collection",
            where=_DIRECTORY_VARIABLES[kind],
            remedy="Set it to a folder, or install into the user collection.",
        )
    return Path(directories[0])


def _collections_info(*arguments: str) -> list[str]:
    """The lines that KIM's own inquiry tool answers."""
    manager = shutil.which(_MANAGER)
    if manager is None:
        _require_tools()
    tool = Path(str(manager)).resolve().parents[1] / "libexec" / "kim-api" / "kim-api-collections-info"
    return _run([str(tool), *arguments])


def _run(command: Sequence[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KIMError(f"failed: {(done.stderr or done.stdout).strip()}", where=" ".join(command))
    return [line for line in done.stdout.splitlines() if line]
