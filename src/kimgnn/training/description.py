"""What a checkpoint and an exported model say about the data: plain values."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from kliff.dataset import Configuration
from numpy.typing import NDArray

from kimgnn.data.labels import has_label
from kimgnn.data.statistics import label_counts, species_of
from kimgnn.evaluation.domain import ENERGY_PER_ATOM, SUMMARY, summary
from kimgnn.export.portable_model import ATOMS_PER_STRUCTURE, ELEMENTS, SAMPLES, STRUCTURE
from kimgnn.fields import ENERGY, LABELS
from kimgnn.training.targets import target_counts
from kimgnn.transforms.graph import TARGETS, label_of


def dataset_hash(configurations: Sequence[Configuration]) -> str:
    """Return the SHA-256 of structures, labels and targets, in hexadecimal."""
    digest = hashlib.sha256()
    for configuration in configurations:
        digest.update(" ".join(configuration.species).encode())
        labels = [getattr(configuration, label) for label in LABELS if has_label(configuration, label)]
        labels += configuration.metadata.get(TARGETS, {}).values()
        for values in (configuration.coords, configuration.cell, configuration.PBC, *labels):
            digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return digest.hexdigest()


FILE_HASHES = "file_hashes"
"""Key of a checkpoint's ``data``: split that was read from files of its own -> its `dataset_hash`."""


def describe_data(
    splits: Mapping[str, Sequence[Configuration]],
    source: Any,
    digest: str,
    own_files: Sequence[str] = (),
    logarithmic: Collection[str] = (),
) -> dict[str, Any]:
    """Return source, hashes and label counts of the data, and what `kimgnn.export.portable_model` looks for.

    Args:
        splits: ``train``, ``validation``, ``test`` -> structures.
        source: The manifest's ``dataset.path``.
        digest: `dataset_hash` of those from there.
        own_files: Splits that were read from elsewhere.
        logarithmic: Targets of which the logarithm is learned.
    """
    data: dict[str, Any] = {"source": source, "hash": digest}
    data[FILE_HASHES] = {name: dataset_hash(splits[name]) for name in own_files}
    data[ELEMENTS] = trained = species_of(splits["train"])
    data[SUMMARY] = summary((item.species for item in splits["train"]), _labels(splits["train"]), logarithmic)
    for name, configurations in splits.items():
        if configurations:
            counts = label_counts(configurations) | target_counts(configurations)
            there = ", ".join(f"{count} {label}" for label, count in counts.items() if count)
            data[name] = f"{len(configurations)} structures; {there or 'no labels'}"
    sizes = {len(configuration.species) for configuration in splits["train"]}
    if len(sizes) == 1:
        data[ATOMS_PER_STRUCTURE] = sizes.pop()
    # The LAMMPS decks of an export run it: the calmest structure there is.
    labelled = [item for item in splits["train"] if has_label(item, ENERGY)] or splits["train"][:1]
    data[STRUCTURE] = _plain(min(labelled, key=lambda item: label_of(item, ENERGY) / len(item.species)))
    within = {name: [item for item in part if set(trained) >= set(item.species)] for name, part in splits.items()}
    unseen = within["test"] or within["validation"] or within["train"]
    by_size = sorted(unseen, key=lambda item: len(item.species))
    places = {0, len(by_size) // 2, len(by_size) - 1}
    data[SAMPLES] = [_plain(by_size[place]) for place in sorted(places)]
    return data


def _labels(configurations: Sequence[Configuration]) -> dict[str, NDArray[np.float64]]:
    """Return target -> all its values, and energies per atom, eV."""
    names = configurations[0].metadata.get(TARGETS, {})
    values = {
        name: np.concatenate([np.ravel(item.metadata[TARGETS][name]) for item in configurations]) for name in names
    }
    energies = [label_of(item, ENERGY) / len(item.species) for item in configurations if has_label(item, ENERGY)]
    return values | ({ENERGY_PER_ATOM: np.array(energies)} if energies else {})


def _plain(configuration: Configuration) -> dict[str, Any]:
    """Return a structure as the arguments of `ase.Atoms`."""
    return {
        "symbols": list(configuration.species),
        "positions": np.asarray(configuration.coords).tolist(),
        "cell": np.asarray(configuration.cell).tolist(),
        "pbc": [bool(periodic) for periodic in configuration.PBC],
    }
