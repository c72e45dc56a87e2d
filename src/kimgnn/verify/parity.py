"""The same structures in PyTorch and in other runtimes, and how far they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import KimgnnError, Problem
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.models.network import Network
from kimgnn.physics.potential import Potential
from kimgnn.transforms.periodic_graph import PeriodicGraph
from kimgnn.verify.simulators import ase_prediction, lammps_predictions, without_labels

TOLERANCES: Final[dict[str, dict[str, float]]] = {
    "double": {"energy": 1e-9, "atomic_energies": 1e-9, "forces": 1e-8, "stress": 1e-9},
    "single": {"energy": 1e-5, "atomic_energies": 1e-5, "forces": 1e-4, "stress": 1e-5},
}
"""Largest difference allowed, by the network's precision; in single precision the energy's is one an atom.

Float32 has seven digits, of sums over tens of neighbours. The stress then follows from the forces: an atom of 20 Å³ has
1e-4 eV/Å at the end of a bond of 2 Å.
"""

NAMES: Final = {"energy": "energy", "atomic_energies": "energies of atoms", "forces": "forces", "stress": "stress"}
UNITS: Final = {"energy": "eV", "atomic_energies": "eV", "forces": "eV/Å", "stress": "eV/Å³"}

Found = Prediction | KimgnnError
"""What a runtime says of a structure, or why it says nothing."""


@dataclass(frozen=True)
class ParityRow:
    """How far one runtime is from PyTorch.

    Attributes:
        runtime: ``model.onnx in ASE``.
        differences: For each structure, the largest difference of each quantity that is defined for it, by the names in
            `TOLERANCES`; or why the runtime computed nothing.
    """

    runtime: str
    differences: list[dict[str, float] | str]

    @property
    def computed(self) -> int:
        """How many structures the runtime computed."""
        return sum(isinstance(found, dict) for found in self.differences)

    def worst(self, quantity: str) -> tuple[int, float] | None:
        """Return the structure where a quantity differs most, and by how much; NaN is most, ``None`` is nowhere."""
        found = [
            (index, difference[quantity])
            for index, difference in enumerate(self.differences)
            if isinstance(difference, dict) and quantity in difference
        ]
        return max(found, key=lambda item: math.inf if math.isnan(item[1]) else item[1], default=None)


@dataclass(frozen=True)
class ParityTable:
    """One row a runtime.

    Attributes:
        structures: What each is called.
        precision: The network's: ``double`` or ``single``.
        rows: One a runtime.
    """

    structures: list[str]
    precision: str
    rows: list[ParityRow]

    @property
    def tolerances(self) -> dict[str, float]:
        """The largest difference allowed of each quantity."""
        return TOLERANCES[self.precision]

    @property
    def units(self) -> dict[str, str]:
        """Of the differences."""
        return UNITS | ({"energy": "eV/atom"} if self.precision == "single" else {})

    @property
    def passed(self) -> bool:
        """Whether every runtime computed every structure, each difference a number within its tolerance."""
        return not self.problems()

    def problems(self) -> list[Problem]:
        """Return what failed: of each runtime the worst of each quantity, and what it did not compute."""
        problems = []
        for row in self.rows:
            for index, found in enumerate(row.differences):
                if isinstance(found, str):
                    problems.append(Problem(f"{row.runtime}, {self.structures[index]}", f"not computed: {found}"))
            for quantity, allowed in self.tolerances.items():
                index, difference = row.worst(quantity) or (0, 0.0)
                if not difference <= allowed:
                    where = f"{row.runtime}, {self.structures[index]}, {NAMES[quantity]}"
                    message = f"differs from PyTorch by {difference:.1e} {self.units[quantity]}"
                    problems.append(Problem(where, message, allowed=f"{allowed:.0e}"))
        return problems

    def markdown(self) -> str:
        """Return the table of the largest differences, and below it what was not computed."""
        heads = [f"{NAMES[quantity]} ({self.units[quantity]})" for quantity in self.tolerances]
        lines = [["runtime", "structures", *heads]]
        for row in self.rows:
            worst = [row.worst(quantity) for quantity in self.tolerances]
            lines.append([row.runtime, str(row.computed), *(f"{item[1]:.1e}" if item else "–" for item in worst)])
        lines.append(["allowed", str(len(self.structures)), *(f"{value:.0e}" for value in self.tolerances.values())])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        text = "\n".join(
            f"| {' | '.join(word.ljust(width) for word, width in zip(line, widths, strict=True))} |" for line in lines
        )
        refused = "".join(f"- {problem}\n" for problem in self.problems())
        return f"{text}\n" + (f"\n{refused}" if refused else "")

    __str__ = markdown


def check_parity(
    network: Network, model_name: str, structures: Sequence[Atoms], ranks: Sequence[int] = (1, 2)
) -> ParityTable:
    """Return how far ASE through KIM, and LAMMPS on each number of ranks, are from PyTorch.

    Args:
        network: What was exported.
        model_name: The exported model, installed where KIM finds it.
        structures: Periodic or not; their own labels are not looked at.
        ranks: MPI ranks to run LAMMPS on.
    """
    expected = torch_predictions(network, structures)
    precision = network.spec.precision
    rows = [
        compare(runtime, structures, expected, found, precision)
        for runtime, found in simulator_predictions(model_name, structures, network.spec.species, ranks).items()
    ]
    return ParityTable([f"structure {index}" for index in range(len(structures))], precision, rows)


def torch_predictions(network: Network, structures: Sequence[Atoms]) -> list[Prediction]:
    """Return what the network says on the periodic graph, with which it was trained."""
    configurations = [configuration_from_atoms(without_labels(atoms)) for atoms in structures]
    return predict(Potential(network), configurations, PeriodicGraph(network.cutoff, n_layers=network.num_layers))


def simulator_predictions(
    model_name: str, structures: Sequence[Atoms], species: Sequence[str], ranks: Sequence[int]
) -> dict[str, list[Found]]:
    """Return what an installed KIM model says in ASE, and in LAMMPS on each number of ranks."""
    found = {"ASE": [attempt(ase_prediction, atoms, model_name) for atoms in structures]}
    for count in ranks:
        runtime = f"LAMMPS on {count} rank{'s' if count > 1 else ''}"
        found[runtime] = list(lammps_predictions(structures, model_name, species, count))
    return found


def attempt(predict_one: Callable[..., Prediction], *arguments: object) -> Found:
    """Return what a runtime says, or why it says nothing."""
    try:
        return predict_one(*arguments)
    except KimgnnError as error:
        return error


def compare(
    runtime: str, structures: Sequence[Atoms], expected: Sequence[Prediction], found: Sequence[Found], precision: str
) -> ParityRow:
    """Return how far a runtime's predictions are from the expected ones."""
    differences: list[dict[str, float] | str] = []
    for atoms, want, have in zip(structures, expected, found, strict=True):
        if isinstance(have, KimgnnError):
            differences.append(str(have))
            continue
        quantities = [name for name in NAMES if name != "stress" or all(atoms.pbc)]
        difference = {name: _largest(getattr(want, name), getattr(have, name)) for name in quantities}
        if precision == "single":
            difference["energy"] /= len(atoms)
        differences.append(difference)
    return ParityRow(runtime, differences)


def worst_of(rows: Sequence[ParityRow]) -> ParityRow:
    """Return the largest differences among several runs of one runtime."""
    differences: list[dict[str, float] | str] = []
    for found in zip(*(row.differences for row in rows), strict=True):
        refusals = [why for why in found if isinstance(why, str)]
        computed = [difference for difference in found if isinstance(difference, dict)]
        largest = {name: float(np.max([item[name] for item in computed])) for name in computed[0]} if computed else {}
        differences.append(refusals[0] if refusals else largest)
    return ParityRow(rows[0].runtime, differences)


def _largest(expected: ArrayLike, found: ArrayLike) -> float:
    return float(np.abs(np.subtract(expected, found)).max())
