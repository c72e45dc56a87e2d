"""The scripts in examples/ do what they say."""

import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from structures import mixed_atoms

from kimgnn.calculator import KimgnnCalculator

EXAMPLES = Path(__file__).parents[2] / "examples"

WITHOUT_US = """
import runpy, sys
sys.modules.update(dict.fromkeys(["kimgnn", "torch", "kliff"]))  # None: importing them fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


@pytest.mark.parametrize(
    "atoms", [mixed_atoms(["C", "Si"]), bulk("SiC", "zincblende", a=4.0)], ids=["8 atoms", "2 atoms"]
)
def test_onnx_without_kimgnn(atoms: Atoms, trained: Path, tmp_path: Path) -> None:
    """The script prints what the calculator says, to the eight digits printed, where kimgnn cannot be imported.

    In the cell of two atoms neighbours are at exactly the cutoff, where the list must hold both directions or none.
    """
    ase.io.write(tmp_path / "crystal.xyz", atoms)
    atoms = ase.io.read(tmp_path / "crystal.xyz")
    atoms.calc = KimgnnCalculator(trained)
    command = [sys.executable, "-c", WITHOUT_US, EXAMPLES / "onnx_without_kimgnn.py", trained / "model.onnx"]
    output = subprocess.run([*command, tmp_path / "crystal.xyz"], check=True, capture_output=True, text=True).stdout
    printed = np.array(output.replace("[", " ").replace("]", " ").split(), dtype=float)
    expected = [atoms.get_potential_energy(), *atoms.get_forces().flat, *atoms.get_stress(voigt=False).flat]
    np.testing.assert_allclose(printed, expected, rtol=0, atol=1e-8)
