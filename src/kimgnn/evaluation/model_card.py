"""A model card: what a network is, what it learned from, how good it is and where it ends."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from kimgnn.evaluation.tables import Table, aligned
from kimgnn.files import atomic_write

if TYPE_CHECKING:
    from kimgnn.evaluation.run_report import Timing

PACKAGES: Final = ("kimgnn", "torch", "torch_geometric", "kliff", "ase", "numpy", "scikit-learn")
"""Whose versions a card names."""


@dataclass(frozen=True)
class ModelFacts:
    """What a report and a card both tell.

    Attributes:
        manifest: Of the run.
        metrics: Tables of errors and scores, all splits.
        floor: Tables of the network beside what composition alone gives.
        verdicts: A sentence a head.
        data: A table of the splits.
        elements: Element -> training structures that hold it.
        judged: The split that counts.
        timing: How long training took.
        n_parameters: Numbers that were learned.
        uncertainty: Tables of what deviations and intervals are worth; none where there are none.
        uncertainty_notes: What their columns are.
    """

    manifest: Mapping[str, Any]
    metrics: Sequence[Table]
    floor: Sequence[Table]
    verdicts: Sequence[str]
    data: Table
    elements: Mapping[str, int]
    judged: str
    timing: Timing | None = None
    n_parameters: int | None = None
    uncertainty: Sequence[Table] = ()
    uncertainty_notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What the manifest calls the model."""
        return str(self.manifest.get("model", {}).get("name") or "model")

    @property
    def networks(self) -> int:
        """How many there are."""
        return int(self.manifest.get("model", {}).get("ensemble") or 1)

    @property
    def source(self) -> str:
        """Where the data come from, as the manifest says."""
        path = self.manifest.get("dataset", {}).get("path")
        paths = path if isinstance(path, list) else [path]
        return ", ".join(Path(str(entry)).name for entry in paths if entry) or "not said"

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version."""
        return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def write_model_card(path: Path, facts: ModelFacts) -> None:
    """Write ``MODEL_CARD.md``, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("kimgnn.evaluation"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["table"] = lambda table: aligned(table.rows, table.left)
    text = environment.get_template("model_card.md.j2").render(facts=facts)
    with atomic_write(path) as file:
        file.write(text)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
