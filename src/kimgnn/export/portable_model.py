"""A KIM portable model: the folder that KIM builds, installs and hands to simulators."""

from __future__ import annotations

import os
import tarfile
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml
from ase import Atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ExportError
from kimgnn.export import documents, torchml
from kimgnn.export.driver import DRIVER_NAME
from kimgnn.export.lammps import DATA_FILE, npt_deck, nve_deck
from kimgnn.export.lammps_data import write_data
from kimgnn.export.torchscript import export_torchscript, save
from kimgnn.kim_id import parse_model_name
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.physics.potential import CoordinatePotential
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.radial_graph import radial_graph

MODEL_FILE: Final = "model.pt"
PARAMETER_FILE: Final = "kimgnn.param"
TORCHML_VERSION: Final = "001"

STRUCTURE: Final = "structure"
"""Key of a checkpoint's ``data``: a training structure as the arguments of `ase.Atoms`, plain lists."""

ATOMS_PER_STRUCTURE: Final = "atoms_per_structure"
"""Key of a checkpoint's ``data``: number of atoms, if every training structure has the same."""


@dataclass(frozen=True)
class _Model:
    """What the folder is written around."""

    script: torch.jit.ScriptModule
    species: list[str]
    cutoff: float
    n_layers: int
    driver: str
    parameter_file: str
    parameters: str
    note: str = ""


def export_portable_model(
    checkpoint: Checkpoint,
    name: str,
    directory: str | Path,
    *,
    driver: Literal["kimgnn", "torchml"] = "kimgnn",
    driver_version: str | None = None,
    structure: Atoms | None = None,
    tarball: bool = False,
    force: bool = False,
) -> Path:
    """Write ``checkpoint`` as a KIM portable model, whole or not at all, and return its folder.

    Args:
        checkpoint: A trained network; or, in its place, a `CoordinatePotential` of a module written for KLIFF's
            ``RadialGraph``, which the TorchML driver runs.
        name: The model's KIM name, and the folder's.
        directory: Where the folder is made.
        driver: ``kimgnn`` for our driver, ``torchml`` for the official TorchML driver.
        driver_version: Three digits, of the TorchML driver; ``001`` when absent.
        structure: What the LAMMPS decks run; by default the one that the checkpoint remembers.
        tarball: Also write ``<name>.tar.gz`` beside the folder.
        force: Replace a folder of this name.

    Raises:
        ExportError: The name breaks KIM's rule, the folder exists, or cannot be written, or the model cannot be
            exported, with the reason.
    """
    parse_model_name(name)
    target = Path(directory) / name
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not force:
        raise ExportError("exists already", where=str(target), remedy="Choose another name or folder, or force.")
    if structure is None and STRUCTURE in checkpoint.data:
        structure = Atoms(**checkpoint.data[STRUCTURE])

    if driver == "torchml":
        model = _for_torchml(checkpoint, driver_version or TORCHML_VERSION, structure)
    else:
        model = _for_kimgnn(checkpoint)
    if model.note:
        warnings.warn(model.note, stacklevel=2)

    try:
        _write_whole(target, model, checkpoint, structure, tarball)
    except OSError as error:
        raise ExportError(f"cannot be written: {error.strerror}", where=str(target)) from error
    return target


def _for_kimgnn(checkpoint: Checkpoint) -> _Model:
    network = checkpoint.network
    if isinstance(network, CoordinatePotential):
        raise ExportError(
            "a module given as model= takes coordinates, and our driver gives it edge vectors",
            where="export.driver",
            value="kimgnn",
            allowed="torchml",
        )
    species = network.spec.species
    parameters = (
        f"kimgnn 1\nbackend torchscript\nmodel {MODEL_FILE}\ncutoff {float(network.cutoff)!r}\n"
        f"layers {network.num_layers}\nspecies {' '.join(species)}\n"
    )
    script = export_torchscript(network)
    return _Model(script, species, network.cutoff, network.num_layers, DRIVER_NAME, PARAMETER_FILE, parameters)


def _for_torchml(checkpoint: Checkpoint, version: str, structure: Atoms | None) -> _Model:
    network, note = checkpoint.network, ""
    if isinstance(network, CoordinatePotential):
        options = checkpoint.transform["kwargs"]
        species, cutoff, n_layers = torchml.order_species(options["species"]), options["cutoff"], options["n_layers"]
        if structure is None:
            raise ExportError("a structure is needed to find out what the module returns", where="export")
        example = radial_graph(
            configuration_from_atoms(structure), TRANSFORMS.get("RadialGraph")(species, cutoff, n_layers)
        )
        script, per_atom = torchml.export_module(
            network, species, n_layers, example, checkpoint.data.get(ATOMS_PER_STRUCTURE)
        )
        if not per_atom:
            note = "The network gives only total energies: the first atom's energy holds the total, the others are 0."
    else:
        species, cutoff, n_layers = torchml.order_species(network.spec.species), network.cutoff, network.num_layers
        script = torchml.export_network(network, species)
    return _Model(
        script,
        species,
        cutoff,
        n_layers,
        f"{torchml.DRIVER_ID}_{version}",
        torchml.PARAMETER_FILE,
        torchml.parameter_file(species, cutoff, n_layers, MODEL_FILE),
        note,
    )


def _write_whole(target: Path, model: _Model, checkpoint: Checkpoint, structure: Atoms | None, tarball: bool) -> None:
    """Write the folder beside its place, then move it there."""
    name = target.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as temporary:
        folder, archive = Path(temporary) / name, Path(temporary) / f"{name}.tar.gz"
        folder.mkdir()
        _write(folder, name, model, checkpoint, structure)
        if tarball:
            with tarfile.open(archive, "w:gz") as file:
                file.add(folder, arcname=name, filter=_anonymous)
        if target.is_dir():
            os.rename(target, Path(temporary) / "replaced")
        os.rename(folder, target)
        if tarball:
            os.replace(archive, target.with_name(archive.name))


def _write(folder: Path, name: str, model: _Model, checkpoint: Checkpoint, structure: Atoms | None) -> None:
    save(model.script, folder / MODEL_FILE)
    manifest = _without_machine(checkpoint.manifest)
    texts = {
        model.parameter_file: model.parameters,
        "CMakeLists.txt": documents.cmake(name, model.driver, [MODEL_FILE, model.parameter_file]),
        "kimspec.edn": documents.kimspec(name, model.driver, model.species, manifest),
        "training_env.edn": documents.training_environment(),
        "manifest.yaml": yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True),
        "README.md": documents.readme(
            name,
            model.driver,
            model.species,
            cutoff=model.cutoff,
            n_layers=model.n_layers,
            manifest=manifest,
            heads=[] if isinstance(checkpoint.network, CoordinatePotential) else checkpoint.network.spec.heads,
            metrics=checkpoint.metrics,
            data=_without_machine({k: v for k, v in checkpoint.data.items() if k != STRUCTURE}),
            with_decks=structure is not None,
            note=model.note,
        ),
    }
    if structure is not None:
        box = write_data(folder / DATA_FILE, structure, model.species)
        texts["in.nve"] = nve_deck(name, model.species, box.boundary)
        if all(structure.pbc):
            texts["in.npt"] = npt_deck(name, model.species)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def _without_machine(value: Any) -> Any:
    """Return plain values in which a path of this machine is its last part only."""
    if isinstance(value, dict):
        return {key: _without_machine(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_machine(item) for item in value]
    if isinstance(value, str) and Path(value).expanduser().is_absolute():
        return Path(value).name
    return value


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
