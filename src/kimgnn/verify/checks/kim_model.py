"""A KIM portable model, evaluated through kimpy on clusters and periodic cells, in Å and eV whatever its own units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
from ase import units
from numpy.typing import NDArray

from kimgnn.errors import KIMError, did_you_mean
from kimgnn.verify.checks.structures import Structure

try:
    import kimpy
    from kimpy import neighlist
except ImportError as missing:
    raise KIMError("kimpy is not installed", remedy="pip install kimgnn[kim]") from missing

LENGTHS: Final = {"A": 1.0, "Bohr": units.Bohr, "nm": 10.0, "cm": 1e8, "m": 1e10}
"""KIM's units of length, in Å."""

ENERGIES: Final = {
    "eV": 1.0,
    "kcal_mol": units.kcal / units.mol,
    "Hartree": units.Hartree,
    "J": units.J,
    "erg": 1e-7 * units.J,
    "amu_A2_per_ps2": units._amu * 1e4 * units.J,
}
"""KIM's units of energy, in eV."""


class Evaluation(NamedTuple):
    """What a model says of a structure.

    Attributes:
        energy: eV.
        forces: (n_atoms, 3), eV/Å.
    """

    energy: float
    forces: NDArray[np.float64]


class KIMModel:
    """A portable model in one of the systems of units that it offers.

    Args:
        name: Of a model that `require_portable_model` found.
        length: The unit of length to ask for, a key of `LENGTHS`.
        energy: The unit of energy to ask for, a key of `ENERGIES`.

    Attributes:
        name: As given.
        accepted: Whether the model agreed to the units; otherwise it computes in its own.
        length_unit: The one that it computes in.
        energy_unit: The one that it computes in.
        species: KIM's name of each species that it declares -> its code.
        influence_distance: Å.
        cutoffs: Of its neighbour lists, Å.
        no_neighbors_of_ghosts: Whether it does without the neighbours of periodic images.

    Raises:
        KIMError: The model cannot be created, in these units or at all.
    """

    def __init__(self, name: str, length: str = "A", energy: str = "eV") -> None:
        with _kim_errors(name, f"the model cannot be created in {length} and {energy}"):
            self.accepted, self._model = kimpy.model.create(
                kimpy.numbering.zeroBased,
                getattr(kimpy.length_unit, length),
                getattr(kimpy.energy_unit, energy),
                kimpy.charge_unit.e,
                kimpy.temperature_unit.K,
                kimpy.time_unit.ps,
                name,
            )
            self.length_unit, self.energy_unit = map(str, self._model.get_units()[:2])
            self.species = self._declared_species()
            cutoffs, hints = self._model.get_neighbor_list_cutoffs_and_hints()
        self.name = name
        self.influence_distance = self._model.get_influence_distance() * LENGTHS[self.length_unit]
        self.cutoffs: list[float] = (cutoffs * LENGTHS[self.length_unit]).tolist()
        self.no_neighbors_of_ghosts = bool(np.all(hints))
        self._evaluator = self.evaluator()

    @property
    def reach(self) -> float:
        """The longest distance at which two atoms alone can feel each other, Å: other atoms may pass it on farther."""
        return max(self.cutoffs)

    def evaluate(self, structure: Structure) -> Evaluation:
        """Return energy and forces.

        Raises:
            KIMError: The model refuses the structure, or cannot give one of them.
        """
        self._evaluator.load(structure)
        return self._evaluator.compute()

    def evaluator(self) -> Evaluator:
        """Return compute arguments of their own, which each thread needs."""
        return Evaluator(self)

    def _declared_species(self) -> dict[str, int]:
        known = kimpy.species_name
        names = [known.get_species_name(index) for index in range(known.get_number_of_species_names())]
        support = {str(name): self._model.get_species_support_and_code(name) for name in names}
        return {name: code for name, (supported, code) in support.items() if supported}


