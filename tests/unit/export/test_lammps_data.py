"""A structure keeps its shape on the way into LAMMPS's frame, and vectors come back."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kimgnn.errors import DataError
from kimgnn.export.lammps_data import MARGIN, lammps_box, write_data

CELLS = arrays(float, (3, 3), elements=st.floats(-8, 8)).filter(
    lambda cell: abs(cell[0] @ np.cross(cell[1], cell[2])) > 1
)
PBC = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(CELLS, PBC)
def test_the_structure_is_only_turned(cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> None:
    """Turned back, atoms and periodic cell vectors are where they were, up to the order of the vectors."""
    atoms = Atoms("Si3", [[0, 0, 0], [1, 2, 0.5], [-1, 0.3, 2]], cell=cell, pbc=pbc)
    box = lammps_box(atoms)
    np.testing.assert_allclose(box.positions @ box.rotation.T, atoms.positions, rtol=0, atol=1e-12)
    turned_back = box.cell[[letter == "p" for letter in box.boundary]] @ box.rotation.T
    gaps = np.abs(turned_back[:, None] - cell[list(pbc)][None]).max(axis=2)
    assert (np.sort(gaps, axis=1)[:, :1] < 1e-10).all()


@given(CELLS, PBC)
def test_box_is_what_lammps_takes(cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> None:
    """Lower-triangular, positive, rotated and not mirrored; it holds the atoms where it is not periodic."""
    atoms = Atoms("Si2", [[0, 0, 0], [1, 2, 3]], cell=cell, pbc=pbc)
    box = lammps_box(atoms)
    assert (np.diag(box.cell) > 0).all()
    assert (np.triu(box.cell, 1) == 0).all()
    assert np.linalg.det(box.rotation) == pytest.approx(1)
    for axis, letter in enumerate(box.boundary):
        if letter == "f":
            assert np.isclose(box.positions[:, axis].min() - box.low[axis], MARGIN)
            assert np.isclose(box.low[axis] + box.cell[axis, axis] - box.positions[:, axis].max(), MARGIN)


def test_vectors_and_tensors_come_back() -> None:
    """Forces and stress turned into the frame and back are what they were."""
    rng = np.random.default_rng(0)
    box = lammps_box(Atoms("Si", cell=rng.normal(size=(3, 3)) * 4, pbc=True))
    forces = rng.normal(size=(5, 3))
    tensor = rng.normal(size=(3, 3))
    tensor += tensor.T
    turned = box.rotation.T @ tensor @ box.rotation
    np.testing.assert_allclose(box.forces_back(forces @ box.rotation), forces, atol=1e-14)
    voigt = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    np.testing.assert_allclose(
        box.stress_back(np.array([turned[i, j] for i, j in voigt])), [tensor[i, j] for i, j in voigt], atol=1e-14
    )


def test_an_element_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    """Before LAMMPS sees it."""
    with pytest.raises(DataError, match="'C'"):
        write_data(tmp_path / "structure.data", Atoms("SiC", [[0, 0, 0], [0, 0, 2]]), ["Si"])
