"""The `active` block: how `kimgnn active` explores, selects, labels, and when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kimgnn.errors import Problem
from kimgnn.manifest.block import Block, InputPath, NotNegative, Positive, Text, wrong
from kimgnn.manifest.dataset import Dataset, LabelWeights
from kimgnn.manifest.model import Model
from kimgnn.manifest.training import Fraction, Training

Count = Annotated[int, Field(ge=1)]


def _are_temperatures(temperatures: list[float]) -> list[float]:
    if not temperatures or min(temperatures) <= 0:
        raise wrong("is no list of temperatures", allowed="one or more numbers above 0, in K")
    return temperatures


class Dynamics(Block):
    """Molecular dynamics with the committee, at constant volume and temperature (Langevin)."""

    count: Count = 8
    """Trajectories a round, each from a seed drawn at random; temperatures take turns."""
    temperatures: Annotated[list[float], AfterValidator(_are_temperatures)] = Field(default=[300.0])
    """K."""
    steps: Count = 500
    """Of each trajectory, if no guard ends it."""
    every: Count = 20
    """Steps from one frame that is kept to the next."""
    timestep: Positive = 1.0
    """fs."""
    friction: Positive = 0.01
    """Of the thermostat, 1/fs."""
    engine: Literal["ase", "lammps"] = "ase"
    """What integrates: ASE, which watches the deviation at every step; LAMMPS by a KIM model of the committee, of whose
    frames the deviation is computed afterwards."""


class Strains(Block):
    """Seeds under random strains."""

    count: Count = 20
    """Structures a round."""
    size: Fraction = 0.05
    """Largest component of the strain."""
    rattle: NotNegative = 0.05
    """Standard deviation of the displacement of a coordinate besides, Å: without, forces, by whose deviation structures
    are chosen, are often 0 by symmetry."""


class Rattles(Block):
    """Seeds whose atoms are moved at random."""

    count: Count = 20
    """Structures a round."""
    size: Positive = 0.1
    """Largest standard deviation of a coordinate's displacement, Å; each structure has its own, up to this."""


class Exploration(Block):
    """Where structures to choose from come from."""

    md: Dynamics | None = None
    """Molecular dynamics."""
    strain: Strains | None = None
    """Random strains."""
    rattle: Rattles | None = None
    """Random displacements."""


class Guards(Block):
    """What is not worth a label, and ends a trajectory."""

    deviation: Positive = 20.0
    """eV/Å; a structure whose largest force deviation is above has left what the committee knows altogether."""
    distance: Fraction = 0.6
    """Two atoms nearer than this fraction of the sum of their covalent radii are too close."""


class Selection(Block):
    """Which structures are labelled."""

    count: Count = 20
    """In a round, at most."""
    by: Literal["max", "mean"] = "max"
    """The deviation of a structure: the largest of its atoms' force deviations, or their mean."""
    apart: Annotated[float, Field(ge=0)] = 0.1
    """Structures without an atom that is farther than this from those of chosen and labelled ones are near-duplicates,
    and left out; in units of the spread of all these atoms' features."""


class Labelling(Block):
    """Who computes energies, forces and stresses: an ASE calculator, or people, through a folder."""

    calculator: Text | None = None
    """Dotted name of what makes a calculator, such as `ase.calculators.kim.KIM`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is called with."""
    folder: Text | None = None
    """Folder in which structures are written to `selected` and results are looked for in `results`."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a calculator's failure does: `stop` keeps the labels until then, `skip` leaves the structure out, told."""


class Active(Block):
    """How `kimgnn active` finds the structures that are worth a label. Training takes no notice of it."""

    seeds: InputPath | list[InputPath] | None = None
    """Structures that exploration starts from, any format that ASE reads; those of the training set when absent."""
    explore: Exploration = Exploration()
    """Where structures to choose from come from."""
    guards: Guards = Guards()
    """What is not worth a label."""
    select: Selection = Selection()
    """Which structures are labelled."""
    label: Labelling = Labelling()
    """Who labels."""
    retraining: dict[str, Any] = Field(default_factory=dict)
    """Dotted path in the manifest -> the value it has from the second training on, which begins with the last weights,
    such as `training.epochs: 40`."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """eV/Å; structures with a smaller deviation are not labelled, and it stops when no candidate has a larger one."""
    labels: Count | None = None
    """Stop with this many labels, those of the data set not counted; any number when absent."""
    rounds: Count = 10
    """Stop after this many rounds of labels."""
    baseline: Literal["none", "random"] = "none"
    """`random` trains a second committee beside the first, on as many structures drawn at random from the same ones."""


def check_active(active: Active, dataset: Dataset, model: Model, training: Training) -> Iterator[Problem]:
    """Yield what does not go together, if the block is there.

    Args:
        active: The block.
        dataset: The block of the same manifest.
        model: Likewise.
        training: Likewise.
    """
    if active == Active():
        return
    explore, label = active.explore, active.label
    if explore.md is None and explore.strain is None and explore.rattle is None:
        yield Problem("active.explore", "names no way to explore", allowed="md, strain, rattle")
    if explore.md is not None and explore.md.every > explore.md.steps:
        yield Problem("active.explore.md.every", "is more than the steps", explore.md.every, f"1 to {explore.md.steps}")
    if (label.calculator is None) == (label.folder is None):
        yield Problem("active.label", "needs one of two", allowed="calculator, folder")
    elif label.calculator is not None and "." not in label.calculator.strip("."):
        remedy = "Write module and name, such as ase.calculators.kim.KIM."
        yield Problem("active.label.calculator", "is no dotted name", label.calculator, remedy=remedy)
    elif label.folder is not None and (label.arguments or label.on_error != "stop"):
        yield Problem("active.label", "arguments and on_error belong to a calculator", remedy="Remove them.")
    if model.architecture is None or [head["type"] for head in model.heads] != ["energy"]:
        message = "active learning needs an energy head, and no other: labels are energies, forces and stresses"
        yield Problem("model.heads", message, [head["type"] for head in model.heads], "[{type: energy}]")
    if model.ensemble < 2:
        remedy = "Give the number of members, such as 4."
        yield Problem("model.ensemble", "active learning needs a committee", model.ensemble, "2 or more", remedy)
    for where, weights in (("dataset.weights", dataset.weights), ("training.loss.weights", training.loss.weights)):
        if weights is not None and not isinstance(weights, LabelWeights):
            message = "is a file with a row for each structure, of which there will be more"
            yield Problem(where, message, weights, remedy="Give the same weights for all of them.")
