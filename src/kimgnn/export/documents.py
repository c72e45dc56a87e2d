"""What accompanies the weights of a KIM portable model: build file, metadata, versions, README."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from kimgnn import __version__
from kimgnn.export.contract import contract_of
from kimgnn.export.driver import DRIVERS
from kimgnn.export.lammps_decks import DECKS
from kimgnn.models.network import Network
from kimgnn.models.tasks import Task, tasks_of

NO_ID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the people of a model until they put in their openkim.org ids, which uploading needs."""

PACKAGES: Final = ("torch", "torch_geometric", "lightning", "kliff", "ase", "numpy", "vesin")

FORMAT_NAMES: Final = {".pt": "TorchScript", ".onnx": "ONNX", ".pt2": "torch.export, compiled by AOTInductor"}
"""By a file's suffix."""

METRIC_UNITS: Final = {"energy": "meV/atom", "forces": "eV/Å", "stress": "GPa"}


PARITY: Final = """\
## Parity

`parity.md` compares this model with PyTorch: the file in Python, through KIM in ASE, and in LAMMPS, as far as they were
installed. Where it is missing, the model was written without that check.
"""


_COMMITTEE: Final = """\
## How sure it is

Energy, forces and stress are the means of {n} networks trained from different seeds; their standard deviations say
where the model knows little. In Python, without KIM:

```python
from kimgnn.calculator import KimgnnCalculator
atoms.calc = KimgnnCalculator("{file}")
atoms.get_forces()
atoms.calc.results["forces_deviation"]   # and energy_deviation, energies_deviation, stress_deviation
```

A simulator asks through the KIM API by the extension `kimgnn_committee_deviation` (`kim_export/README.md` of kimgnn).
"""


def cmake(name: str, driver: str, parameter_files: Sequence[str]) -> str:
    """Return the model's ``CMakeLists.txt``."""
    files = "".join(f'\n    "{file}"' for file in parameter_files)
    return f"""\
cmake_minimum_required(VERSION 3.10)

list(APPEND CMAKE_PREFIX_PATH $ENV{{KIM_API_CMAKE_PREFIX_DIR}})
find_package(KIM-API-ITEMS 2.2 REQUIRED CONFIG)
kim_api_items_setup_before_project(ITEM_TYPE "portableModel")
project({name} LANGUAGES CXX)
kim_api_items_setup_after_project(ITEM_TYPE "portableModel")

add_kim_api_model_library(
  NAME ${{PROJECT_NAME}}
  DRIVER_NAME "{driver}"
  PARAMETER_FILES{files}
)
"""


def kimspec(
    name: str, driver: str, species: Sequence[str], manifest: Mapping[str, Any], tables: str = "", n_members: int = 1
) -> str:
    """Return ``kimspec.edn`` with every key that a portable model must have.

    Args:
        name: The model's KIM name.
        driver: Its driver's.
        species: Elements.
        manifest: Of the run.
        tables: What is said of tables in it, if there are any.
        n_members: Networks of a committee.
    """
    elements = ", ".join(species)
    committee = f" Energy and forces are the means of {n_members} networks." if n_members > 1 else ""
    entries: dict[str, str | list[str]] = {
        "extended-id": name,
        "kim-item-type": "portable-model",
        "kim-api-version": "2.3",
        "model-driver": driver,
        "title": f"{architecture(manifest)} graph neural network potential for {elements}",
        "description": f"A graph neural network potential for {elements}, trained with kimgnn; README.md has the "
        f"data, the errors and the units, manifest.yaml every setting.{committee}"
        + (f" In it, {tables}." if tables else ""),
        "potential-type": "graph neural network",
        "species": list(species),
        "contributor-id": NO_ID,
        "maintainer-id": NO_ID,
        "developer": [NO_ID],
        "content-origin": f"Trained with kimgnn {__version__}",
        "date": date.today().isoformat(),
        "domain": "openkim.org",
        "repository": "local",
    }
    return "{\n" + "".join(f" {json.dumps(key)} {_edn(value)}\n" for key, value in entries.items()) + "}\n"


