"""Tables for an export, and how far the network with them is from the network without."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Final

import numpy as np
from ase import Atoms

from kimgnn.errors import ExportError, Problem
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.tabulation import Tabulation, default_intervals, in_double, tabulated, tabulation_refusal
from kimgnn.physics.potential import CoordinatePotential
from kimgnn.verify.gate import gate_structures
from kimgnn.verify.parity import torch_predictions

ALLOWED: Final = {"energy": 1e-6, "forces": 1e-5}
"""The largest differences from the network without tables: eV/atom, and eV/Å of a component of a force."""

UNITS: Final = {"energy": "eV/atom", "forces": "eV/Å"}

DIMERS: Final = 40
"""Of each pair of elements."""

SEED: Final = 13


def tabulate(checkpoint: Checkpoint, wanted: bool | int) -> Tabulation | None:
    """Return the checkpoint's network with tables, and their error; or ``None``, if none are wanted.

    The error is the largest difference between the networks with and without tables over the structures that an export
    is compared in, and over dimers at random distances within the cutoff. Both are computed in double precision: what
    is told is the tables' part, not that of rounding.

    Args:
        checkpoint: Of a potential.
        wanted: The manifest's ``export.tabulate``: whether, or how many intervals a table has; `default_intervals` says
            how many otherwise.

    Raises:
        ExportError: The network cannot be tabulated, or differs by more than `ALLOWED` with so few intervals.
    """
    if wanted is False:
        return None
    network = checkpoint.network
    if isinstance(network, CoordinatePotential):
        raise ExportError("a module given as model= gets no tables", where="export.tabulate", allowed="false")
    if reason := network.potential_refusal() or tabulation_refusal(network):
        raise ExportError(f"the model cannot be tabulated: {reason}", where="export.tabulate")
    intervals = default_intervals(network) if wanted is True else wanted
    exact = in_double(network)
    structures = [*gate_structures(checkpoint).values(), *_dimers(network.spec.species, network.cutoff)]
    expected = torch_predictions(exact, structures)
    found = torch_predictions(tabulated(exact, intervals), structures)
    largest = {"energy": 0.0, "forces": 0.0}
    for atoms, want, have in zip(structures, expected, found, strict=True):
        for quantity, terms in (("energy", len(atoms)), ("forces", 1)):
            difference = np.abs(np.subtract(getattr(want, quantity), getattr(have, quantity))).max() / terms
            largest[quantity] = float(np.maximum(largest[quantity], difference))  # NaN stays
    problems = [
        Problem(
            "export.tabulate",
            f"with tables of {intervals} intervals, {quantity} differ{'s' if quantity == 'energy' else ''} by "
            f"{largest[quantity]:.1e} {UNITS[quantity]} from the network without",
            allowed=f"{allowed:.0e}",
            remedy=f"Take more intervals: export.tabulate: {2 * intervals}, or --intervals {2 * intervals}.",
        )
        for quantity, allowed in ALLOWED.items()
        if not largest[quantity] <= allowed
    ]
    if problems:
        raise ExportError(problems=problems)
    return Tabulation(tabulated(network, intervals), intervals, largest["energy"], largest["forces"])


def _dimers(species: list[str], cutoff: float) -> Iterator[Atoms]:
    """Yield dimers of every pair of elements, at distances from a tenth of the cutoff to the cutoff."""
    random = np.random.default_rng(SEED)
    for pair in combinations_with_replacement(species, 2):
        for distance in random.uniform(0.1 * cutoff, cutoff, DIMERS):
            yield Atoms(pair, [[0, 0, 0], [0, 0, distance]])
