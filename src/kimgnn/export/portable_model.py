"""A KIM portable model: the folder that KIM builds, installs and hands to simulators."""

from __future__ import annotations

import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from ase import Atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ExportError
from kimgnn.export import documents, torchml
from kimgnn.export.driver import driver_name
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.lammps import DATA_FILE
from kimgnn.export.lammps_data import write_data
from kimgnn.export.lammps_decks import decks
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.torchscript import save
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.physics.potential import CoordinatePotential
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.radial_graph import radial_graph

TORCHML_VERSION: Final = "001"

STRUCTURE: Final = "structure"
"""Key of a checkpoint's ``data``: a training structure as the arguments of `ase.Atoms`, plain lists."""

SAMPLES: Final = "samples"
"""Key of a checkpoint's ``data``: a few structures, not trained on if there were such, in which to try an export."""

ATOMS_PER_STRUCTURE: Final = "atoms_per_structure"
"""Key of a checkpoint's ``data``: number of atoms, if every training structure has the same."""


@dataclass(frozen=True)
class _Model:
    """What a folder is written around."""

    name: str
    file: str
    write: Callable[[Path], None]
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
    formats: Sequence[str] = ("torchscript",),
    driver: Literal["kimgnn", "torchml"] = "kimgnn",
    driver_version: str | None = None,
    structure: Atoms | None = None,
    tarball: bool = False,
    force: bool = False,
    approve: Callable[[Sequence[Path]], None] | None = None,
) -> Path:
    """Write ``checkpoint`` as a KIM portable model in each format, all of them whole or none.

    Args:
        checkpoint: A trained network; or, in its place, a `CoordinatePotential` of a module written for KLIFF's
            ``RadialGraph``, which the TorchML driver runs.
        name: The KIM name, and the folder's, of the model in the first format; `formats.model_names` has the others.
        directory: Where the folders are made.
        formats: Of `formats.FORMATS`; ``torchscript`` alone for the TorchML driver.
        driver: ``kimgnn`` for our drivers, ``torchml`` for the official TorchML driver.
        driver_version: Three digits, of the TorchML driver; ``001`` when absent.
        structure: What the LAMMPS decks run; by default the one that the checkpoint remembers.
        tarball: Also write ``<name>.tar.gz`` beside each folder.
        force: Replace folders of these names.
        approve: Called with the folders, in the formats' order, before they are in their place: it may add files, and
            nothing is left of the export if it raises.

    Returns:
        The folder of the model in the first format.

    Raises:
        ExportError: The name breaks KIM's rule, a folder exists, or cannot be written, or the model cannot be
            exported, with the reason.
    """
    _refuse_nearest_neighbors(checkpoint)
    names = model_names(name, formats)
    targets = [Path(directory) / model_name for model_name in names.values()]
    for target in targets:
        _refuse_if_taken(target, force)
    if structure is None and STRUCTURE in checkpoint.data:
        structure = Atoms(**checkpoint.data[STRUCTURE])

    if driver == "torchml":
        if list(formats) != ["torchscript"]:
            raise ExportError(
                "the TorchML driver runs TorchScript only",
                where="export.formats",
                value=list(formats),
                allowed="[torchscript]",
                remedy="Take the driver kimgnn, or torchscript alone.",
            )
        models = [_for_torchml(checkpoint, name, driver_version or TORCHML_VERSION, structure)]
    else:
        models = [_for_kimgnn(checkpoint, names[format_], format_) for format_ in formats]
    for model in models:
        if model.note:
            warnings.warn(model.note, stacklevel=2)

    with _told_as_export_error(targets[0]):
        targets[0].parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=f".{name}.")
    # Written beside their places, then moved there.
    with temporary as staging:
        folders = [Path(staging) / target.name for target in targets]
        with _told_as_export_error(targets[0]):
            for folder, model in zip(folders, models, strict=True):
                folder.mkdir()
                _write(folder, model, checkpoint, structure)
        if approve is not None:
            approve(folders)
        with _told_as_export_error(targets[0]):
            for folder, target in zip(folders, targets, strict=True):
                _move(folder, target, tarball)
    return targets[0]


