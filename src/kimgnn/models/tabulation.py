"""Tables in the place of what a trained network makes of distances: the same function, to a stated error, for less.

A layer whose class names its ``distance_map`` makes of a distance what that map makes of the trunk's basis, and nothing
else. Such a map is a function of one number, so that a spline can stand for it, as in DeePMD's compression (Lu et al.,
J. Chem. Theory Comput. 18, 5559, 2022). Forces are the derivative of that spline: they remain those of the energy.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from kimgnn.errors import ModelError
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import Network, SplitNetwork
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.splines import coefficients_of, sites
from kimgnn.nn.tables import SplineBasis, Table

INTERVALS_PER_WIDTH: Final = 8
"""Intervals of a table in the width σ of a Gaussian of the basis."""


@dataclass(frozen=True)
class Tabulation:
    """A network with tables, and how far it is from the network without.

    Attributes:
        network: With tables.
        intervals: Of a table.
        energy_error: The largest difference found, eV/atom.
        forces_error: Of a component of a force, eV/Å.
    """

    network: Network
    intervals: int
    energy_error: float
    forces_error: float

    def __str__(self) -> str:
        return (
            f"splines of {self.intervals} intervals stand for what each layer makes of distances; the largest "
            f"differences from the network without them, in double precision: energy {self.energy_error:.1e} eV/atom, "
            f"forces {self.forces_error:.1e} eV/Å"
        )


def tabulated(network: Network, intervals: int) -> Network:
    """Return a copy of a network in which tables stand for what its layers make of distances.

    Args:
        network: In evaluation mode.
        intervals: Of each table, from no distance to the cutoff; `default_intervals` says how many are enough.

    Raises:
        ModelError: Its layers make more of distances than a table can hold, or there are no intervals.
    """
    if reason := tabulation_refusal(network):
        raise ModelError(f"the model cannot be tabulated: {reason}", where="export.tabulate")
    if intervals < 1:
        raise ModelError("not a number of intervals", where="intervals", value=intervals, allowed="1 or more")
    network = deepcopy(network)
    for trunk in _trunks(network):
        basis, dtype = trunk.basis, next(trunk.parameters()).dtype
        for layer in set(trunk.layers()):
            if not isinstance(getattr(layer, layer.distance_map), Table):  # of a layer that trunks share
                table = _table(basis, getattr(layer, layer.distance_map), network.cutoff, intervals)
                setattr(layer, layer.distance_map, table.to(dtype))
        trunk.basis = SplineBasis(network.cutoff, intervals).to(dtype)
    return network.eval().requires_grad_(False)


def default_intervals(network: Network) -> int:
    """Return the intervals of a network's tables, of which there are eight in the width of a Gaussian."""
    (steepness,) = {float(trunk.basis.steepness) for trunk in _trunks(network)}
    return math.ceil(INTERVALS_PER_WIDTH * network.cutoff * math.sqrt(2.0) * steepness)


def tabulation_refusal(network: Network) -> str:
    """Return why a network cannot be tabulated, or an empty string."""
    for trunk in _trunks(network):
        layers = list(trunk.layers())
        if (
            not layers
            or not isinstance(getattr(trunk, "basis", None), GaussianBasis)
            or not all(hasattr(layer, "distance_map") for layer in layers)
        ):
            return (
                "a layer of it does not make features of each distance alone, which is what a table holds "
                "(SchNet, CGCNN with convolution: gated, and GAT do)"
            )
    return ""


def in_double(network: Network) -> Network:
    """Return a copy of a network that computes in double precision, whatever it was trained in."""
    return deepcopy(network).double()


def _trunks(network: Network) -> list[Any]:
    if isinstance(network, Ensemble):
        members: Any = network.members
        return [trunk for member in members for trunk in _trunks(member)]
    return list(network.trunks.values()) if isinstance(network, SplitNetwork) else [network.trunk]


@torch.no_grad()
def _table(basis: nn.Module, of_basis: nn.Module, cutoff: float, intervals: int) -> Table:
    """Return the table of a map of a basis, computed in double precision."""
    exact = nn.Sequential(deepcopy(basis), deepcopy(of_basis)).double()
    return Table(coefficients_of(exact(sites(cutoff, intervals))))
