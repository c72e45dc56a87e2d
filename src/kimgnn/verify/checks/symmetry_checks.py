"""Evaluations that must agree: periods doubled, like atoms swapped, everything moved and turned, everything inverted.

Clusters, their sizes and amplitudes are those of OpenKIM's checks as far as its reports tell them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kimgnn.verify.checks.comparisons import Case, compare_each, pass_or_fail
from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.kim_model import Evaluation, KIMModel
from kimgnn.verify.checks.rounding import difference, tolerance
from kimgnn.verify.checks.structures import SEED, Structure, compositions, lattice

BOUNDARIES: Final = [(x, y, z) for x, y, z in product((True, False), repeat=3) if x or y or z]
"""The seven mixes of periodic and free directions."""

MOTIONS: Final = 3


def periodicity_support(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if doubling a periodic direction doubles the energy and gives each image the force of its atom."""

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        cluster = lattice("fcc", 3.0, 1, mixed, amplitude=0.3)
        allowed = tolerance(model, cluster)
        for pbc in BOUNDARIES:
            cell = cluster._replace(pbc=pbc)
            energy, forces = model.evaluate(cell)
            expected = Evaluation(2 * energy, np.concatenate([forces, forces]))
            periodic = "".join(axis for axis, wraps in zip("xyz", pbc, strict=True) if wraps)
            for axis in np.flatnonzero(pbc):
                found = model.evaluate(cell.doubled(axis))
                yield Case(
                    f"{label}, periodic in {periodic}, {'xyz'[axis]} doubled", difference(found, expected), allowed
                )

    return pass_or_fail(*compare_each(compositions(species, 4), compare))


def permutation_symmetry(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if swapping two atoms of one species changes neither the energy nor the force at any place."""

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        cluster = lattice("diamond", 5.0, 1, mixed, amplitude=0.5)
        allowed = tolerance(model, cluster)
        energy, forces = model.evaluate(cluster)
        for first, second in combinations(range(len(cluster.species)), 2):
            if cluster.species[first] == cluster.species[second]:
                order = np.arange(len(cluster.species))
                order[[first, second]] = second, first
                found = model.evaluate(cluster.at(cluster.positions[order]))
                error = difference(found, Evaluation(energy, forces[order]))
                yield Case(f"{label}, atoms {first} and {second} swapped", error, allowed)

    # Of four species on eight sites, each occurs twice.
    return pass_or_fail(*compare_each(compositions(species, 4), compare))


def objectivity(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if moving and turning a cluster leaves its energy, and turns its forces."""

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        rng = np.random.default_rng(SEED)
        cluster = _body_centred(mixed)
        allowed = tolerance(model, cluster)
        energy, forces = model.evaluate(cluster)
        for motion in range(MOTIONS):
            turn, shift = _random_rotation(rng), rng.uniform(-10.0, 10.0, 3)
            found = model.evaluate(cluster.at(cluster.positions @ turn.T + shift))
            error = difference(found, Evaluation(energy, forces @ turn.T))
            yield Case(f"{label}, motion {motion + 1}", error, allowed)

    return pass_or_fail(*compare_each(compositions(species, 8), compare))


def inversion_symmetry(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if inverting a cluster leaves its energy, and inverts its forces."""

    def compare(label: str, mixed: list[str]) -> Iterator[Case]:
        cluster = _body_centred(mixed)
        energy, forces = model.evaluate(cluster)
        found = model.evaluate(cluster.at(-cluster.positions))
        yield Case(f"{label} inverted", difference(found, Evaluation(energy, -forces)), tolerance(model, cluster))

    return pass_or_fail(*compare_each(compositions(species, 8), compare))


def _body_centred(species: Sequence[str]) -> Structure:
    return lattice("bcc", 3.0, 2, species, amplitude=0.3)


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A proper rotation, (3, 3)."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn * np.sign(np.linalg.det(turn))
