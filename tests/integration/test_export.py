"""Exported networks give in ASE, through KIM, what they give in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported import install_network, silicon_carbide_structures, small_network

from kimgnn.verify.parity import check_parity

pytestmark = [pytest.mark.kim, pytest.mark.usefixtures("kim_collection")]


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_ase_equals_pytorch(n_layers: int, tmp_path: Path) -> None:
    """Energy, forces and stress agree to 1e-9 eV, 1e-8 eV/Å and 1e-9 eV/Å³ for every kind of structure."""
    network, name = small_network(n_layers), f"Layers{n_layers}_SiC__MO_000000000002_000"
    install_network(network, name, tmp_path)
    table = check_parity(network, name, list(silicon_carbide_structures().values()), ranks=())
    assert table.passed, f"\n{table}"
    assert table.rows[0].computed == len(silicon_carbide_structures())


def test_single_precision(tmp_path: Path) -> None:
    """A float32 network runs too, and agrees to float32's digits."""
    network, name = small_network(2, "single"), "Single_SiC__MO_000000000003_000"
    install_network(network, name, tmp_path)
    table = check_parity(network, name, list(silicon_carbide_structures().values()), ranks=())
    assert table.passed, f"\n{table}"


def test_what_a_runtime_refuses_stands_in_the_table() -> None:
    """A model that is not installed fails the check, with the reason."""
    table = check_parity(small_network(1), "Nowhere__MO_000000000004_000", [silicon_carbide_structures()["cell"]], ())
    assert not table.passed
    assert "structure 0: not computed" in str(table)
