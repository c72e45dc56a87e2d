"""A KIM portable model: the folder that KIM builds, installs and hands to simulators."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import yaml
from ase import Atoms

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import ExportError
from kimgnn.evaluation.domain import SUMMARY
from kimgnn.export import documents, torchml
from kimgnn.export.calibrated import calibration_section, potential_calibration, potential_section
from kimgnn.export.driver import driver_name
from kimgnn.export.folders import refuse_if_taken, write_folders
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.lammps import DATA_FILE
from kimgnn.export.lammps_data import write_data
from kimgnn.export.lammps_decks import decks
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.property_contract import describe_properties
from kimgnn.export.property_documents import how_to_use
from kimgnn.export.property_package import has_properties, property_file, write_property_file
from kimgnn.export.torchscript import save
from kimgnn.models.checkpoint import CALIBRATION, Checkpoint
from kimgnn.models.tabulation import Tabulation
from kimgnn.physics.potential import CoordinatePotential
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.radial_graph import radial_graph

TORCHML_VERSION: Final = "001"

STRUCTURE: Final = "structure"
"""Key of a checkpoint's ``data``: a training structure as the arguments of `ase.Atoms`, plain lists."""

SAMPLES: Final = "samples"
"""Key of a checkpoint's ``data``: a few structures, not trained on if there were such, in which to try an export."""

ELEMENTS: Final = "elements"
"""Key of a checkpoint's ``data``: elements that were trained on; absent in checkpoints of before."""

ATOMS_PER_STRUCTURE: Final = "atoms_per_structure"
"""Key of a checkpoint's ``data``: number of atoms, if every training structure has the same."""


@dataclass(frozen=True)
class _Model:
    """What a folder is written around."""

    name: str
    format_name: str
    file: str
    write: Callable[[Path], None]
    species: list[str]
    cutoff: float
    n_layers: int
    driver: str
    parameter_file: str
    parameters: str
    note: str = ""
    n_members: int = 1


def export_portable_model(
    checkpoint: Checkpoint,
    name: str,
    directory: str | Path,
    *,
    formats: Sequence[str] = ("torchscript",),
    driver: Literal["kimgnn", "torchml"] = "kimgnn",
    driver_version: str | None = None,
    structure: Atoms | None = None,
    tabulation: Tabulation | None = None,
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
        tabulation: Of the checkpoint's network: it is written in the network's place, for our drivers.
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
        refuse_if_taken(target, force)
    if structure is None and STRUCTURE in checkpoint.data:
        structure = Atoms(**checkpoint.data[STRUCTURE])

    if driver == "torchml":
        if tabulation is not None:
            raise ExportError(
                "the TorchML driver gets no tables", where="export.tabulate", remedy="Take the driver kimgnn."
            )
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
        models = [_for_kimgnn(checkpoint, tabulation, names[format_], format_) for format_ in formats]
    for model in models:
        if model.note:
            warnings.warn(model.note, stacklevel=2)

    writers = {target: partial(_write, model=model, checkpoint=checkpoint, tabulation=tabulation, structure=structure)
               for target, model in zip(targets, models, strict=True)}  # fmt: skip
    write_folders(writers, tarball=tarball, approve=approve)
    return targets[0]


def _refuse_nearest_neighbors(checkpoint: Checkpoint) -> None:
    options, name = checkpoint.transform.get("kwargs", {}), checkpoint.transform.get("name")
    if name and getattr(TRANSFORMS.get(name)(**options), "max_neighbors", None) is not None:
        raise ExportError(
            "the model cannot be a potential: it was trained on the nearest neighbours, whose energy jumps where two "
            "of them change places",
            where="export",
            remedy="Train it on all of them: transforms.configuration.kwargs.max_neighbors: null.",
        )


def _for_kimgnn(checkpoint: Checkpoint, tabulation: Tabulation | None, name: str, format_name: str) -> _Model:
    network = checkpoint.network if tabulation is None else tabulation.network
    if isinstance(network, CoordinatePotential):
        raise ExportError(
            "a module given as model= takes coordinates, and our drivers give it edge vectors",
            where="export.driver",
            value="kimgnn",
            allowed="torchml",
        )
    chosen = FORMATS[format_name]
    species = network.spec.species
    members = network.spec.members
    parameters = Parameters(format_name, chosen.file, network.cutoff, network.num_layers, species, members)
    metadata = documents.file_metadata(network, documents.without_machine(checkpoint.manifest))
    metadata[CALIBRATION] = json.dumps(potential_calibration(checkpoint))
    metadata[SUMMARY] = json.dumps(checkpoint.data.get(SUMMARY, {}), ensure_ascii=False)
    if tabulation is not None:
        metadata["tables"] = str(tabulation)
    return _Model(
        name,
        format_name,
        chosen.file,
        lambda path: chosen.write(network, path, metadata),
        species,
        network.cutoff,
        network.num_layers,
        driver_name(chosen.driver),
        PARAMETER_FILE,
        str(parameters),
        n_members=members,
    )


def _for_torchml(checkpoint: Checkpoint, name: str, version: str, structure: Atoms | None) -> _Model:
    network, note = checkpoint.network, ""
    if isinstance(network, CoordinatePotential):
        options = checkpoint.transform["kwargs"]
        trained = checkpoint.data.get(ELEMENTS, options["species"])
        species = torchml.order_species([symbol for symbol in options["species"] if symbol in trained])
        cutoff, n_layers = options["cutoff"], options["n_layers"]
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
        "torchscript",
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


def _write(
    folder: Path, model: _Model, checkpoint: Checkpoint, tabulation: Tabulation | None, structure: Atoms | None
) -> None:
    model.write(folder / model.file)
    manifest = documents.without_machine(checkpoint.manifest)
    data = {key: value for key, value in checkpoint.data.items() if key not in (STRUCTURE, SAMPLES, SUMMARY)}
    tables = "" if tabulation is None else str(tabulation)
    texts = {
        model.parameter_file: model.parameters,
        "CMakeLists.txt": documents.cmake(model.name, model.driver, [model.file, model.parameter_file]),
        "kimspec.edn": documents.kimspec(model.name, model.driver, model.species, manifest, tables, model.n_members),
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
            data=documents.without_machine(data),
            with_decks=structure is not None,
            n_members=model.n_members,
            tables=tables,
            note=model.note,
        ),
    }
    if model.n_members > 1:
        texts["README.md"] += "\n".join(["", *potential_section(checkpoint)])
    if structure is not None:
        box = write_data(folder / DATA_FILE, structure, model.species)
        texts |= decks(model.name, model.species, box.boundary)
    if has_properties(checkpoint):
        write_property_file(checkpoint, folder, model.format_name)
        texts["README.md"] += "\n" + how_to_use(describe_properties(checkpoint), [property_file(model.format_name)])
        texts["README.md"] += "\n".join(["", *calibration_section(checkpoint)])
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
