"""Jobs in their file: nothing that was accepted is lost, and nothing stays longer than it shall."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kimgnn.errors import DataError
from kimgnn.service.formats import Given
from kimgnn.service.job_store import Job, JobStore


def entries(count: int) -> list[Given]:
    return [Given("model", f"it {place}", "ase", {"numbers": [14]}, {"t": 1.0}) for place in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite", 3600)


def test_a_job_from_beginning_to_end(store: JobStore) -> None:
    job = store.add(entries(5))
    assert store.find(job.id) == job == Job(job.id, "queued", 5, 0)
    assert len(job.id) == 32
    name, first = store.next_entries(3)
    assert (name, first) == (job.id, list(enumerate(entries(5)))[:3])
    assert store.find(job.id).status == "running"
    store.put(job.id, [(0, '"a"', True), (1, '"b"', False), (2, '"c1","c2"', True)])
    assert store.unfinished == 2
    assert store.results(job.id) == ['"a"', '"b"', '"c1","c2"']
    assert store.results(job.id, 1, 1) == ['"b"']
    assert store.results(job.id, 0, 0) == []
    assert [place for place, _ in store.next_entries(9)[1]] == [3, 4]
    store.put(job.id, [(3, "3", True), (4, "4", True)])
    assert store.find(job.id) == Job(job.id, "done", 5, 5)
    assert store.next_entries(9) is None
    assert store.remove(job.id).status == "done"
    assert store.find(job.id) is None
    assert store.results(job.id) == []


def test_a_job_without_a_good_result_failed(store: JobStore) -> None:
    job = store.add(entries(1))
    store.put(job.id, [(0, "{}", False)])
    assert store.find(job.id).status == "failed"


def test_a_cancelled_job_keeps_nothing_and_takes_nothing(store: JobStore) -> None:
    job = store.add(entries(3))
    store.next_entries(3)
    store.put(job.id, [(0, "0", True)])
    assert store.remove(job.id).status == "cancelled"
    assert store.unfinished == 0
    store.put(job.id, [(1, "1", True), (2, "2", True)])  # what was computed meanwhile
    assert store.find(job.id).status == "cancelled"
    assert store.results(job.id) == []
    assert store.next_entries(3) is None
    assert store.unfinished == 0


def test_the_same_result_twice_counts_once(store: JobStore) -> None:
    job = store.add(entries(2))
    for _ in range(2):
        store.put(job.id, [(0, "0", True)])
    assert (store.find(job.id).done, store.unfinished) == (1, 1)


def test_jobs_take_turns(store: JobStore) -> None:
    jobs = [store.add(entries(2)).id for _ in range(3)]
    assert [store.next_entries(1)[0] for _ in range(6)] == jobs * 2


def test_done_jobs_expire_and_others_do_not(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite", -1)
    done, cancelled, waiting = (store.add(entries(1)).id for _ in range(3))
    store.put(done, [(0, "0", True)])
    store.remove(cancelled)
    store.remove_expired()
    assert store.find(done) is store.find(cancelled) is None
    assert store.find(waiting).status == "queued"


def test_nobody_else_reads_it_and_no_second_service_opens_it(store: JobStore, tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store.add(entries(1))
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())
    with pytest.raises(DataError, match="--jobs"):
        JobStore(path, 1)
    store.close()
    again = JobStore(path, 1)
    assert again.unfinished == 1


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_another_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    if content:
        with pytest.raises(DataError, match="file of jobs"):
            JobStore(path, 1)
        assert path.read_bytes() == content
    else:
        JobStore(path, 1).close()


KILLED = """
import sys
from pathlib import Path
from kimgnn.service.formats import Given
from kimgnn.service.job_store import JobStore
store = JobStore(Path(sys.argv[1]), 3600)
while True:
    job = store.add([Given("model", str(place), "cif", "x" * 1000, {}) for place in range(50)])
    print(job.id, flush=True)
    store.next_entries(20)
    store.put(job.id, [(place, "0", True) for place in range(20)])
"""


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    """A process that accepts and computes is killed at some moment; all jobs it told of are whole."""
    path = tmp_path / "jobs.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        accepted = [process.stdout.readline().strip() for _ in range(7)]
        os.kill(process.pid, signal.SIGKILL)
        accepted += process.stdout.read().split()
    store = JobStore(path, 3600)
    for identifier in accepted:
        job = store.find(identifier)
        assert job.total == 50
        assert job.done == len(store.results(identifier)) in (0, 20)
    seen: dict[str, int] = dict.fromkeys(accepted, 0)
    while found := store.next_entries(100):
        seen[found[0]] = seen.get(found[0], 0) + len(found[1])
        store.put(found[0], [(place, "0", True) for place, _ in found[1]])
    assert all(store.find(identifier).status == "done" for identifier in accepted)
    assert {*seen.values()} <= {30, 50}
