"""What must agree between the values of a manifest that are each right by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from kimgnn.errors import Problem, did_you_mean
from kimgnn.fields import (
    COORDS,
    DISTINCT,
    EDGE_INDEX,
    EDGE_OF_PAIR,
    FIELDS,
    PAIR_OF_EDGE,
    PBC,
    SHIFTS,
    SPECIES,
    TRIPLETS,
)
from kimgnn.manifest.active import check_active
from kimgnn.manifest.dataset import Dataset, LabelWeights
from kimgnn.manifest.materials_project import check_materials_project
from kimgnn.manifest.model import CUTOFFS, Model, Transforms
from kimgnn.manifest.schema import Export
from kimgnn.manifest.training import Training
from kimgnn.manifest.tuning import check_tuning
from kimgnn.manifest.uncertainty import check_uncertainty
from kimgnn.registry import ARCHITECTURES

_BELONGS_TO = {
    "id_column": ("table", "ase"),
    "structure_column": ("table",),
    "table": ("cif_folder",),
    "materials_project": ("materials_project",),
}
"""Keys of the dataset -> the types that have them."""


def check_together(blocks: dict[str, Any]) -> list[Problem]:
    """Return what is wrong between the blocks that are right by themselves.

    Args:
        blocks: Name -> block, without those that have problems of their own.
    """
    checks: list[tuple[Callable[..., Iterator[Problem]], tuple[str, ...]]] = [
        (_source, ("dataset",)),
        (_targets, ("dataset", "model")),
        (_cutoff, ("transforms",)),
        (_species, ("transforms",)),
        (_property_transforms, ("transforms",)),
        (_heads, ("model",)),
        (_late_fusion, ("model", "training")),
        (_sizes, ("training",)),
        (_bounds, ("training",)),
        (_mixed_precision, ("model", "training")),
        (_compiled_steps, ("model", "training")),
        (_own_files, ("dataset", "training")),
        (_loss_weights, ("model", "training")),
        (_graph_of_architecture, ("transforms", "model")),
        (_reference_energies, ("transforms", "model")),
        (_input_args, ("transforms", "model")),
        (_driver, ("model", "export")),
        (_formats, ("model", "export")),
        (_tables, ("model", "export")),
        (check_uncertainty, ("model", "training")),
        (check_tuning, ("tuning", "training")),
        (check_active, ("active", "dataset", "model", "training")),
    ]
    return [
        problem
        for check, names in checks
        if blocks.keys() >= set(names)
        for problem in check(*(blocks[name] for name in names))
    ]


def check_model_source(model: Model, model_given: bool) -> list[Problem]:
    """Return what is wrong with where the network comes from.

    Args:
        model: The block.
        model_given: The trainer is given a module.
    """
    if model.architecture is not None:
        if model.model_path is not None:
            remedy = "Keep one of them."
            return [Problem("model.model_path", "is a second network beside model.architecture", remedy=remedy)]
        if model.input_args:
            message = "belongs to a module given to the trainer; an architecture knows what it takes"
            return [Problem("model.input_args", message, remedy="Remove it.")]
        return []
    problems = []
    if not model_given and model.model_path is None:
        remedy = "Name one, such as 'schnet', or give the trainer a module: GNNLightningTrainer(manifest, model=...)."
        problems.append(Problem("model.architecture", "is missing", remedy=remedy))
    elif not model.input_args:
        remedy = "List the graph's tensors that the module takes, in order, such as [z, coords, edge_index0]."
        problems.append(Problem("model.input_args", "is missing", remedy=remedy))
    for name in ("options", "heads", "composition", "uncertainty"):
        if getattr(model, name) and (model_given or model.model_path is not None):
            message = "belongs to model.architecture, which is not given"
            problems.append(Problem(f"model.{name}", message, remedy="Remove it: the module is used as it is."))
    if model.ensemble > 1:
        message = "needs an architecture, which each network is built from anew: a module or file is one network"
        problems.append(Problem("model.ensemble", message, model.ensemble, "1"))
    return problems


def _source(dataset: Dataset) -> Iterator[Problem]:
    if dataset.type == "colabfit":
        for name in ("dataset_name", "database_name"):
            if getattr(dataset.colabfit_dataset, name) is None:
                yield Problem(f"dataset.colabfit_dataset.{name}", "is missing")
    elif dataset.type == "materials_project":
        if dataset.materials_project is None:
            yield Problem("dataset.materials_project", "is missing", allowed="ids or criteria, and fields")
        else:
            yield from check_materials_project(dataset.materials_project, "dataset.materials_project")
    elif not dataset.path:
        yield Problem("dataset.path", "is missing", allowed="a file, folder or glob, or a list of them")
    for name, types in _BELONGS_TO.items():
        if getattr(dataset, name) is not None and dataset.type not in types:
            message = f"belongs to type {' or '.join(types)}, not to {dataset.type}"
            yield Problem(f"dataset.{name}", message, remedy="Remove it, or take that type.")


def _targets(dataset: Dataset, model: Model) -> Iterator[Problem]:
    learnt = [head["target"] for head in model.heads if head.get("target")]
    used = learnt + _states(model)
    for name in dataset.targets:
        if name not in used:
            allowed = ", ".join(used) or "none: no head has a target"
            yield Problem(f"dataset.targets.{name}", "no head has this target", name, allowed, did_you_mean(name, used))
    for name in sorted(set(learnt) & set(_states(model))):
        message = "is a head's target too: what the network is told, it need not learn"
        yield Problem("model.options.state_inputs", message, name, remedy="Leave one of them out.")


def _states(model: Model) -> list[str]:
    """Return the names of an architecture's state inputs."""
    return [str(state.get("name")) for state in model.options.get("state_inputs") or []]


