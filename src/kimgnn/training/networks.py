"""Where the network comes from: its heads fitted to the training set, or read from a TorchScript file."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from torch import nn

from kimgnn.data.element_features import WITHOUT_TABLE, element_feature_table, require_elements
from kimgnn.data.magpie import magpie_table
from kimgnn.data.statistics import energy_per_atom_std, fit_reference_energies, force_rms, species_of
from kimgnn.errors import ManifestError, ModelError
from kimgnn.models.fusion import composition_modules
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.models.tasks import head_name
from kimgnn.nn.states import state_inputs_of
from kimgnn.training.head_fits import fit_classification_head, fit_property_head
from kimgnn.training.late_fusion import features_of
from kimgnn.transforms.graph import TARGETS


def fit_spec(model: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]) -> NetworkSpec:
    """Return what builds the network of a manifest's ``model`` block, with numbers where a head says ``fit``.

    Args:
        model: The block, every default filled.
        configurations: The training set.
        species: Elements of all the data. The network's are those of the training set, in this order: nothing is
            learned of others, though it can compute them.

    Raises:
        ManifestError: An element is beyond the network's ``max_z``, or not among the reference values that are given.
    """
    heaviest = max(species, key=lambda symbol: atomic_numbers[symbol])
    if atomic_numbers[heaviest] > model["options"].get("max_z", len(chemical_symbols)):
        raise ManifestError(
            f"is less than the atomic number of {heaviest}",
            where="model.options.max_z",
            value=model["options"]["max_z"],
            allowed=f"{atomic_numbers[heaviest]} or more",
        )
    fits = {"energy": _fit_energy_head, "property": _fit_property_head, "classification": _fit_classification_head}
    heads = [fits[head["type"]](head, configurations, species) for head in model["heads"]]
    options, precision, depth = _fit_states(model["options"], configurations), model["precision"], model["split_depth"]
    fusion = model.get("composition")
    fusion = fusion and fusion | {"species": list(species)}
    return NetworkSpec(
        model["architecture"], options, heads, _trained(species, configurations), precision, depth, fusion
    )


def _fit_states(options: Mapping[str, Any], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Return an architecture's options with mean and spread of the numbers among its state inputs."""
    states = []
    for state in state_inputs_of(options):
        if not state.classes:
            values = [configuration.metadata[TARGETS][state.name].item() for configuration in configurations]
            mean = float(np.mean(values)) if state.mean is None else state.mean
            spread = float(np.std(values)) if state.spread is None else state.spread
            state = replace(state, mean=mean, spread=spread)
        states.append(asdict(state))
    return dict(options) | ({"state_inputs": states} if states else {})


def _trained(species: Sequence[str], configurations: Sequence[Configuration]) -> list[str]:
    """Return those elements that structures have, in the order given."""
    seen = set(species_of(configurations))
    return [symbol for symbol in species if symbol in seen]


def set_element_features(network: Network, configurations: Iterable[Configuration]) -> None:
    """Give a network that begins with a table of elements the table that its options name; others none.

    Args:
        network: Freshly built.
        configurations: All structures that it will be given.

    Raises:
        DataError: The table cannot be read, or has no features of some structures' elements.
    """
    source = network.spec.options.get("element_features", "embedding")
    if source not in WITHOUT_TABLE:
        table = element_feature_table(source)
        require_elements(table, configurations, source)
        # That of the architecture, where it stands in one that knows the composition.
        trunk: Any = getattr(network.trunk, "trunk", network.trunk)
        trunk.elements.set_table(torch.from_numpy(table))


def set_composition(network: Network, train: Sequence[Configuration]) -> None:
    """Give a network that knows the composition Magpie's table, if it uses it, and the scale of the features.

    Args:
        network: Freshly built.
        train: The training set, which the features are scaled on.

    Raises:
        DataError: matminer is not installed, or Magpie's table lacks a property of an element.
    """
    modules = composition_modules(network)
    if not modules:
        return
    options: Any = network.spec.composition
    if options["features"] == "magpie":
        table = torch.from_numpy(magpie_table(options["species"]))
        for module in modules:
            module.set_table(table)
    features = features_of(modules[0], train)
    for module in modules:
        module.set_scale(features)


def _fit_energy_head(
    head: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]
) -> dict[str, Any]:
    fitted = dict(head)
    if head["reference_energies"] == "fit":
        fitted["reference_energies"] = fit_reference_energies(configurations, _trained(species, configurations))
    elif isinstance(head["reference_energies"], dict):
        fitted["reference_energies"] = _given(head["reference_energies"], species, "model.heads.reference_energies")
    if head["scale"] == "fit":
        reference = fitted["reference_energies"]
        given = reference if isinstance(reference, dict) else dict.fromkeys(species, 0.0)
        scale = force_rms(configurations) or energy_per_atom_std(configurations, given)
        # One structure, or copies of one, has no spread to take a unit from.
        fitted["scale"] = scale or 1.0
    return fitted


def _fit_property_head(
    head: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]
) -> dict[str, Any]:
    given = head["reference"]
    if isinstance(given, dict):
        head = {**head, "reference": _given(given, species, f"model.heads.{head_name(head)}.reference")}
    return fit_property_head(head, configurations)


def _fit_classification_head(
    head: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]
) -> dict[str, Any]:
    return fit_classification_head(head, configurations)


def _given(values: Mapping[str, float], species: Sequence[str], where: str) -> dict[str, float]:
    """Return the reference values of the network's elements; one that is missing would silently be 0."""
    missing = [symbol for symbol in species if symbol not in values]
    if missing:
        raise ManifestError(f"has no value of {', '.join(missing)}, which the data have", where=where)
    return {symbol: values[symbol] for symbol in species}


def load_torchscript(path: str | Path) -> nn.Module:
    """Return the module in a TorchScript file.

    Raises:
        ModelError: There is no such file, or it is none of TorchScript.
    """
    if not Path(path).is_file():
        raise ModelError("there is no such file", where="model.model_path", value=str(path))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ModelError("not a TorchScript file", where="model.model_path", value=str(path)) from error
    return module