class Evaluator:
    """One set of KIM compute arguments, and the arrays that they point to."""

    def __init__(self, model: KIMModel) -> None:
        self._kim = model
        self._neighbors = neighlist.NeighList()
        with _kim_errors(model.name, "the model gives no compute arguments"):
            self._arguments = model._model.compute_arguments_create()
            self._arguments.set_callback_pointer(
                kimpy.compute_callback_name.GetNeighborList, neighlist.get_neigh_kim(), self._neighbors
            )
            for argument in (kimpy.compute_argument_name.partialEnergy, kimpy.compute_argument_name.partialForces):
                if self._arguments.get_argument_support_status(argument) == kimpy.support_status.notSupported:
                    raise KIMError(f"the model does not compute {argument}", where=model.name)

    def load(self, structure: Structure) -> None:
        """Lay out the images and neighbour lists of a structure; lists end where the model's cutoffs do."""
        kim = self._kim
        positions = np.ascontiguousarray(structure.positions)
        codes = np.array([kim.species[name] for name in structure.species], np.intc)
        self._images = np.arange(len(positions))
        if any(structure.pbc):
            ghosts, ghost_codes, images = neighlist.create_paddings(
                kim.influence_distance, structure.cell, np.array(structure.pbc, np.intc), positions, codes
            )
            positions = np.concatenate([positions, ghosts.reshape(-1, 3)])
            codes = np.concatenate([codes, ghost_codes])
            self._images = np.concatenate([self._images, images])
        contributing = (np.arange(len(positions)) < len(structure.positions)).astype(np.intc)
        wants_neighbors = contributing if kim.no_neighbors_of_ghosts else np.ones_like(contributing)
        # kimpy's lists take 1e-5 for a collision, whatever the unit, and serve no cutoff above the number they know.
        angstrom = LENGTHS[kim.length_unit]
        scale = max(1.0, 1.0 / angstrom)
        self._neighbors.build(
            scale * positions, scale * kim.influence_distance, scale * np.array(kim.cutoffs), wants_neighbors
        )
        self._arrays: dict[str, NDArray[Any]] = {
            "numberOfParticles": np.array([len(positions)], np.intc),
            "particleSpeciesCodes": codes.astype(np.intc),
            "particleContributing": contributing,
            "coordinates": positions / angstrom,
            "partialEnergy": np.zeros(1),
            "partialForces": np.zeros_like(positions),
        }
        for argument, array in self._arrays.items():
            self._arguments.set_argument_pointer(getattr(kimpy.compute_argument_name, argument), array)

    def compute(self) -> Evaluation:
        """Return energy and forces of the structure laid out; other threads may run meanwhile.

        Raises:
            KIMError: The model gave an error.
        """
        kim = self._kim
        with _kim_errors(kim.name, "the model refuses to compute the structure"):
            kim._model.compute(self._arguments, release_GIL=True)
        electronvolt = ENERGIES[kim.energy_unit]
        forces = np.zeros((int(self._arrays["particleContributing"].sum()), 3))
        np.add.at(forces, self._images, self._arrays["partialForces"])
        return Evaluation(
            electronvolt * float(self._arrays["partialEnergy"][0]),
            electronvolt / LENGTHS[kim.length_unit] * forces,
        )


def require_portable_model(name: str) -> None:
    """Check that KIM finds a portable model of this name.

    Raises:
        KIMError: It finds none, or an item of another kind.
    """
    collections = kimpy.collections.create()
    try:
        found = collections.get_item_type(name)
    except RuntimeError as error:
        kind = kimpy.collection_item_type.portableModel
        count = collections.cache_list_of_item_names_by_type(kind)
        installed = [collections.get_item_name_by_type(index) for index in range(count)]
        raise KIMError(
            "KIM finds no model of this name",
            value=name,
            remedy=f"{did_you_mean(name, installed)} `kim-api-collections-management list` shows what is installed; "
            f"`kim-api-collections-management install user {name}` gets a model of openkim.org, and "
            "`kimgnn export RUN --install` exports one.".strip(),
        ) from error
    if found != kimpy.collection_item_type.portableModel:
        raise KIMError(
            "not a portable model",
            value=name,
            allowed="portable models (MO), which run through the KIM API itself",
            remedy="Simulator models (SM) run in their simulator only; of a driver (MD), name a model that uses it.",
        )


@contextmanager
def _kim_errors(name: str, problem: str) -> Iterator[None]:
    """Raise kimpy's errors as ours, and keep all but errors out of KIM's log."""
    kimpy.log.Log.push_default_verbosity(kimpy.log_verbosity.error)
    try:
        yield
    except RuntimeError as error:
        raise KIMError(problem, where=name, remedy="The file kim.log has the reason.") from error
    finally:
        kimpy.log.Log.pop_default_verbosity()