def _cutoff(transforms: Transforms) -> Iterator[Problem]:
    where, kwargs = "transforms.configuration.kwargs", transforms.configuration.kwargs
    if kwargs.get("cutoff", 1) <= 0:
        yield Problem(f"{where}.cutoff", "must be a positive distance, in Å", kwargs["cutoff"])
    if (count := kwargs.get("max_neighbors")) is not None and count < 1:
        yield Problem(f"{where}.max_neighbors", "must be at least 1, or null for all", count)
    if kwargs.get("n_layers", 1) < 1:
        yield Problem(f"{where}.n_layers", "must be at least 1", kwargs["n_layers"])


def _species(transforms: Transforms) -> Iterator[Problem]:
    where, species = "transforms.configuration.kwargs.species", transforms.configuration.kwargs.get("species")
    if species is None:
        return
    if not species:
        yield Problem(where, "names no element", species)
    for index, symbol in enumerate(species):
        yield from _element(symbol, f"{where}.{index}")
        if symbol in species[:index]:
            yield Problem(f"{where}.{index}", "is there twice", symbol)


def _element(symbol: str, where: str) -> Iterator[Problem]:
    # Imported here, so that a manifest without elements is read without ASE and numpy.
    elements = import_module("ase.data").chemical_symbols[1:]
    if symbol not in elements:
        yield Problem(where, "is not a chemical element", symbol, remedy=did_you_mean(symbol, elements))


def _property_transforms(transforms: Transforms) -> Iterator[Problem]:
    for index, entry in enumerate(transforms.property):
        if getattr(entry, entry.name) is None:
            remedy = f"Write it as {{name: {entry.name}, {entry.name}: {{name: NormalizedPropertyTransform}}}}."
            yield Problem(f"transforms.property.{index}.{entry.name}", "is missing", remedy=remedy)


def _heads(model: Model) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    read: dict[str, dict[str, Any]] = {}
    for index, head in enumerate(model.heads):
        name = str(head.get("name") or head.get("target") or head["type"])
        if name in seen:
            remedy = "Remove one, or give one a name." if "target" in head else "Remove one."
            yield Problem(f"model.heads.{index}", f"is a second head called {name!r}", head["type"], remedy=remedy)
        seen[name] = index
        if "target" not in head:
            continue
        how = {key: head.get(key) for key in ("type", "components", "per_atom", "classes", "threshold")}
        if read.setdefault(head["target"], how) != how:
            remedy = "Give the column a second name: dataset.targets: {first: COLUMN, second: COLUMN}."
            yield Problem(
                f"model.heads.{index}.target", "is read otherwise by another head", head["target"], remedy=remedy
            )


def _late_fusion(model: Model, training: Training) -> Iterator[Problem]:
    if model.composition is None or model.composition.fusion != "late":
        return
    where, validation = "model.composition.fusion", training.validation_dataset
    if not (validation.val_size or validation.val_indices or validation.path):
        message = "chooses the weight of the forest on validation data, of which there are none"
        yield Problem(where, message, "late", remedy="Give training.validation_dataset, or another fusion.")
    if all(head["type"] == "energy" or head.get("per_atom") for head in model.heads):
        message = "has no forest beside a head of energies or of a property of each atom, and there is no other"
        yield Problem(where, message, "late", remedy="Take another fusion.")
    for index, head in enumerate(model.heads):
        if head.get("loss") == "nll":
            message = "predicts its own error, which would not be that of the network and a forest together"
            yield Problem(f"model.heads.{index}.loss", message, "nll", "mse, mae, huber, or another fusion")


