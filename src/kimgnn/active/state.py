"""How far active learning has come: one file, written whole when something is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from kimgnn.errors import TrainingError
from kimgnn.files import atomic_write

FORMAT: Final = 1

STATE: Final = "state.json"

ACTIVE: Final = "active"
RANDOM: Final = "random"
"""The arms: structures chosen by deviation and diversity, and at random."""


@dataclass
class Round:
    """A round: training on the labels until then, and the choice of the next ones.

    Attributes:
        runs: Arm -> run directory of its training, when that is finished.
        metrics: Arm -> metric -> error on the test set, or on validation data where there is none.
        n_train: Arm -> structures trained on.
        pool: Structures to choose from, when they are chosen.
        largest: The largest of their deviations, eV/Å.
        median: Their median deviation, eV/Å.
        unsure: How many have a deviation above the threshold.
        chosen: Arm -> names of those to label.
        labelled: Arm -> names of those that have labels, when all are computed.
        late: Arm -> names of those of earlier rounds whose labels failed then, and came now: they are trained on from
            the next round on.
    """

    runs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    n_train: dict[str, int] = field(default_factory=dict)
    pool: int | None = None
    largest: float | None = None
    median: float | None = None
    unsure: int | None = None
    chosen: dict[str, list[str]] = field(default_factory=dict)
    labelled: dict[str, list[str]] | None = None
    late: dict[str, list[str]] = field(default_factory=dict)

    def new_labels(self, arm: str) -> list[str]:
        """Return the names of those that have labels since this round."""
        return [*(self.labelled or {}).get(arm, ()), *self.late.get(arm, ())]


@dataclass
class State:
    """All rounds.

    Attributes:
        asked: Hash of the manifest.
        rounds: Those begun, the last one perhaps not done.
        stopped: Why it is over; an empty text while it is not.
    """

    asked: str
    rounds: list[Round] = field(default_factory=lambda: [Round()])
    stopped: str = ""

    def labels(self, arm: str = ACTIVE, before: int | None = None) -> int:
        """Return how many labels an arm has, of all rounds or those before one."""
        return sum(len(one.new_labels(arm)) for one in self.rounds[:before])


def load_state(folder: Path, asked: str) -> State:
    """Return the state of a folder, a new one where there is none.

    Raises:
        TrainingError: The file is damaged, or belongs to another manifest or a newer kimgnn.
    """
    path = folder / STATE
    if not path.exists():
        return State(asked)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = content.pop("format")
        if found == FORMAT:
            state = State(content["asked"], [Round(**one) for one in content["rounds"]], content["stopped"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError("is no state of active learning, or damaged", where=str(path)) from error
    if found != FORMAT:
        raise TrainingError("written by another kimgnn", where=str(path), value=found, allowed=f"format {FORMAT}")
    if state.asked != asked:
        raise TrainingError(
            "belongs to active learning with another manifest",
            where=str(path),
            remedy="Go on with the manifest that it was begun with (rounds, labels, threshold and label may change), "
            "or give another workspace.name or model.name.",
        )
    return state


def save_state(folder: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    with atomic_write(folder / STATE) as file:
        json.dump({"format": FORMAT, **asdict(state)}, file, indent=1)
