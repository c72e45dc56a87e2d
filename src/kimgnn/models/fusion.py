"""The composition in a network, as a spec describes it: around the trunk, or beside the heads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kimgnn.nn.composition import CompositionFeatures
from kimgnn.nn.fusion import FusedTrunk, LateFusion


def fuse(
    trunk: nn.Module, options: Mapping[str, Any], atomic_numbers: Mapping[str, int], dtype: torch.dtype
) -> FusedTrunk:
    """Return a trunk that knows the composition; `composition_modules` still need what training gives them.

    Args:
        trunk: Of an architecture.
        options: A spec's ``composition``, of early, attention or intermediate fusion.
        atomic_numbers: Element -> atomic number.
        dtype: Of the weights.

    Raises:
        ModelError: The trunk has no place for it.
    """
    sizes = {name: options[name] for name in ("hidden_channels", "num_hidden_layers", "dropout")}
    return FusedTrunk(trunk, _features(options, atomic_numbers), options["fusion"], dtype=dtype, **sizes)


def add_forest(head: Any, options: Mapping[str, Any], atomic_numbers: Mapping[str, int]) -> None:
    """Prepare a head for a forest beside it, for which heads of energies and of properties of atoms have no place.

    Args:
        head: Any.
        options: A spec's ``composition``, of late fusion.
        atomic_numbers: Element -> atomic number.
    """
    if hasattr(head, "late") and not getattr(head, "per_atom", False):
        classes = len(getattr(head.options, "class_names", ()))
        head.late = LateFusion(_features(options, atomic_numbers), classes)


def composition_modules(network: nn.Module) -> list[CompositionFeatures]:
    """Return what makes features of the composition in a network; they all make the same."""
    return [module for module in network.modules() if isinstance(module, CompositionFeatures)]


def forests(network: Any) -> dict[str, LateFusion]:
    """Return head -> the forest beside it, of the heads that have a place for one."""
    return {
        name: head.late for name, head in network.heads.items() if isinstance(getattr(head, "late", None), LateFusion)
    }


def _features(options: Mapping[str, Any], atomic_numbers: Mapping[str, int]) -> CompositionFeatures:
    return CompositionFeatures(options["features"], [atomic_numbers[symbol] for symbol in options["species"]])