def _sizes(training: Training) -> Iterator[Problem]:
    sizes = {
        "training_dataset.train_size": training.training_dataset.train_size,
        "validation_dataset.val_size": training.validation_dataset.val_size,
        "test_dataset.test_size": training.test_dataset.test_size,
    }
    fractions = {name: size for name, size in sizes.items() if isinstance(size, float)}
    total = sum(fractions.values())
    if total > 1 + 1e-9:
        yield Problem(f"training.{next(iter(fractions))}", f"with the other fractions this makes {total:g}, above 1")


def _bounds(training: Training) -> Iterator[Problem]:
    if training.batch_size > 1:
        return
    for name in ("max_atoms", "max_edges"):
        if getattr(training, name) is not None:
            remedy = "Raise batch_size to what small structures may fill a step with, such as 256."
            message = f"is the most structures in a step, so that training.{name} changes nothing"
            yield Problem("training.batch_size", message, training.batch_size, "above 1", remedy)
            return


def _mixed_precision(model: Model, training: Training) -> Iterator[Problem]:
    choice, where = training.mixed_precision, "training.mixed_precision"
    if choice is not None and model.architecture is None:
        yield Problem(where, "is for architectures: a module casts what it will itself", choice, "null")
    elif choice is not None and model.precision != "single":
        message = f"lies below single precision, and model.precision is {model.precision}"
        yield Problem(where, message, choice, remedy="Set model.precision to single.")
    elif choice is not None and training.tabulate:
        yield Problem(where, "has no digits for tables (training.tabulate)", choice, remedy="Keep one of them.")


def _compiled_steps(model: Model, training: Training) -> Iterator[Problem]:
    where = "training.compile"
    if not training.compile:
        return
    if model.architecture != "schnet":
        yield Problem(where, "is for SchNet alone", True, "false")
    if training.mixed_precision is not None:
        yield Problem(where, "compiles no casts (training.mixed_precision)", True, remedy="Keep one of them.")
    if training.loss.balance == "uncertainty":
        yield Problem(where, "is for weights that are not learned (training.loss.balance)", True, "false")
    if training.accelerator in ("gpu", "cuda"):
        yield Problem(where, "is for CPUs", True, "false")
    if training.devices not in ("auto", 1) and model.ensemble == 1:
        yield Problem(where, "is for a single process (training.devices)", True, "false")


def _own_files(dataset: Dataset, training: Training) -> Iterator[Problem]:
    if dataset.type in ("colabfit", "materials_project"):
        for name in ("validation_dataset", "test_dataset"):
            if getattr(training, name).path:
                message = f"cannot be read as the data set is, by type {dataset.type}, which reads no file"
                yield Problem(f"training.{name}.path", message, remedy="Take a size or indices.")


def _loss_weights(model: Model, training: Training) -> Iterator[Problem]:
    weights = training.loss.weights
    others = [head for head in model.heads if head["type"] != "energy" and head.get("weight", 1.0) > 0]
    if training.loss.balance != "fixed" and model.architecture is None:
        yield Problem("training.loss.balance", "needs an architecture with heads", training.loss.balance, "fixed")
    for index, head in enumerate(model.heads if training.loss.balance == "uncertainty" else []):
        if head.get("loss") == "nll":
            message = "is a likelihood: it may be below 0, and training.loss.balance: uncertainty would have no bound"
            yield Problem(f"model.heads.{index}.loss", message, "nll", "mse, mae, huber, or another balance")
    if not isinstance(weights, LabelWeights):
        return
    where = "training.loss.weights"
    fitted = [name for name in ("energy", "forces", "stress") if getattr(weights, name) > 0]
    if not fitted and not others:
        remedy = "Give energy, forces or stress a weight above 0."
        if model.heads and not any(head["type"] == "energy" for head in model.heads):
            where, remedy = "model.heads", "Give a head a weight above 0."
        yield Problem(where, "nothing is fitted", remedy=remedy)
    if weights.config == 0:
        yield Problem(f"{where}.config", "no structure counts", weights.config, "a number above 0")
    if model.architecture is not None and not any(head["type"] == "energy" for head in model.heads):
        for name in fitted:
            yield Problem(f"{where}.{name}", "needs an energy head", remedy="Add {type: energy} to model.heads.")


