"""Every tensor in an atom graph: name, shape, dtype, unit. Said once, here.

Names are those of KLIFF's `PyGGraph`, so that a graph of ours is one of KLIFF's. In a batch, per-node and per-edge
tensors are concatenated, indices are shifted, and scalars of a structure become one tensor of shape ``(n_graphs,)``.

Conventions: an edge ``e`` runs from a sender ``edge_index[0, e]`` to a receiver ``edge_index[1, e]``; its vector is
``coords[receiver] - coords[sender] + shift``. Stress is positive in tension, in Voigt order xx yy zz yz xz xy (ASE's).
A label that is missing is NaN.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Field(NamedTuple):
    """Shape, dtype and unit of one tensor of a graph."""

    shape: str
    dtype: str
    unit: str
    meaning: str


Z: Final = "z"
SPECIES: Final = "species"
COORDS: Final = "coords"
CELL: Final = "cell"
PBC: Final = "pbc"
EDGE_INDEX: Final = "edge_index0"
SHIFTS: Final = "shifts"
EDGE_OF_PAIR: Final = "edge_of_pair"
PAIR_OF_EDGE: Final = "pair_of_edge"
DISTINCT_EDGES: Final = "distinct_edges"
DISTINCT_COPIES: Final = "distinct_copies"
DISTINCT_OF_LENGTH: Final = "distinct_of_length"
LENGTH_OF_DISTINCT: Final = "length_of_distinct"
DISTINCT: Final = (DISTINCT_EDGES, DISTINCT_COPIES, DISTINCT_OF_LENGTH, LENGTH_OF_DISTINCT)
"""What k nearest neighbours have for networks that merge edges, see `kimgnn.transforms.distinct`."""
TRIPLETS: Final = "triplets"
CONTRIBUTIONS: Final = "contributions"
IMAGES: Final = "images"
N_LAYERS: Final = "n_layers"
IDX: Final = "idx"
ENERGY: Final = "energy"
FORCES: Final = "forces"
STRESS: Final = "stress"
CONFIG_WEIGHT: Final = "config_weight"
ENERGY_WEIGHT: Final = "energy_weight"
FORCES_WEIGHT: Final = "forces_weight"
STRESS_WEIGHT: Final = "stress_weight"
ATOMIC_ENERGIES: Final = "atomic_energies"
ENERGY_DEVIATION: Final = "energy_deviation"
FORCES_DEVIATION: Final = "forces_deviation"
STRESS_DEVIATION: Final = "stress_deviation"

LABELS: Final = (ENERGY, FORCES, STRESS)
"""The labels that an energy head is trained on."""


def target_field(target: str) -> str:
    """Return the graph's name of a target, float64 ``(1, n_components)``, or ``(n_atoms, n_components)`` by atom."""
    return f"target_{target}"


FIELDS: Final[dict[str, Field]] = {
    Z: Field("(n_nodes,)", "int64", "", "atomic number"),
    SPECIES: Field("(n_nodes,)", "int64", "", "index in the transform's species list; never train on it"),
    COORDS: Field("(n_nodes, 3)", "float64", "Å", "positions, as given (not wrapped)"),
    CELL: Field("(3, 3)", "float64", "Å", "cell vectors in rows; use view(-1, 3, 3) in a batch"),
    PBC: Field("(1, 3)", "bool", "", "periodic along each cell vector"),
    EDGE_INDEX: Field("(2, n_edges)", "int64", "", "sender, receiver; sorted by receiver in a PeriodicGraph"),
    SHIFTS: Field("(n_edges, 3)", "float64", "Å", "added to the receiver's position minus the sender's"),
    EDGE_OF_PAIR: Field("(n_pairs,)", "int64", "", "the first edge of a pair; absent with k nearest neighbours"),
    PAIR_OF_EDGE: Field("(n_edges,)", "int64", "", "the pair of an edge and its reverse; absent likewise"),
    DISTINCT_EDGES: Field("(n_distinct,)", "int64", "", "first of the edges of one sender, receiver and length"),
    DISTINCT_COPIES: Field("(n_distinct,)", "int64", "", "how many edges it stands for; k nearest neighbours only"),
    DISTINCT_OF_LENGTH: Field("(n_lengths,)", "int64", "", "the first distinct edge of a length; likewise"),
    LENGTH_OF_DISTINCT: Field("(n_distinct,)", "int64", "", "the length of a distinct edge; likewise"),
    TRIPLETS: Field("(2, n_triplets)", "int64", "", "an edge, and one that goes on from it, by which they are sorted"),
    CONTRIBUTIONS: Field("(n_nodes,)", "int64", "", "0 real atom, 1 ghost; +2 for each graph in a batch (KLIFF's)"),
    IMAGES: Field("(n_nodes,)", "int64", "", "the real atom that a node is an image of"),
    N_LAYERS: Field("()", "int64", "", "number of staged edge lists"),
    IDX: Field("()", "int64", "", "index of the configuration in the dataset"),
    ENERGY: Field("()", "float64", "eV", "total energy"),
    FORCES: Field("(n_atoms, 3)", "float64", "eV/Å", "forces on the real atoms"),
    STRESS: Field("(1, 6)", "float64", "eV/Å³", "stress, tension-positive, Voigt xx yy zz yz xz xy"),
    CONFIG_WEIGHT: Field("()", "float64", "", "weight of the structure in the loss"),
    ENERGY_WEIGHT: Field("()", "float64", "", "weight of its energy"),
    FORCES_WEIGHT: Field("(n_atoms, 1)", "float64", "", "weight of its forces, atom by atom"),
    STRESS_WEIGHT: Field("()", "float64", "", "weight of its stress"),
    ATOMIC_ENERGIES: Field("(n_atoms,)", "float64", "eV", "atomic energies (predicted only)"),
    ENERGY_DEVIATION: Field("()", "float64", "eV", "standard deviation of an ensemble's members (predicted only)"),
    FORCES_DEVIATION: Field("(n_atoms, 3)", "float64", "eV/Å", "the same of the forces (predicted only)"),
    STRESS_DEVIATION: Field("(1, 6)", "float64", "eV/Å³", "the same of the stress (predicted only)"),
}
