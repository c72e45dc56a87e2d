"""A potential whose answer is known in closed form, as an ONNX network: springs between all atoms within the cutoff."""

from __future__ import annotations

import numpy as np
import onnx.parser
from ase import Atoms
from ase.neighborlist import neighbor_list
from toy_potential import Expected

REST_LENGTH, STIFFNESS = 1.9, 0.7  # Å, eV/Å²
REFERENCE = {"Si": -1.5, "C": -2.25}  # eV

GRAPH = f"""
<ir_version: 8, opset_import: ["" : 18]>
springs (int64[N] species_codes, int64[2, E] edge_index, double[E, 3] edge_vectors, int64[L] node_counts,
         int64[L] edge_counts, int64[E] reverse_edge) => (double[C] atomic_energies, double[E, 3] gradient)
<double[2] reference = {{{REFERENCE["Si"]}, {REFERENCE["C"]}}}, double rest_length = {{{REST_LENGTH}}},
 double half_stiffness = {{{STIFFNESS / 2}}}, double half = {{0.5}}, double nothing = {{0.0}},
 double[1, 3] no_edge = {{0.0, 0.0, 0.0}},
 int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] last = {{-1}}, int64[1] end = {{1000}}>
{{
    num_edges = Shape (reverse_edge)
    has_reverse = Less (reverse_edge, num_edges)
    has_reverse_column = Unsqueeze (has_reverse, one)
    padded = Concat <axis = 0> (edge_vectors, no_edge)
    back = Gather <axis = 0> (padded, reverse_edge)
    forth = Neg (back)
    vectors = Where (has_reverse_column, forth, edge_vectors)
    lengths = ReduceL2 <keepdims = 1> (vectors, one)
    stretches = Sub (lengths, rest_length)
    half_forces = Mul (stretches, half_stiffness)
    directions = Div (vectors, lengths)
    gradient = Mul (half_forces, directions)
    products = Mul (half_forces, stretches)
    quarters = Mul (products, half)
    edge_energies = Squeeze (quarters, one)
    receiver_row = Slice (edge_index, one, two, zero)
    receivers = Squeeze (receiver_row, zero)
    num_contributing = Slice (node_counts, last, end, zero)
    codes = Slice (species_codes, zero, num_contributing, zero)
    references = Gather <axis = 0> (reference, codes)
    atomic_energies = ScatterElements <axis = 0, reduction = "add"> (references, receivers, edge_energies)
}}
"""


def springs_onnx(old: str = "", new: str = "") -> bytes:
    """The network's file, with ``new`` for ``old`` in `GRAPH`.

    An edge's vector is taken from its reverse where there is one, so that results are wrong if a reverse is.
    """
    assert old in GRAPH
    return bytes(onnx.parser.parse_model(GRAPH.replace(old, new) if old else GRAPH).SerializeToString())


def springs_expected(atoms: Atoms, cutoff: float) -> Expected:
    """What the springs give: each atom's half of its springs' energies, and their tensions."""
    atom, length, vector = neighbor_list("idD", atoms, cutoff)
    stretch = length - REST_LENGTH
    energies = np.array([REFERENCE[symbol] for symbol in atoms.symbols])
    np.add.at(energies, atom, STIFFNESS / 4 * stretch**2)
    pulls = (STIFFNESS * stretch / length)[:, None] * vector
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, atom, pulls)
    virial = np.einsum("ea,eb->ab", pulls, vector) / 2
    volume = atoms.get_volume() if atoms.cell.rank == 3 else np.nan
    return Expected(energies.sum(), energies, forces, virial.ravel()[[0, 4, 8, 5, 2, 1]] / volume)
