"""A simulator in C, by ctypes, that asks a KIM model's extension what each member of a committee says."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from kim_by_hand import kimpy
from scipy.spatial import cKDTree

ID = b"kimgnn_committee_deviation"

SHAPES = {
    "energy_deviation": lambda members, n: (1,),
    "particle_energy_deviation": lambda members, n: (n,),
    "forces_deviation": lambda members, n: (n, 3),
    "member_energies": lambda members, n: (members,),
    "member_forces": lambda members, n: (members, n, 3),
}


class Request(ctypes.Structure):
    """``struct kimgnn_committee_deviation`` of kim_export/committee.h."""

    _fields_: ClassVar = [
        ("size", ctypes.c_size_t),
        ("compute_arguments", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("members", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in SHAPES),
    ]


class Supported(ctypes.Structure):
    """KIM's ``KIM_SupportedExtensions``."""

    _fields_: ClassVar = [
        ("count", ctypes.c_int),
        ("ids", (ctypes.c_char * 128) * 64),
        ("required", ctypes.c_int * 64),
    ]


GetNeighbors = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.c_void_p),
)


class Simulator:
    """A model in some units, and compute arguments for the particles that it is given.

    Attributes:
        owner: Of each particle, the atom that it is an image of.
    """

    def __init__(self, name: str, length: str = "A", energy: str = "eV") -> None:
        self.library = ctypes.CDLL("libkim-api.so.2")
        self.model, self.arguments, accepted = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        units = [
            "LENGTH_UNIT_" + length,
            "ENERGY_UNIT_" + energy,
            "CHARGE_UNIT_e",
            "TEMPERATURE_UNIT_K",
            "TIME_UNIT_ps",
        ]
        chosen = [self.constant(name) for name in ("NUMBERING_zeroBased", *units)]
        assert not self.library.KIM_Model_Create(
            *chosen, name.encode(), ctypes.byref(accepted), ctypes.byref(self.model)
        )
        assert not self.library.KIM_Model_ComputeArgumentsCreate(self.model, ctypes.byref(self.arguments))

    def close(self) -> None:
        """Destroy what was created."""
        assert not self.library.KIM_Model_ComputeArgumentsDestroy(self.model, ctypes.byref(self.arguments))
        self.library.KIM_Model_Destroy(ctypes.byref(self.model))

    def constant(self, name: str) -> ctypes.c_int:
        """One of KIM's, all of which are structures of one int."""
        return ctypes.c_int.in_dll(self.library, f"KIM_{name}")

    def place(self, atoms: Atoms, length_unit: float = 1.0, contributing: Sequence[bool] | None = None) -> None:
        """Set the compute arguments: ``atoms`` (Å) and their images; ``contributing`` are the atoms of one rank."""
        influence, codes = ctypes.c_double(), []
        self.library.KIM_Model_GetInfluenceDistance(self.model, ctypes.byref(influence))
        reach = influence.value * length_unit
        for symbol in atoms.symbols:
            supported, code = ctypes.c_int(), ctypes.c_int()
            species = self.constant(f"SPECIES_NAME_{symbol}")
            self.library.KIM_Model_GetSpeciesSupportAndCode(
                self.model, species, ctypes.byref(supported), ctypes.byref(code)
            )
            codes.append(code.value)
        positions, self.owner = atoms.positions, np.arange(len(atoms), dtype=np.intc)
        if atoms.pbc.any():
            ghosts, ghost_codes, ghost_of = kimpy.neighlist.create_paddings(
                reach, atoms.cell.array, atoms.pbc.astype(np.intc), positions, np.array(codes, np.intc)
            )
            positions, codes = np.concatenate([positions, ghosts]), [*codes, *ghost_codes]
            self.owner = np.concatenate([self.owner, ghost_of]).astype(np.intc)
        is_real = np.ones(len(atoms), bool) if contributing is None else np.asarray(contributing)
        self.arrays = {
            "numberOfParticles": np.array([len(codes)], np.intc),
            "particleSpeciesCodes": np.array(codes, np.intc),
            "particleContributing": np.concatenate([is_real, np.zeros(len(codes) - len(atoms))]).astype(np.intc),
            "coordinates": np.ascontiguousarray(positions / length_unit),
        }
        for name, array in self.arrays.items():
            kind = "Double" if name == "coordinates" else "Integer"
            self._set(name, array, kind)
        tree = cKDTree(positions)
        near = tree.query_ball_point(positions, 1.1 * reach)
        self.lists = [np.array([j for j in found if j != i], np.intc) for i, found in enumerate(near)]
        self.callback = GetNeighbors(self._neighbors)
        assert not self.library.KIM_ComputeArguments_SetCallbackPointer(
            self.arguments,
            self.constant("COMPUTE_CALLBACK_NAME_GetNeighborList"),
            self.constant("LANGUAGE_NAME_c"),
            self.callback,
            None,
        )

    def compute(self) -> tuple[float, np.ndarray]:
        """Energy and partial forces through KIM's own arguments."""
        self.results = {"partialEnergy": np.full(1, np.nan), "partialForces": np.full((len(self.owner), 3), np.nan)}
        for name, array in self.results.items():
            self._set(name, array, "Double")
        assert not self.library.KIM_Model_Compute(self.model, self.arguments)
        return float(self.results["partialEnergy"][0]), self.results["partialForces"].copy()

    def ask(self, wanted: Sequence[str] = tuple(SHAPES), **changes: Any) -> dict[str, np.ndarray] | None:
        """What the extension writes, or nothing if it fails; ``changes`` are fields that are given otherwise."""
        request = self.request()
        if self.extend(ID, request):
            return None
        n = len(self.owner)
        found = {name: np.full(SHAPES[name](request.members, n), np.nan) for name in wanted}
        given = {"compute_arguments": self.cpp_arguments(), "owner": self.owner.ctypes.data} | changes
        given |= {name: array.ctypes.data for name, array in found.items()}
        return None if self.extend(ID, self.request(**given)) else found

    def request(self, **fields: Any) -> Request:
        """A structure with these fields, its size, and nothing else."""
        return Request(**{"size": ctypes.sizeof(Request)} | fields)

    def cpp_arguments(self) -> ctypes.c_void_p:
        """The compute arguments of C++: what C's handle points to."""
        return ctypes.cast(self.arguments, ctypes.POINTER(ctypes.c_void_p)).contents

    def supported(self) -> list[bytes]:
        """The extensions that the model tells of by KIM's standard extension."""
        structure = Supported()
        assert not self.extend(b"KIM_SupportedExtensions", structure)
        assert not any(structure.required[: structure.count])
        return [structure.ids[index].value for index in range(structure.count)]

    def extend(self, name: bytes, structure: ctypes.Structure | None) -> int:
        """Call an extension, and return whether it failed."""
        pointer = None if structure is None else ctypes.byref(structure)
        return int(self.library.KIM_Model_Extension(self.model, name, pointer))

    def _set(self, name: str, array: np.ndarray, kind: str) -> None:
        setter = getattr(self.library, f"KIM_ComputeArguments_SetArgumentPointer{kind}")
        assert not setter(
            self.arguments, self.constant(f"COMPUTE_ARGUMENT_NAME_{name}"), ctypes.c_void_p(array.ctypes.data)
        )

    def _neighbors(self, data: Any, lists: int, cutoffs: Any, index: int, particle: int, count: Any, found: Any) -> int:
        count[0], found[0] = len(self.lists[particle]), self.lists[particle].ctypes.data
        return 0
