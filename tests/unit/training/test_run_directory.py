"""Run directories: names, resuming, locking, ranks."""

import os
import subprocess
import sys
from datetime import datetime

import pytest

from kimgnn.errors import TrainingError
from kimgnn.training.run_directory import open_run_directory, process_rank

NOON = datetime(2026, 1, 2, 12, 0, 0)
LATER = datetime(2026, 1, 2, 12, 0, 1)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No launcher, no batch system."""
    for name in ("KIMGNN_RUN_DIR", "RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def started(run):
    """Leave the checkpoint that a run writes before its first step."""
    run.checkpoints.mkdir()
    run.last.touch()
    return run


def test_name_is_kliffs_and_never_used_twice(tmp_path):
    """``<model>_<time>``; the second run of a second gets a number."""
    first = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    second = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    assert first.path.name == "gnn_2026-01-02-12-00-00"
    assert second.path.name == "gnn_2026-01-02-12-00-00_2"


def test_resume_takes_the_newest_unfinished_run_of_exactly_this_name(tmp_path):
    """Neither a longer name nor a finished run, as long as there is an unfinished one."""
    for name in ("gnn2", "gnn_2", "gnn.1"):
        started(open_run_directory(tmp_path, name, False, 0, LATER))
    newest = started(open_run_directory(tmp_path, "gnn", True, 0, NOON))
    assert not newest.resumed
    done = started(open_run_directory(tmp_path, "gnn", False, 0, LATER))
    done.mark_finished()
    open_run_directory(tmp_path, "gnn", False, 0, LATER)  # it never began
    assert open_run_directory(tmp_path, "gnn", True, 0).path == newest.path
    newest.mark_finished()
    assert open_run_directory(tmp_path, "gnn", True, 0).path == done.path


def test_resume_by_path_needs_a_run(tmp_path):
    """A folder without checkpoints is no run."""
    with pytest.raises(TrainingError, match=r"workspace\.resume"):
        open_run_directory(tmp_path, "gnn", str(tmp_path), 0)
    run = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    run.checkpoints.mkdir()
    assert open_run_directory(tmp_path, "other", str(run.path), 0).path == run.path


def test_other_ranks_take_the_directory_of_rank_0(tmp_path):
    """The processes that rank 0 starts learn its directory, and make none."""
    run = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    assert open_run_directory(tmp_path, "gnn", False, 1, LATER).path == run.path
    assert [path.name for path in tmp_path.iterdir()] == [run.path.name]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}, "gnn_job-77"),
        ({"TORCHELASTIC_RUN_ID": "abc", "WORLD_SIZE": "2"}, "gnn_job-abc"),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}, "gnn_job-port29500"),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_ID": "77"}, "gnn_2026-01-02-12-00-00"),
    ],
)
def test_processes_started_together_agree_without_a_clock(tmp_path, monkeypatch, environment, name):
    """Under Slurm or torchrun, the name comes from the job; a second start of it must say that it resumes."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    run = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    assert run.path.name == name
    if "job" in name:
        started(run)
        monkeypatch.delenv("KIMGNN_RUN_DIR")
        assert open_run_directory(tmp_path, "gnn", False, 1, LATER).path == run.path
        with pytest.raises(TrainingError, match="resume: true"):
            open_run_directory(tmp_path, "gnn", False, 0, LATER)
        assert open_run_directory(tmp_path, "gnn", True, 0, LATER).path == run.path


def test_rank_is_read_from_the_launcher(monkeypatch):
    """Global rank before local rank before Slurm's."""
    assert process_rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert process_rank() == 3
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "5")
    assert process_rank() == 5


def test_lock_keeps_another_process_out_and_dies_with_its_own(tmp_path):
    """A lock is the process's: a killed one leaves none behind."""
    run = open_run_directory(tmp_path, "gnn", False, 0, NOON)
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, os.fspath(run.path / ".lock")], stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TrainingError, match="another process"), run.lock():
            pass
        other.kill()
    with run.lock():
        pass
