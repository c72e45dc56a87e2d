"""Training steps with tables: what a network's layers make of distances is made at the sites of splines.

Everything else sees the network itself: validation, checkpoints, exports. The weights are the same.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Final

import torch
from torch import Tensor, nn

from kimgnn.errors import ManifestError, TrainingError
from kimgnn.models.network import Network
from kimgnn.models.tabulation import INTERVALS_PER_WIDTH, default_intervals, tabulation_refusal
from kimgnn.nn.basis import GaussianBasis
from kimgnn.nn.splines import coefficients_of, sites, spline
from kimgnn.nn.step_tables import FoundPlaces, StepBasis, StepMap

PER_WIDTH: Final = {torch.float64: INTERVALS_PER_WIDTH, torch.float32: 4}
"""Intervals in the width of a Gaussian, by the precision of the weights: in single, more are below its rounding."""

LIMITS: Final = {torch.float64: 1e-4, torch.float32: 1e-3}
"""The largest errors that are let pass, of the largest value and slope."""

WHERE: Final = "training.tabulate"


class StepTables:
    """The tables of a network's trunks, in the place of bases and maps during a step.

    Args:
        network: Its weights are what the tables follow.

    Raises:
        ManifestError: It is a module from elsewhere, or its layers make more of distances than a table can hold.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, Network):
            raise ManifestError("is for architectures", where=WHERE, value=True, allowed="false")
        if reason := tabulation_refusal(network):
            raise ManifestError(f"the network cannot be tabulated: {reason}", where=WHERE, value=True, allowed="false")
        self.dtype = next(network.parameters()).dtype
        cutoff = network.cutoff
        self.intervals = math.ceil(default_intervals(network) * PER_WIDTH[self.dtype] / INTERVALS_PER_WIDTH)
        self._cutoff = cutoff
        trunks: list[Any] = [
            module for module in network.modules() if isinstance(getattr(module, "basis", None), GaussianBasis)
        ]
        # One for all trunks, which differ in weights only: they may share layers.
        self._basis = StepBasis(trunks[0].basis, cutoff, self.intervals)
        maps = {layer: getattr(layer, layer.distance_map) for trunk in trunks for layer in trunk.layers()}
        self._maps = list(maps.values())
        self._replaced: list[tuple[nn.Module, str, nn.Module, nn.Module]] = [
            *((trunk, "basis", trunk.basis, self._basis) for trunk in trunks),
            *((layer, layer.distance_map, exact, StepMap(exact, self._basis)) for layer, exact in maps.items()),
        ]

    def find(self, distances: Tensor) -> FoundPlaces | None:
        """Return where distances, Å, are in the tables, for a compiled step, or ``None`` where tables do not pay."""
        return self._basis.find(distances)

    @contextmanager
    def in_place(self, found: FoundPlaces | None = None) -> Iterator[None]:
        """Put the tables in the place of bases and maps, for a step; for a compiled one, with what `find` found."""
        self._basis.found = found
        try:
            for owner, name, _, table in self._replaced:
                owner._modules[name] = table  # not the attribute: it is quick, and nothing else is to notice
            yield
        finally:
            for owner, name, exact, _ in self._replaced:
                owner._modules[name] = exact
            self._basis.forget()

    def errors(self) -> dict[str, float]:
        """Return the largest errors of values and slopes between sites, of the largest value and slope of a map.

        The tables are those of now, in the precision that is trained in; the maps are computed in double precision.
        """
        found = {"value": 0.0, "slope": 0.0}
        per_interval = 4
        n = per_interval * self.intervals
        distances = (torch.arange(n, dtype=torch.float64) + 0.5) * (self._cutoff / n)
        basis = self._basis.exact
        for of_basis in self._maps:
            device = next(of_basis.parameters()).device
            at, lengths = sites(self._cutoff, self.intervals).to(device), distances.to(device)
            exact = nn.Sequential(deepcopy(basis), deepcopy(of_basis)).double().eval()
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                coefficients = coefficients_of(of_basis(basis(at.to(self.dtype))))
                expected = torch.func.jvp(exact, (lengths,), (torch.ones_like(lengths),))
                for order, name in enumerate(found):
                    table = spline(lengths, coefficients, self._cutoff / self.intervals, order).double()
                    error = (table - expected[order]).abs().max() / expected[order].abs().max()
                    found[name] = max(found[name], float(error))
        return found

    def check(self, errors: Mapping[str, float]) -> None:
        """Do nothing if the errors are small.

        Raises:
            TrainingError: They are not, and training would follow another function than the one that is saved.
        """
        limit = LIMITS[self.dtype]
        for name, error in errors.items():
            if not error <= limit:
                raise TrainingError(
                    f"the {name} of a table is too far from the network's, of the largest {name}",
                    where=WHERE,
                    value=f"{error:.1e}",
                    allowed=f"up to {limit:.0e}",
                    remedy="Set training.tabulate to false; the run can go on so, with workspace.resume.",
                )