def _refuse_nearest_neighbors(checkpoint: Checkpoint) -> None:
    options = checkpoint.transform.get("kwargs", {})
    if checkpoint.transform.get("name") == "CrystalGraph" and CrystalGraph(**options).max_neighbors is not None:
        raise ExportError(
            "the model cannot be a potential: it was trained on the nearest neighbours, whose energy jumps where two of "
            "them change places",
            where="export",
            remedy="Train it on all of them: transforms.configuration.kwargs.max_neighbors: null.",
        )


def _refuse_if_taken(target: Path, force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ExportError("is a file", where=str(target), remedy="Choose another name or folder.")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise ExportError("exists already", where=str(target), remedy="Choose another name or folder, or force.")


@contextmanager
def _told_as_export_error(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot be written: {error.strerror}", where=str(where)) from error


def _for_kimgnn(checkpoint: Checkpoint, name: str, format_name: str) -> _Model:
    network = checkpoint.network
    if isinstance(network, CoordinatePotential):
        raise ExportError(
            "a module given as model= takes coordinates, and our drivers give it edge vectors",
            where="export.driver",
            value="kimgnn",
            allowed="torchml",
        )
    chosen = FORMATS[format_name]
    species = network.spec.species
    parameters = Parameters(format_name, chosen.file, network.cutoff, network.num_layers, species)
    metadata = documents.file_metadata(network, _without_machine(checkpoint.manifest))
    return _Model(
        name,
        chosen.file,
        lambda path: chosen.write(network, path, metadata),
        species,
        network.cutoff,
        network.num_layers,
        driver_name(chosen.driver),
        PARAMETER_FILE,
        str(parameters),
    )


def _for_torchml(checkpoint: Checkpoint, name: str, version: str, structure: Atoms | None) -> _Model:
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
    file = FORMATS["torchscript"].file
    return _Model(
        name,
        file,
        lambda path: save(script, path),
        species,
        cutoff,
        n_layers,
        f"{torchml.DRIVER_ID}_{version}",
        torchml.PARAMETER_FILE,
        torchml.parameter_file(species, cutoff, n_layers, file),
        note,
    )


def _write(folder: Path, model: _Model, checkpoint: Checkpoint, structure: Atoms | None) -> None:
    model.write(folder / model.file)
    manifest = _without_machine(checkpoint.manifest)
    data = {key: value for key, value in checkpoint.data.items() if key not in (STRUCTURE, SAMPLES)}
    texts = {
        model.parameter_file: model.parameters,
        "CMakeLists.txt": documents.cmake(model.name, model.driver, [model.file, model.parameter_file]),
        "kimspec.edn": documents.kimspec(model.name, model.driver, model.species, manifest),
        "training_env.edn": documents.training_environment(),
        "manifest.yaml": yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True),
        "README.md": documents.readme(
            model.name,
            model.driver,
            model.species,
            file=model.file,
            cutoff=model.cutoff,
            n_layers=model.n_layers,
            manifest=manifest,
            heads=[] if isinstance(checkpoint.network, CoordinatePotential) else checkpoint.network.spec.heads,
            metrics=checkpoint.metrics,
            data=_without_machine(data),
            with_decks=structure is not None,
            note=model.note,
        ),
    }
    if structure is not None:
        box = write_data(folder / DATA_FILE, structure, model.species)
        texts |= decks(model.name, model.species, box.boundary)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def _move(folder: Path, target: Path, tarball: bool) -> None:
    archive = folder.with_name(f"{folder.name}.tar.gz")
    if tarball:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, arcname=folder.name, filter=_anonymous)
    if target.is_dir():
        os.rename(target, folder.with_name(f"{folder.name}.replaced"))
    os.rename(folder, target)
    if tarball:
        os.replace(archive, target.with_name(archive.name))


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
