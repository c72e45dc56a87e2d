"""What a model declares and what it does: its species, and its units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from kimgnn.errors import KIMError
from kimgnn.verify.checks.comparisons import Case, compare_each, pass_or_fail
from kimgnn.verify.checks.grades import Outcome, largest_error
from kimgnn.verify.checks.kim_model import ENERGIES, LENGTHS, KIMModel
from kimgnn.verify.checks.rounding import difference
from kimgnn.verify.checks.structures import compositions, lattice

UNIT_SYSTEMS: Final = (
    *((length, "eV") for length in LENGTHS if length != "A"),
    # KIM API 2.3 takes 1 J for 1e-7 erg: a model that converts with KIM is not to blame.
    *(("A", energy) for energy in ENERGIES if energy not in ("eV", "erg")),
    ("Bohr", "Hartree"),
)


def species_that_fail(model: KIMModel) -> dict[str, str]:
    """Return the declared species of which the model computes no cluster, alone or with another, and the reason."""
    alone = {name: _problem(model, [name]) for name in model.species}
    return {
        name: problem
        for name, problem in alone.items()
        if problem and all(_problem(model, [name, other]) for other in model.species if other != name)
    }


def species_supported_as_stated(model: KIMModel) -> Outcome:
    """Pass if each declared species occurs in a cluster of which the model gives finite energy and forces.

    Some models of alloys compute certain combinations only, which OpenKIM's check takes for support.
    """
    if problems := species_that_fail(model):
        return Outcome("F", "; ".join(f"{name}: {problem}" for name, problem in problems.items()))
    return Outcome("P", f"computed: {', '.join(model.species)}")


def _problem(model: KIMModel, species: Sequence[str]) -> str:
    """What is wrong with a small cluster of the species; empty if nothing is."""
    try:
        energy, forces = model.evaluate(lattice("bcc", 3.0, 1, species, amplitude=0.1))
    except KIMError as error:
        return str(error)
    return "" if np.isfinite(energy) and np.isfinite(forces).all() else "energy or forces are not finite"


def unit_conversion(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if influence distance, energy and forces mean the same in every system of units that the model accepts.

    A model may refuse units and compute in its own (KIM lets it); that is told, and is no failure. Allowed is an error
    of grade B, 2e-6: KIM's kcal/mol is off by 8e-7 from the one here, two editions of CODATA differ by less, and a
    wrong factor by far more.
    """
    allowed = largest_error("B")
    accepted: dict[str, KIMModel] = {}
    refused: list[str] = []
    for length, energy in UNIT_SYSTEMS:
        system = f"{length} and {energy}"
        try:
            converted = KIMModel(model.name, length, energy)
        except KIMError:
            converted = None
        if converted is not None and converted.accepted:
            accepted[system] = converted
        else:
            refused.append(system)

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        cluster = lattice("bcc", 3.0, 2, mixed, amplitude=0.1)
        expected = model.evaluate(cluster)
        for system, converted in accepted.items():
            yield Case(f"{label} in {system}", difference(converted.evaluate(cluster), expected), allowed)

    reaches = [
        Case(f"influence distance in {system}", abs(other.influence_distance / model.influence_distance - 1), allowed)
        for system, other in accepted.items()
    ]
    cases, note = compare_each(compositions(species, 8), compare)
    refusal = f"the model refuses {'; '.join(refused)}" if refused else "the model accepts all units tried"
    if not accepted:
        return Outcome("P", f"the model computes in {model.length_unit} and {model.energy_unit} only, and says so")
    return pass_or_fail(reaches + cases, note, refusal)
