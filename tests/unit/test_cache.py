"""The cache: several processes at once, damaged and foreign files, full and read-only disks, growth."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from kimgnn import cache as cache_module
from kimgnn.cache import Cache, user_folder


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def value(number: int) -> bytes:
    """Return between 0 and 20 kB that belong to a number."""
    return hashlib.sha256(str(number).encode()).digest() * (number * 37 % 600)


def fill(cache: Cache, start: int, stop: int) -> None:
    for number in range(start, stop):
        cache.put(key(number), value(number))


def found(cache: Cache, stop: int) -> list[bool]:
    return [cache.get(key(number)) == value(number) for number in range(stop)]


def test_values_come_back(tmp_path):
    """What was put is got, by this object and by another one on the same folder; what was not is None."""
    cache = Cache(tmp_path / "not" / "there", "graphs")
    fill(cache, 0, 50)
    assert all(found(Cache(tmp_path / "not" / "there", "graphs"), 50))
    assert cache.get(key(50)) is None
    assert key(3) in cache
    assert key(50) not in cache
    assert len(cache) == 50
    assert cache.size() > 50 * 5000
    cache.put(key(3), b"other")
    assert cache.get(key(3)) == b"other"


def test_clear(tmp_path):
    """Nothing is left of it, and it goes on; other files of the folder stay."""
    (tmp_path / "notes.txt").touch()
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 5)
    cache.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graphs.turn", "notes.txt"]
    assert cache.size() == 0
    assert found(cache, 1) == [False]
    fill(cache, 0, 5)
    assert all(found(cache, 5))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_write_at_once(tmp_path, method):
    """Four processes that write overlapping entries into a cache that is open here: all are there, none is wrong."""
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 10)
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=fill, args=(cache, 20 * i, 20 * i + 60)) for i in range(4)]
    for process in processes:
        process.start()
    fill(cache, 0, 100)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(cache) == 120
    assert all(found(cache, 120))


def test_forked_process_leaves_its_parents_cache_open(tmp_path):
    """A forked process that ends, or clears the cache, takes nothing from its parent's reading and writing."""
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 10)
    context = multiprocessing.get_context("fork")
    for target, args in ((found, (cache, 10)), (fill, (cache, 10, 20)), (Cache.clear, (cache,))):
        process = context.Process(target=target, args=args)
        process.start()
        process.join()
        assert process.exitcode == 0
    assert all(found(cache, 20))
    fill(cache, 20, 30)
    assert all(found(cache, 30))


def test_threads_share_it(tmp_path):
    """Eight threads read and write, the first of them opening it."""
    cache = Cache(tmp_path, "graphs")
    cache_module._PROCESS.opened.pop(cache.path).environment.close()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: fill(cache, 10 * i, 10 * i + 20), range(8)))
    assert all(found(cache, 90))


def test_it_grows(tmp_path, monkeypatch):
    """A map of 64 KiB doubles until 5 MB fit, also where another process has grown it meanwhile."""
    monkeypatch.setattr(cache_module, "START_SIZE", 2**16)
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 5)
    process = multiprocessing.get_context("fork").Process(target=fill, args=(cache, 5, 400))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert all(found(cache, 400))  # grown by the other
    fill(cache, 400, 900)
    assert all(found(cache, 900))
    assert cache.size() > 5_000_000


def test_processes_grow_it_at_once(tmp_path, monkeypatch):
    """Three processes that all run out of space at once lose nothing."""
    monkeypatch.setattr(cache_module, "START_SIZE", 2**16)
    cache = Cache(tmp_path, "graphs")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(cache, 200 * i, 200 * i + 200)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(found(cache, 600))


def closed(cache: Cache) -> Path:
    """Close the file, as the end of the process does."""
    cache_module._PROCESS.opened.pop(cache.path).environment.close()
    return cache.path


def test_damaged_entries_are_made_anew(tmp_path):
    """Flipped bytes in entries: each is told and absent, the others stay, and what is put again is whole."""
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 60)
    path = closed(cache)
    content = bytearray(path.read_bytes())
    places = [content.find(value(number)) for number in (7, 30, 59)]
    assert min(places) > 0
    for place in places:
        content[place + 5] ^= 1
    path.write_bytes(content)
    cache = Cache(tmp_path, "graphs")
    with pytest.warns(UserWarning, match=r"graphs\.lmdb: an entry is damaged") as told:
        whole = found(cache, 60)
    assert len(told) == 3
    assert [number for number in range(60) if not whole[number]] == [7, 30, 59]
    fill(cache, 7, 8)
    assert cache.get(key(7)) == value(7)


def test_an_entry_in_the_place_of_another_is_damage(tmp_path):
    """The checksum is of the key too."""
    cache = Cache(tmp_path, "graphs")
    cache.put(key(1), b"one")
    with cache_module._PROCESS.opened[cache.path].environment.begin(write=True) as transaction:
        transaction.put(key(2), transaction.get(key(1)))
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.get(key(2)) is None


@pytest.mark.parametrize("left", [1000, 5000, 100_000])
def test_file_that_is_cut_off_is_begun_anew(tmp_path, left):
    """Told by a warning, once, and empty; reading past its end would kill the process."""
    cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 60)
    path = closed(cache)
    os.truncate(path, left)
    with pytest.warns(UserWarning, match=r"graphs\.lmdb: .*the cache is begun anew") as told:
        cache = Cache(tmp_path, "graphs")
    assert len(told) == 1
    assert len(cache) == 0
    fill(cache, 0, 60)
    assert all(found(cache, 60))


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0" * 2000])
def test_foreign_file_is_begun_anew(tmp_path, content):
    """A file of something else by this name is told and replaced."""
    (tmp_path / "graphs.lmdb").write_bytes(content)
    with pytest.warns(UserWarning, match="begun anew"):
        cache = Cache(tmp_path, "graphs")
    fill(cache, 0, 5)
    assert all(found(cache, 5))