def training_environment() -> str:
    """Return ``training_env.edn``: versions, and nothing that tells of the machine or its user."""
    versions = {"python": platform.python_version(), "kimgnn": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return "{\n" + "".join(f" {json.dumps(key)} {json.dumps(value)}\n" for key, value in versions.items()) + "}\n"


def file_metadata(network: Network, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what an exported file says of itself, where its format holds such.

    Args:
        network: What is exported.
        manifest: Of the run, without what tells of the machine.
    """
    return {
        "kimgnn_version": __version__,
        "torch_version": version("torch"),
        "architecture": network.spec.architecture,
        "species": " ".join(network.spec.species),
        "cutoff": repr(float(network.cutoff)),
        "layers": str(network.num_layers),
        "precision": network.spec.precision,
        "units": "eV, Å",
        "manifest_hash": hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest(),
        "contract": str(contract_of(network)),
    }


def readme(
    name: str,
    driver: str,
    species: Sequence[str],
    *,
    file: str,
    cutoff: float,
    n_layers: int,
    manifest: Mapping[str, Any],
    heads: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    data: Mapping[str, Any],
    with_decks: bool,
    n_members: int = 1,
    tables: str = "",
    note: str = "",
) -> str:
    """Return ``README.md``.

    Args:
        name: The model's KIM name.
        driver: Its driver's.
        species: Elements, in the order of KIM's codes and of the LAMMPS types in the decks.
        file: Name of the file with the network.
        cutoff: Å.
        n_layers: Message-passing layers.
        manifest: Of the run.
        heads: The network's heads, with what was fitted as numbers; none of a module given as ``model=``.
        metrics: Name -> value.
        data: What it was trained on.
        with_decks: Whether LAMMPS decks are in the folder.
        n_members: Networks of a committee.
        tables: What is said of tables in the network, if there are any.
        note: A warning to users of this model.
    """
    elements = " ".join(species)
    members = f", a committee of {n_members}" if n_members > 1 else ""
    facts = {
        "species": elements,
        "architecture": architecture(manifest) + members,
        "cutoff": f"{cutoff:g} Å",
        "influence distance": f"{cutoff * n_layers:g} Å ({n_layers} message-passing layers)",
        "precision": manifest.get("model", {}).get("precision", "double"),
        "units": "Å, eV, eV/Å; stress eV/Å³",
        "energy zero": _energy_zero(heads),
        "format": f"{FORMAT_NAMES[Path(file).suffix]}, `{file}`",
        "model driver": f"`{driver}`",
    }
    if tables:
        facts["tables"] = tables
    sections = [f"# {name}\n", table(facts)]
    if note:
        sections.append(f"**Note:** {note}\n")
    sections += data_and_errors(data, metrics, tasks_of(heads))
    sections.append(_how_to_run(name, driver, elements, with_decks))
    if n_members > 1:
        sections.append(_COMMITTEE.format(n=n_members, file=file))
    if driver in DRIVERS:
        sections.append(PARITY)
    sections.append(versions())
    sections.append(
        "`kimspec.edn` holds placeholder ids of contributor, maintainer and developer: put in yours of openkim.org "
        "before uploading.\n"
    )
    return "\n".join(sections)


def without_machine(value: Any) -> Any:
    """Return plain values in which a path of this machine is its last part only."""
    if isinstance(value, dict):
        return {key: without_machine(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine(item) for item in value]
    if isinstance(value, str) and Path(value).expanduser().is_absolute():
        return Path(value).name
    return value


def data_and_errors(data: Mapping[str, Any], metrics: Mapping[str, float], tasks: Sequence[Task]) -> list[str]:
    """Return the README's sections on what a network was trained on, and how well, as far as known."""
    sections = []
    if data:
        sections.append("## Data\n\n" + table({key: _short(value) for key, value in data.items() if value}))
    if metrics:
        errors = {key: f"{value:.6g}{_unit(key, tasks)}" for key, value in sorted(metrics.items())}
        sections.append("## Errors\n\n" + table(errors))
    return sections


def versions() -> str:
    """Return the README's section on what the model was made with."""
    found = [line.strip().replace('"', "") for line in training_environment().splitlines()[1:-1]]
    return "## Versions\n\n" + ", ".join(found) + "\n"


def architecture(manifest: Mapping[str, Any]) -> str:
    """Return what the manifest calls the network."""
    model = manifest.get("model", {})
    return str(model.get("architecture") or model.get("name") or "custom")


def table(rows: Mapping[str, str]) -> str:
    """Return rows of two columns in Markdown."""
    return "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())


def _how_to_run(name: str, driver: str, elements: str, with_decks: bool) -> str:
    driver_step = (
        f"kimgnn driver install {DRIVERS[driver]}   # once"
        if driver in DRIVERS
        else f"kim-api-collections-management install user {driver}   # once"
    )
    decks = (
        "\nInput files for `structure.data`; `in.npt` and `in.elastic` if it is periodic in three directions:\n\n"
        + table({f"`{file}`": what for file, what in DECKS.items()})
        + "\n`lmp -in in.nve -var temperature 600 -var steps 10000` sets variables that stand at the top of the file;\n"
        "`-var units real` runs it in LAMMPS's `real` units.\n"
        if with_decks
        else ""
    )
    return f"""\
## Install and run

```sh
{driver_step}
kim-api-collections-management install user ./{name}
```

ASE:

```python
from ase.calculators.kim import KIM
atoms.calc = KIM("{name}")
```

LAMMPS, one atom type for each of `{elements}`, in this order:

```
kim init         {name} metal
kim interactions {elements}
```
{decks}"""


def _energy_zero(heads: Sequence[Mapping[str, Any]]) -> str:
    for head in heads:
        reference = head.get("reference_energies")
        if head.get("type") == "energy" and isinstance(reference, Mapping):
            values = ", ".join(f"{symbol} {energy:.6g} eV" for symbol, energy in reference.items())
            return f"that of the training data; reference energies of the elements: {values}"
    return "that of the training data"


def _unit(metric: str, tasks: Sequence[Task]) -> str:
    """Return the unit of a metric called by split, label and kind of error: ``val_forces_mae``."""
    named = {task.name: task.unit for task in tasks if task.unit}
    named |= {f"{task.name}_mae_per_atom": f"{task.unit}/atom" for task in tasks if task.unit}
    label = metric.partition("_")[2].removesuffix("_mae").removesuffix("_rmse")
    unit = (METRIC_UNITS | named).get(label)
    return f" {unit}" if unit else ""


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _edn(value: str | list[str]) -> str:
    if isinstance(value, list):
        return "[" + " ".join(json.dumps(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
