"""Checkpoints: a network's description and weights, read without unpickling code and without a trainer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kimgnn.errors import ModelError
from kimgnn.files import atomic_write
from kimgnn.models.build import build_network
from kimgnn.models.network import Network, NetworkSpec

FORMAT = 1
"""Version of the ``kimgnn`` entry; a reader refuses a newer one."""

ENTRY = "kimgnn"
"""Key of the description in the file; a Lightning checkpoint carries it beside Lightning's own keys."""

CALIBRATION = "calibration"
"""Key in the entry of what `kimgnn.evaluation.calibration` fitted."""

LIGHTNING_PREFIX = "potential.network."
"""Where the training module keeps the network."""

TRAINING_PREFIX = "balance."
"""Where it keeps what it learns besides."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it comes from.

    Attributes:
        network: In evaluation mode.
        transform: Name and options of the configuration transform that makes its graphs.
        manifest: The manifest of the run, every default filled.
        metrics: Name -> value, on the splits of the run, as far as known.
        data: What the run was trained on: counts and sources.
        calibration: Of its deviations and probabilities, plain (`kimgnn.evaluation.calibration.Calibration`); empty
            without one.
    """

    network: Network
    transform: dict[str, Any]
    manifest: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> NetworkSpec:
        """What the network was built from."""
        return self.network.spec

    def describe(self) -> dict[str, Any]:
        """Return the ``kimgnn`` entry of the file: plain values only."""
        return {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "transform": self.transform,
            "manifest": self.manifest,
            "metrics": self.metrics,
            "data": self.data,
            CALIBRATION: self.calibration,
        }


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``, whole or not at all."""
    with atomic_write(path, "wb") as file:
        torch.save({ENTRY: checkpoint.describe(), "state_dict": checkpoint.network.state_dict()}, file)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of kimgnn, its own or Lightning's; of a run directory, the best one.

    Raises:
        ModelError: There is no such file, it is damaged, it was not written by kimgnn or by a newer one, or it holds a
            module given as ``model=``, which only its author's code can build.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise ModelError(
            "no such checkpoint", where=str(path), remedy="Give a run directory, or a .ckpt file of its checkpoints/."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ModelError(
            f"the file is damaged or not a checkpoint ({type(error).__name__}: {reason})",
            where=str(path),
            remedy="Use another file of the same checkpoints/ folder.",
        ) from error
    entry = content.get(ENTRY) if isinstance(content, dict) else None
    if entry is None:
        raise ModelError("not written by kimgnn", where=str(path), remedy="Train, or convert it, with kimgnn.")
    if entry["format"] > FORMAT:
        raise ModelError(
            "written by a newer kimgnn",
            where=str(path),
            value=entry["format"],
            allowed=f"format {FORMAT} or older",
            remedy="Update kimgnn.",
        )
    if entry["spec"] is None:
        raise ModelError(
            "holds the weights of a module given as model=, which kimgnn cannot build",
            where=str(path),
            remedy="Build the module yourself and pass it to GNNLightningTrainer(manifest, model=...).",
        )
    network = build_network(NetworkSpec(**entry["spec"]))
    state = {
        key.removeprefix(LIGHTNING_PREFIX): value
        for key, value in content["state_dict"].items()
        if not key.startswith(TRAINING_PREFIX)
    }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"weights do not fit the network: {error}", where=str(path)) from error
    network.eval()
    calibration = entry.get(CALIBRATION, {})
    return Checkpoint(network, entry["transform"], entry["manifest"], entry["metrics"], entry["data"], calibration)
