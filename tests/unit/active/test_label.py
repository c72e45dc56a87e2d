"""Labels by a calculator: each in its own file, none twice, none that is no label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from kimgnn.active.frames import NAME, read_frames
from kimgnn.active.label import calculator_factory, label_all
from kimgnn.errors import DataError, ManifestError

ARGUMENTS = {"sigma": 2.1, "epsilon": 0.3, "rc": 4.0, "smooth": True}


def structures(count: int = 3) -> list[Atoms]:
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.1, rng=rng)
        atoms.info = {NAME: f"r00_{index}", "origin": "a test"}
        found.append(atoms)
    return found


class Counting(LennardJones):
    """Counts evaluations, and fails on demand."""

    calls = 0
    fails_at = -1

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        type(self).calls += 1
        if type(self).calls == type(self).fails_at:
            raise RuntimeError("the field does not converge")
        super().calculate(*args, **kwargs)


@pytest.fixture
def counting() -> type[Counting]:
    Counting.calls, Counting.fails_at = 0, -1
    return Counting


def test_a_label_is_what_the_calculator_says(tmp_path: Path) -> None:
    """To the eight decimals of a file; the stress too, of a crystal."""
    label_all(structures(), calculator_factory("ase.calculators.lj.LennardJones", ARGUMENTS), tmp_path, skip=False)
    for atoms in structures():
        (found,) = read_frames(tmp_path / f"{atoms.info[NAME]}.extxyz")
        atoms.calc = LennardJones(**ARGUMENTS)
        assert found.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.get_stress(), atoms.get_stress(), rtol=0, atol=1e-6)
        assert found.info == atoms.info


def test_a_molecule_has_no_stress(tmp_path: Path) -> None:
    atoms = molecule("CO")
    atoms.info[NAME] = "co"
    label_all([atoms], EMT, tmp_path, skip=False)
    assert set(read_frames(tmp_path / "co.extxyz")[0].calc.results) == {"energy", "forces"}


def test_labels_until_a_failure_are_kept_and_not_computed_again(tmp_path: Path, counting: type[Counting]) -> None:
    counting.fails_at = 3
    with pytest.raises(DataError, match=r"structure r00_2: .*RuntimeError: the field does not converge.*on_error"):
        label_all(structures(4), lambda: counting(**ARGUMENTS), tmp_path, skip=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r00_0.extxyz", "r00_1.extxyz"]
    label_all(structures(4), lambda: counting(**ARGUMENTS), tmp_path, skip=False)
    assert counting.calls == 5
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failure_may_be_left_out(tmp_path: Path, counting: type[Counting]) -> None:
    counting.fails_at = 2
    with pytest.warns(UserWarning, match="structure r00_1 is left out: RuntimeError"):
        label_all(structures(), lambda: counting(**ARGUMENTS), tmp_path, skip=True)
    assert "does not converge" in (tmp_path / "r00_1.failed").read_text()
    label_all(structures(), lambda: counting(**ARGUMENTS), tmp_path, skip=True)
    assert counting.calls == 3


def test_what_failed_may_be_tried_again(tmp_path: Path, counting: type[Counting]) -> None:
    """What fails again still says why; what has a label is not computed again."""
    counting.fails_at = 2
    with pytest.warns(UserWarning, match="r00_1 is left out"):
        label_all(structures(), lambda: counting(**ARGUMENTS), tmp_path, skip=True)
    counting.fails_at = 4
    with pytest.warns(UserWarning, match="r00_1 is left out"):
        label_all(structures(), lambda: counting(**ARGUMENTS), tmp_path, skip=True, retry=True)
    assert (tmp_path / "r00_1.failed").exists()
    label_all(structures(), lambda: counting(**ARGUMENTS), tmp_path, skip=True, retry=True)
    assert counting.calls == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"r00_{index}.extxyz" for index in range(3)]


def test_a_label_that_is_not_a_number_is_none(tmp_path: Path) -> None:
    make = calculator_factory("ase.calculators.lj.LennardJones", ARGUMENTS | {"epsilon": float("nan")})
    with pytest.raises(DataError, match="energy is not finite"):
        label_all(structures(), make, tmp_path, skip=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ase.calculators.nothing.KIM", {}, "cannot be imported: No module named"),
        ("ase.calculators.lj.Nothing", {}, "cannot be imported: .*no attribute 'Nothing'"),
        ("ase.build.bulk", {}, "cannot be made: TypeError"),
        ("collections.Counter", {}, "makes no ASE calculator"),
    ],
)
def test_what_makes_no_calculator(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=rf"active\.label\.\w+: {message}"):
        calculator_factory(name, arguments)()
