"""The gate that an export passes: its files agree with PyTorch in every runtime that is installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms

from kimgnn import __version__
from kimgnn.calculator import KimgnnCalculator
from kimgnn.errors import ExportError, ModelError, Problem
from kimgnn.evaluation.predict import Prediction
from kimgnn.export.driver import driver_name, install_driver, install_model, missing_tools, private_collection
from kimgnn.export.formats import FORMATS
from kimgnn.export.lammps import has_kim_package
from kimgnn.export.parameter_file import PARAMETER_FILE, read_parameters
from kimgnn.export.portable_model import SAMPLES, STRUCTURE
from kimgnn.files import atomic_write
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import Network
from kimgnn.models.tabulation import Tabulation
from kimgnn.verify.parity import Found, ParityTable, compare, simulator_predictions, torch_predictions, worst_of
from kimgnn.verify.parity_structures import parity_structures
from kimgnn.verify.simulators import without_labels

RANKS: Final = (1, 2)

REPEATS: Final = 5
"""Evaluations of a structure by a file in Python, on all cores: threads that race err now and then."""

PACKAGES: Final = ("torch", "onnxruntime", "ase", "kimpy", "numpy")

Tell = Callable[[str], None]


def approve_exports(
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    rejected: Path,
    tell: Tell = print,
    tabulation: Tabulation | None = None,
) -> None:
    """Put ``parity.md`` and ``parity.json`` into exported folders whose files agree with PyTorch.

    The files are run in Python; installed into a KIM collection of their own, in ASE; and in LAMMPS on one and two
    ranks. Every structure has to be computed by every runtime: none is beyond one of them in principle. What is not
    installed here, KIM or LAMMPS, is told and stands in the table, but is no failure: a model may be exported on one
    machine for another.

    Args:
        folders: One a format, as `kimgnn.export.portable_model` writes them.
        checkpoint: What was exported.
        rejected: Where the table is written if they do not agree; otherwise a file there of before is removed.
        tell: Gets lines for the user.
        tabulation: What was exported in the place of the checkpoint's network, and is compared with its files.

    Raises:
        ExportError: A runtime differs by more than is allowed, or refuses a structure; the message names the runtime,
            the structure, the quantity and the difference.
        KIMError: A driver or a model cannot be built, or installed.
    """
    structures = gate_structures(checkpoint)
    network, tables = checkpoint.network, ""
    if tabulation is not None:
        network, tables = tabulation.network, str(tabulation)
    missing = missing_runtimes()
    for what, why in missing.items():
        tell(f"not compared with PyTorch: {what}, since {why}")
    table = _compare(folders, network, structures, missing, tell)
    name = folders[0].name
    if not table.passed:
        with atomic_write(rejected) as file:
            file.write(_markdown(name, table, structures, missing, tables))
        problems = table.problems()
        raise ExportError(
            problems=[
                Problem(name, "was not exported: it is not what was trained", remedy=f"The whole table: {rejected}"),
                *problems[:10],
            ]
        )
    rejected.unlink(missing_ok=True)
    for folder in folders:
        (folder / "parity.md").write_text(_markdown(folder.name, table, structures, missing, tables), encoding="utf-8")
        (folder / "parity.json").write_text(_json(table, structures, missing, tabulation), encoding="utf-8")
    tell(str(table))


def gate_structures(checkpoint: Checkpoint) -> dict[str, Atoms]:
    """Return the structures that an export is tried on, by name; see `parity_structures`."""
    data, network = checkpoint.data, checkpoint.network
    # Checkpoints of before remember one structure.
    samples = data.get(SAMPLES) or ([data[STRUCTURE]] if STRUCTURE in data else [])
    return parity_structures([Atoms(**sample) for sample in samples], network.spec.species, network.cutoff)


def what_is_compared(checkpoint: Checkpoint, formats: Iterable[str]) -> str:
    """Return in words what `approve_exports` does where everything is installed."""
    files = " and ".join(FORMATS[name].file for name in formats)
    structures = gate_structures(checkpoint)
    return (
        f"energy, energies of atoms, forces and stress by {files}, in Python, through KIM in ASE, and in LAMMPS on "
        f"{' and '.join(map(str, RANKS))} ranks, for {len(structures)} structures ({', '.join(structures)})"
    )


def missing_runtimes() -> dict[str, str]:
    """Return what cannot be run on this machine, with the reason."""
    reason = ""
    if tools := missing_tools():
        reason = f"{', '.join(tools)} {'is' if len(tools) == 1 else 'are'} missing"
    elif find_spec("kimpy") is None:
        reason = "kimpy is missing (pip install kimgnn[kim])"
    if reason:
        return {"KIM in ASE and LAMMPS": reason}
    if shutil.which("lmp") is None:
        return {"LAMMPS": "lmp is missing"}
    if not has_kim_package():
        return {"LAMMPS": "lmp was built without its KIM package"}
    if shutil.which("mpirun") is None:
        return {"LAMMPS on 2 ranks": "mpirun is missing"}
    return {}


def _compare(
    folders: Sequence[Path], network: Network, named: Mapping[str, Atoms], missing: Mapping[str, str], tell: Tell
) -> ParityTable:
    structures = list(named.values())
    precision = network.spec.precision
    expected = torch_predictions(network, structures)
    files = {folder: read_parameters(folder / PARAMETER_FILE) for folder in folders}
    rows = []
    for folder, parameters in files.items():
        tell(f"comparing {parameters.model} with PyTorch in Python: {len(structures)} structures")
        runtime = f"{parameters.model} in Python"
        with all_threads():
            repeats = _file_predictions(folder / parameters.model, structures)
        rows.append(worst_of([compare(runtime, structures, expected, found, precision) for found in repeats]))
    if "KIM in ASE and LAMMPS" in missing:
        return ParityTable(list(named), precision, rows)

    ranks = [count for count in RANKS if "LAMMPS" not in missing and f"LAMMPS on {count} ranks" not in missing]
    with _kim_collection():
        for kind in sorted({FORMATS[parameters.backend].driver for parameters in files.values()}):
            tell(f"installing {driver_name(kind)} into a KIM collection for this; to build it takes a minute, once")
            install_driver(kind)
        for folder, parameters in files.items():
            tell(f"comparing {parameters.model} with PyTorch in ASE{' and LAMMPS' if ranks else ''}")
            install_model(folder)
            simulated = simulator_predictions(folder.name, structures, network.spec.species, ranks)
            for simulator, found in simulated.items():
                runtime = f"{parameters.model} in {simulator}"
                rows.append(compare(runtime, structures, expected, found, precision))
    return ParityTable(list(named), precision, rows)


def _file_predictions(path: Path, structures: Sequence[Atoms]) -> list[list[Found]]:
    """What a file says, `REPEATS` times."""
    try:
        calculator = KimgnnCalculator(path)
    except ModelError as error:
        return [[error] * len(structures)]
    return [[_file_prediction(calculator, without_labels(atoms)) for atoms in structures] for _ in range(REPEATS)]


def _file_prediction(calculator: KimgnnCalculator, atoms: Atoms) -> Found:
    try:
        calculator.calculate(atoms)
    except Exception as error:  # every runtime raises kinds of its own
        return ModelError(f"{type(error).__name__}: {error}")
    results: dict[str, Any] = calculator.results
    stress = results.get("stress", np.full(6, np.nan))
    return Prediction(float(results["energy"]), results["forces"], stress, results["energies"])


@contextmanager
def all_threads() -> Iterator[None]:
    """Let torch, and ONNX Runtime after it, use every core, and two at least."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, len(os.sched_getaffinity(0))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _kim_collection() -> Iterator[None]:
    """Let KIM, here and in the programs started from here, see an empty collection in place of the user's."""
    with tempfile.TemporaryDirectory() as directory:
        collection = private_collection(directory)
        before = {name: os.environ.get(name) for name in collection}
        os.environ.update(collection)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _markdown(
    name: str, table: ParityTable, structures: Mapping[str, Atoms], missing: Mapping[str, str], tables: str
) -> str:
    """Return ``parity.md``."""
    of_tables = f"\nIn this network, {tables}.\n" if tables else ""
    described = "".join(f"| {label} | {atoms.get_chemical_formula()} | {_periodic(atoms)} |\n"
                        for label, atoms in structures.items())  # fmt: skip
    not_run = "".join(f"- Not run: {what}, since {why}.\n" for what, why in missing.items())
    verdict = "Within what is allowed." if table.passed else "**Beyond what is allowed.**"
    numbers = ", ".join(f"{package} {number}" for package, number in versions().items())
    return f"""\
# {name}: parity with PyTorch

{verdict} Largest differences from the network in PyTorch, in {table.precision} precision, over {len(structures)}
structures; in Python, each computed {REPEATS} times on all cores.
{of_tables}
{table}
{not_run}
| structure | formula | periodic |
|---|---|---|
{described}
{numbers}
"""


def _json(
    table: ParityTable,
    structures: Mapping[str, Atoms],
    missing: Mapping[str, str],
    tabulation: Tabulation | None,
) -> str:
    """Return ``parity.json``: the difference of each quantity, for each structure, in each runtime."""
    runtimes: dict[str, Any] = {}
    for row in table.rows:
        runtimes[row.runtime] = dict(zip(table.structures, row.differences, strict=True))
    content: dict[str, Any] = {
        "passed": table.passed,
        "precision": table.precision,
        "allowed": table.tolerances,
        "units": table.units,
        "structures": {label: atoms.get_chemical_formula() for label, atoms in structures.items()},
        "differences": runtimes,
        "not_run": missing,
        "versions": versions(),
    }
    if tabulation is not None:
        content["tables"] = {
            "intervals": tabulation.intervals,
            "energy_error": tabulation.energy_error,
            "forces_error": tabulation.forces_error,
        }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _periodic(atoms: Atoms) -> str:
    return "".join(axis for axis, periodic in zip("xyz", atoms.pbc, strict=True) if periodic) or "no"


def versions() -> dict[str, str]:
    """Return package -> version, of those that an export runs in."""
    found = {"kimgnn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