def _graph_of_architecture(transforms: Transforms, model: Model) -> Iterator[Problem]:
    if model.architecture is None:
        return
    configuration = transforms.configuration
    if configuration.name == "RadialGraph":
        yield Problem(
            "transforms.configuration.name",
            "is for modules that take coordinates and ghost atoms; an architecture takes edge vectors",
            configuration.name,
            remedy="Take PeriodicGraph.",
        )
    elif model.architecture in ARCHITECTURES.names():
        graph = getattr(ARCHITECTURES.get(model.architecture), "graph", configuration.name)
        if graph != configuration.name:
            message = f"is not the graph that {model.architecture} takes"
            yield Problem("transforms.configuration.name", message, configuration.name, graph)
    for name in CUTOFFS:
        of_graph, of_model = configuration.kwargs.get(name), model.options.get(name)
        if of_graph is not None and of_model is not None and of_graph != of_model:
            message = f"differs from transforms.configuration.kwargs.{name}, {of_graph}"
            yield Problem(
                f"model.options.{name}", message, of_model, remedy=f"Give the {name} once; the other follows."
            )


def _reference_energies(transforms: Transforms, model: Model) -> Iterator[Problem]:
    for index, head in enumerate(model.heads):
        given = head.get("reference_energies")
        if not isinstance(given, dict):
            continue
        where = f"model.heads.{index}.reference_energies"
        for symbol in given:
            yield from _element(symbol, f"{where}.{symbol}")
        for symbol in transforms.configuration.kwargs.get("species") or []:
            if symbol not in given:
                yield Problem(f"{where}.{symbol}", "is missing", remedy=f"{symbol} is in the transform's species.")


def _input_args(transforms: Transforms, model: Model) -> Iterator[Problem]:
    configuration = transforms.configuration
    if configuration.name not in ("PeriodicGraph", "RadialGraph") or not model.input_args:
        return
    layers = [f"edge_index{layer}" for layer in range(configuration.kwargs.get("n_layers", 1))]
    absent = {SPECIES, EDGE_INDEX, TRIPLETS, *DISTINCT}
    if configuration.name == "RadialGraph":  # newer KLIFFs have shifts, with mic
        absent |= {PBC, EDGE_OF_PAIR, PAIR_OF_EDGE} | ({SHIFTS} if not configuration.kwargs.get("mic") else set())
    known = [*(name for name in FIELDS if name not in absent), *layers]
    for index, name in enumerate(model.input_args):
        where = f"model.input_args.{index}"
        if name == SPECIES:
            message = "species codes differ from structure to structure: RadialGraph counts the elements of each anew"
            yield Problem(where, message, name, remedy="Take 'z', the atomic numbers, instead.")
        elif name not in known:
            message = f"the {configuration.name} has no such tensor"
            yield Problem(where, message, name, ", ".join(known), did_you_mean(name, known))
    if configuration.name == "PeriodicGraph" and COORDS in model.input_args and SHIFTS not in model.input_args:
        message = "without 'shifts', coordinates of a PeriodicGraph miss the neighbours across the cell's boundary"
        yield Problem("model.input_args", message, remedy="Take RadialGraph, or a module that adds 'shifts'.")


def _driver(model: Model, export: Export) -> Iterator[Problem]:
    if model.architecture is None and export.driver == "kimgnn":
        message = "takes architectures only: a module that takes coordinates is exported for the TorchML driver"
        yield Problem("export.driver", message, export.driver, remedy="Take 'torchml', or leave it out.")


def _formats(model: Model, export: Export) -> Iterator[Problem]:
    driver = export.driver or ("kimgnn" if model.architecture else "torchml")
    if driver == "torchml" and export.formats != ["torchscript"]:
        message = "the TorchML driver runs TorchScript only"
        remedy = "Take driver: kimgnn." if model.architecture else "A module that takes coordinates needs that driver."
        yield Problem("export.formats", message, export.formats, "[torchscript]", remedy)


def _tables(model: Model, export: Export) -> Iterator[Problem]:
    driver = export.driver or ("kimgnn" if model.architecture else "torchml")
    if driver == "torchml" and export.tabulate is not False:
        yield Problem("export.tabulate", "the TorchML driver gets no tables", export.tabulate, "false")
