"""What a network's heads predict, in plain words: for reports, predictions and exports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from kimgnn.fields import ENERGY, FORCES, STRESS
from kimgnn.registry import HEADS


@dataclass(frozen=True)
class Task:
    """What a property or classification head predicts.

    Attributes:
        name: What its predictions are called.
        kind: ``regression`` or ``classification``.
        target: The label that it learned.
        unit: Of the property; empty where it has none.
        classes: Names of the classes, in the order of their probabilities.
        components: Numbers of a structure (or atom).
        per_atom: A property of each atom.
        extensive: Grows with the number of atoms.
        threshold: What divides a number into two classes.
        transform: What is learned instead of the value: ``none``, ``log10`` or ``per_atom``.
    """

    name: str
    kind: Literal["regression", "classification"]
    target: str
    unit: str = ""
    classes: tuple[str, ...] = ()
    components: int = 1
    per_atom: bool = False
    extensive: bool = False
    threshold: float | None = None
    transform: Literal["none", "log10", "per_atom"] = "none"


LABEL_TASKS: Final = {
    ENERGY: Task(ENERGY, "regression", ENERGY, "eV", extensive=True),
    FORCES: Task(FORCES, "regression", FORCES, "eV/Å", components=3, per_atom=True),
    STRESS: Task(STRESS, "regression", STRESS, "GPa", components=6),
}
"""What an energy head gives, as tasks like any other."""


def head_name(head: Mapping[str, Any]) -> str:
    """Return what a head of a manifest or spec is called: its name, its target, or its type."""
    return str(head.get("name") or head.get("target") or head["type"])


def tasks_of(heads: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Return the task of each head but the energy head.

    Args:
        heads: Of a manifest's ``model`` block or a `kimgnn.models.network.NetworkSpec`, every default filled.
    """
    return [_task(head) for head in heads if head["type"] != "energy"]


def _task(head: Mapping[str, Any]) -> Task:
    options = HEADS.get(head["type"]).Options(**{key: value for key, value in head.items() if key != "type"})
    if head["type"] == "classification":
        return Task(
            head_name(head),
            "classification",
            options.target,
            classes=tuple(options.class_names),
            threshold=options.threshold,
        )
    return Task(
        head_name(head),
        "regression",
        options.target,
        options.unit,
        components=options.components,
        per_atom=options.per_atom,
        extensive=options.extensive,
        transform=options.learned,
    )
