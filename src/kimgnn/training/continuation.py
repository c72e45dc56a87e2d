"""What a run that goes on must have in common with how it began: its structures, their division, its network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kimgnn.errors import TrainingError
from kimgnn.models.network import NetworkSpec
from kimgnn.models.tasks import tasks_of
from kimgnn.training.description import FILE_HASHES


def check_same_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse other structures, of the data set or of validation and test files.

    Args:
        before: What `kimgnn.training.description.describe_data` said when the run began.
        now: What it says.

    Raises:
        TrainingError: They differ.
    """
    if before["hash"] != now["hash"]:
        raise TrainingError(
            "the structures are not those that the run began with, and would be split otherwise",
            where="dataset",
            remedy="Give the same data, or start a new run with workspace.resume: false.",
        )
    files = now[FILE_HASHES]
    for split in ("validation", "test"):
        # Runs begun before there were these hashes are taken as they are.
        if before.get(FILE_HASHES, files).get(split) != files.get(split):
            raise TrainingError(
                "the structures of these files are not those that the run began with",
                where=f"training.{split}_dataset",
                remedy="Give the same files, or start a new run with workspace.resume: false.",
            )


def check_same_division(indices: Mapping[str, Sequence[int]], run: Path) -> None:
    """Refuse another division than that of the index files in the run's directory.

    Args:
        indices: ``train``, ``val`` and ``test`` -> positions in the data set.
        run: The directory.

    Raises:
        TrainingError: They differ.
    """
    blocks = {"train": "training", "val": "validation", "test": "test"}
    for split, now in indices.items():
        path = run / f"{split}_indices.txt"
        if path.is_file() and [int(index) for index in path.read_text().split()] != list(now):
            raise TrainingError(
                "the structures are divided otherwise than when the run began",
                where=f"training.{blocks[split]}_dataset",
                remedy="Give the same sizes and workspace.seed, or start a new run with workspace.resume: false.",
            )


def check_same_network(before: Mapping[str, Any] | None, spec: NetworkSpec | None) -> None:
    """Refuse the weights of another network: some would fit, and mean something else.

    Args:
        before: The spec in a checkpoint, plain; ``None`` of a module.
        spec: That of the network which is to have the weights; likewise.

    Raises:
        TrainingError: They differ.
    """
    if not before or spec is None:
        return
    now = spec.to_dict()
    if before.get("members", 1) != now["members"]:
        raise TrainingError(
            "the run has another number of networks",
            where="model.ensemble",
            value=now["members"],
            allowed=repr(before.get("members", 1)),
            remedy="Start a new run with workspace.resume: false.",
        )
    for name in ("architecture", "options", "species", "precision", "split_depth", "composition"):
        # Checkpoints from before there was the one or the other have none of it.
        if (before.get(name) or 0) != (now[name] or 0):
            raise TrainingError(
                f"the run has a network with another {name}",
                where=f"model.{name}",
                value=now[name],
                allowed=repr(before.get(name)),
                remedy="Start a new run with workspace.resume: false.",
            )
    if tasks_of(before["heads"]) != tasks_of(now["heads"]):
        raise TrainingError(
            "the run has heads that predict something else, or in another way",
            where="model.heads",
            remedy="Give the same heads, or start a new run with workspace.resume: false.",
        )
