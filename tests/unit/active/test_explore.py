"""A round of exploration: what is in which file, and what is not done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from kimgnn.active.explore import explore
from kimgnn.active.frames import NAME, ORIGIN, read_frames, write_frames
from kimgnn.evaluation.calibrated import Calibration, ValueCalibration
from kimgnn.manifest.active import Active
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint

ACTIVE = Active.model_validate(
    {
        "explore": {
            "md": {"count": 2, "temperatures": [300.0, 900.0], "steps": 6, "every": 3},
            "strain": {"count": 3},
            "rattle": {"count": 2},
        },
        "guards": {"deviation": 1e6},
    }
)
SEEDS = [bulk("Si", cubic=True), bulk("Si")]


def test_every_way_gives_structures_that_say_where_they_are_from(run: Path, tmp_path: Path) -> None:
    found = explore(ACTIVE, SEEDS, run, tmp_path, 4, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "md_000.extxyz", "md_001.extxyz", "rattle.extxyz", "strain.extxyz",
    ]  # fmt: skip
    assert [atoms.info[NAME] for atoms in found] == [f"r04_{index:05d}" for index in range(9)]
    ways = [atoms.info[ORIGIN].split()[0] for atoms in found]
    assert [ways.count(way) for way in ("md", "strain", "rattle")] == [4, 3, 2]
    assert "at 900 K, step 6" in found[3].info[ORIGIN]


def test_what_is_there_is_not_explored_again(run: Path, tmp_path: Path) -> None:
    """Killed after the first trajectory: it stays as it is, and the others are those of a run that was not killed."""
    whole = explore(ACTIVE, SEEDS, run, tmp_path / "whole", 0, seed=1)
    part = tmp_path / "part"
    part.mkdir()
    frames = read_frames(tmp_path / "whole" / "md_000.extxyz")
    frames[0].info[ORIGIN] = "before"
    write_frames(part / "md_000.extxyz", frames)
    found = explore(ACTIVE, SEEDS, run, part, 0, seed=1)
    assert found[0].info[ORIGIN] == "before"
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    again = explore(ACTIVE, SEEDS, tmp_path / "no run", part, 0, seed=1)  # needs no committee any more
    assert len(again) == len(whole)


def test_guards_are_of_what_members_say(committee: Checkpoint, run: Path, tmp_path: Path) -> None:
    """A calibration by which all deviations are huge ends no trajectory, and changes none."""
    huge = Calibration("conformal", 0.9, {"forces": ValueCalibration(0.0, 1e9, 1.0, 50)})
    (tmp_path / "checkpoints").mkdir()
    save_checkpoint(tmp_path / "checkpoints" / "best.ckpt", replace(committee, calibration=huge.to_dict()))
    raw, calibrated = (explore(ACTIVE, SEEDS, path, tmp_path / path.name, 0, seed=1) for path in (run, tmp_path))
    for one, other in zip(raw, calibrated, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_rounds_and_seeds_explore_differently(run: Path, tmp_path: Path) -> None:
    rattles = Active.model_validate({"explore": {"rattle": {"count": 1}}})
    found = {
        (number, seed): explore(rattles, SEEDS[:1], run, tmp_path / f"{number}_{seed}", number, seed)[0].positions
        for number in (0, 1) for seed in (0, 1)
    }  # fmt: skip
    keys = list(found)
    for index, one in enumerate(keys):
        for other in keys[index + 1 :]:
            assert (found[one] != found[other]).any()


def test_structures_with_atoms_too_close_are_left_out(run: Path, tmp_path: Path) -> None:
    guarded = Active.model_validate({"explore": {"strain": {"count": 4}}, "guards": {"distance": 0.99}})
    close = bulk("Si", "sc", a=2.0)
    assert explore(guarded, [close], run, tmp_path, 0, seed=0) == []
    assert len(read_frames(tmp_path / "strain.extxyz")) == 4


def test_an_empty_trajectory_is_one(run: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "empty.extxyz", [])
    assert read_frames(tmp_path / "empty.extxyz") == []
    with pytest.raises(FileNotFoundError):
        read_frames(tmp_path / "none.extxyz")
