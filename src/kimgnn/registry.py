"""Names in a manifest -> classes. Built-in ones are imported when first asked for; third parties add entry points.

A package adds an architecture with::

    [project.entry-points."kimgnn.architectures"]
    mynet = "mypackage.mynet:MyNet"
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from kimgnn.errors import ManifestError, did_you_mean


class Registry:
    """A table of names, each standing for a class that is imported only when used.

    Args:
        kind: What the classes are, for messages: ``"architecture"``.
        group: Entry-point group that third parties add to.
        builtin: Name -> ``"module:Class"``.
    """

    def __init__(self, kind: str, group: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self._group = group
        self._builtin = builtin

    @cached_property
    def _targets(self) -> dict[str, str]:
        # To look through all packages that are installed takes longer than to check a manifest.
        return {point.name: point.value for point in entry_points(group=self._group)} | self._builtin

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._targets)

    def get(self, name: str, where: str = "") -> Any:
        """Return the class that ``name`` stands for.

        Raises:
            ManifestError: No such name; the message lists the names and the nearest one.
        """
        targets = self._targets
        if name not in targets:
            raise ManifestError(
                f"unknown {self.kind}",
                where=where,
                value=name,
                allowed=", ".join(sorted(targets)),
                remedy=did_you_mean(name, targets),
            )
        module, _, attribute = targets[name].partition(":")
        return getattr(import_module(module), attribute)


ARCHITECTURES = Registry(
    "architecture",
    "kimgnn.architectures",
    {
        "alignn": "kimgnn.models.alignn:ALIGNN",
        "cgcnn": "kimgnn.models.cgcnn:CGCNN",
        "gat": "kimgnn.models.gat:GAT",
        "megnet": "kimgnn.models.megnet:MEGNet",
        "schnet": "kimgnn.models.schnet:SchNet",
    },
)
HEADS = Registry(
    "head",
    "kimgnn.heads",
    {
        "energy": "kimgnn.heads.energy:EnergyHead",
        "property": "kimgnn.heads.property:PropertyHead",
        "classification": "kimgnn.heads.classification:ClassificationHead",
    },
)
TRANSFORMS = Registry(
    "configuration transform",
    "kimgnn.transforms",
    {
        "CrystalGraph": "kimgnn.transforms.crystal_graph:CrystalGraph",
        "LineGraph": "kimgnn.transforms.line_graph:LineGraph",
        "PeriodicGraph": "kimgnn.transforms.periodic_graph:PeriodicGraph",
        "RadialGraph": "kliff.transforms.configuration_transforms.graphs:RadialGraph",
    },
)
