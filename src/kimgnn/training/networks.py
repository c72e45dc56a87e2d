"""Where the network comes from: its heads fitted to the training set, or read from a TorchScript file."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from kliff.dataset import Configuration
from torch import nn

from kimgnn.data.element_features import element_feature_table, require_elements
from kimgnn.data.statistics import energy_per_atom_std, fit_reference_energies, force_rms
from kimgnn.errors import ManifestError, ModelError
from kimgnn.models.network import Network, NetworkSpec
from kimgnn.models.tasks import head_name
from kimgnn.training.head_fits import fit_classification_head, fit_property_head


def fit_spec(model: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]) -> NetworkSpec:
    """Return what builds the network of a manifest's ``model`` block, with numbers where a head says ``fit``.

    Args:
        model: The block, every default filled.
        configurations: The training set.
        species: Elements of the network.

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
    options, precision, depth = model["options"], model["precision"], model["split_depth"]
    return NetworkSpec(model["architecture"], options, heads, list(species), precision, depth)


def set_element_features(network: Network, configurations: Iterable[Configuration]) -> None:
    """Give a network that begins with a table of elements the table that its options name; others none.

    Args:
        network: Freshly built.
        configurations: All structures that it will be given.

    Raises:
        DataError: The table cannot be read, or has no features of some structures' elements.
    """
    source = network.spec.options.get("element_features", "embedding")
    if source not in ("embedding", "onehot"):
        table = element_feature_table(source)
        require_elements(table, configurations, source)
        trunk: Any = network.trunk
        trunk.elements.set_table(torch.from_numpy(table))


def _fit_energy_head(
    head: Mapping[str, Any], configurations: Sequence[Configuration], species: Sequence[str]
) -> dict[str, Any]:
    fitted = dict(head)
    if head["reference_energies"] == "fit":
        fitted["reference_energies"] = fit_reference_energies(configurations, species)
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