def test_any_damage_is_survived(tmp_path):
    """Blocks of the file overwritten anywhere, its directory of pages included: no crash, nothing wrong is returned."""
    cache = Cache(tmp_path / "whole", "graphs")
    fill(cache, 0, 200)
    path = closed(cache)
    script = textwrap.dedent(
        """
        import random, sys, warnings
        from test_cache import Cache, found, fill, key, value
        warnings.simplefilter("ignore")
        cache = Cache(sys.argv[1], "graphs")
        for number in range(200):
            assert cache.get(key(number)) in (None, value(number))
        fill(cache, 0, 200)
        assert sum(found(cache, 200)) >= 199
        """
    )
    for seed in range(4):
        folder = tmp_path / str(seed)
        shutil.copytree(tmp_path / "whole", folder)
        content = bytearray((folder / path.name).read_bytes())
        for block in range(3 * seed):
            place = (7919 * (block + 5 * seed)) % (len(content) - 512)
            content[place : place + 512] = hashlib.sha512(bytes([block])).digest() * 8
        (folder / path.name).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        )
        assert done.returncode == 0, (seed, done.stderr)


def test_folder_that_cannot_be_written(tmp_path):
    """Without a place to write, everything is absent, and that is said once."""
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="going on without the cache") as told:
        cache = Cache(tmp_path / "file" / "folder", "graphs")
    assert len(told) == 1
    fill(cache, 0, 3)
    assert found(cache, 3)[1:] == [False, False]
    assert len(cache) == 0
    assert not cache.writable


def read_and_write(folder: Path, user: int, largest_file: int, pipe: Connection) -> None:
    """Use a cache as another user, or with files of limited size, and send what was found and told."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.setuid(user)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache = Cache(folder, "graphs")
        fill(cache, 100, 300)
        pipe.send((found(cache, 300), cache.writable, [str(warning.message) for warning in told]))


def in_another_process(
    folder: Path, user: int | None = None, largest_file: int = resource.RLIM_INFINITY
) -> tuple[list[bool], bool, list[str]]:
    """Return what `read_and_write` sends."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(
        target=read_and_write, args=(folder, os.getuid() if user is None else user, largest_file, there)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    return here.recv()


@pytest.mark.parametrize("resident", [cache_module.RESIDENT, 2**20])
def test_read_only_cache_is_read(resident, monkeypatch):
    """A cache on a disk that cannot be written is read; that nothing is added is said once, however often it opens."""
    monkeypatch.setattr(cache_module, "RESIDENT", resident)
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        fill(cache := Cache(folder, "graphs"), 0, 100)
        closed(cache)
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        kept, writable, told = in_another_process(folder, user=65534 if os.getuid() == 0 else None)
        folder.chmod(0o755)
    assert kept == [True] * 100 + [False] * 200
    assert not writable
    assert len(told) == 1
    assert "nothing more is written into the cache" in told[0]


def test_full_disk(tmp_path):
    """Where a file can grow no further, what is there is read, and that nothing is added is said once."""
    fill(Cache(tmp_path, "graphs"), 0, 100)
    size = Cache(tmp_path, "graphs").size()
    kept, writable, told = in_another_process(tmp_path, largest_file=size + 100_000)
    assert all(kept[:100])
    assert 1 <= sum(kept[100:]) < 100
    assert not writable
    assert len(told) == 1
    assert "nothing more is written into the cache" in told[0]
    assert sum(found(Cache(tmp_path, "graphs"), 300)) == sum(kept)


def test_another_process_has_begun_anew(tmp_path):
    """Damage that another process has already dealt with is not dealt with twice: its file is opened."""
    cache = Cache(tmp_path, "graphs")
    before = cache_module._PROCESS.opened[cache.path].inode
    process = multiprocessing.get_context("fork").Process(target=clear_and_fill, args=(cache,))
    process.start()
    process.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache._begin_anew(cache_module.lmdb.CorruptedError("as found by this process"))
    assert all(found(cache, 5))
    assert cache_module._PROCESS.opened[cache.path].inode != before


def clear_and_fill(cache: Cache) -> None:
    cache.clear()
    fill(cache, 0, 5)


def test_user_folder(monkeypatch):
    """KIMGNN_CACHE, else the system's folder of caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.delenv("KIMGNN_CACHE", raising=False)
    assert user_folder() == Path("/caches/kimgnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_folder() == Path.home() / ".cache" / "kimgnn"
    monkeypatch.setenv("KIMGNN_CACHE", "/own")
    assert user_folder() == Path("/own")


def held_of(path: Path) -> int:
    """Return the memory of this process that is pages of a mapped file, kB."""
    held, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            mine = line.endswith(str(path))
        elif mine and line.startswith("Rss:"):
            held += int(line.split()[1])
    return held


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="the memory of a mapping is told by Linux")
def test_pages_of_the_file_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is read, a process holds no more of the file than it is let; what it reads is what was written."""
    cache = Cache(tmp_path, "graphs")
    keys = [bytes([index]) * 32 for index in range(64)]
    for index, key in enumerate(keys):
        cache.put(key, bytes([index]) * 2**18)
    for resident, least, most in ((2**28, 12 * 1024, 20 * 1024), (2**20, 0, 4 * 1024)):
        monkeypatch.setattr(cache_module, "RESIDENT", resident)
        assert [cache.get(key) for key in keys] == [bytes([index]) * 2**18 for index in range(64)]
        assert least <= held_of(cache.path) < most
