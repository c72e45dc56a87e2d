"""A memory-mapped cache of bytes by key, for several processes at once: what is dear to compute and may be lost."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import lmdb

STRUCTURES: Final = "structures"
GRAPHS: Final = "graphs"
NAMES: Final = (STRUCTURES, GRAPHS)
"""The files of a folder of caches: structures parsed from text, and graphs of structures."""

START_SIZE = 2**30
"""Bytes of address space that a file is mapped into at first; it doubles whenever it is full."""

RESIDENT = 2**28
"""Bytes read or written after which a process lets go of the file: the pages that it has touched count as its own."""

_AROUND = 2**16
"""Bytes that the kernel maps around what is touched."""

_CHECKSUM_SIZE = 16
_MAX_READERS = 1024
_DAMAGE = (
    lmdb.BadDbiError,
    lmdb.BadValsizeError,
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
)
"""What LMDB says of a file that is not its own, or not whole."""

T = TypeVar("T")


def user_folder() -> Path:
    """Return the folder of the user's caches: ``$KIMGNN_CACHE``, or ``kimgnn`` where the system keeps caches."""
    if own := os.environ.get("KIMGNN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kimgnn"


class _Opened(NamedTuple):
    """A file as this process has it open, once: LMDB does not bear more."""

    environment: Any
    inode: int
    writable: bool


class _Process:
    """The files that this process has open, and the turn of its threads to use them."""

    def __init__(self) -> None:
        self.opened: dict[Path, _Opened] = {}
        self.turn = threading.RLock()

    def begin_in_child(self) -> None:
        """Close what a forked process has inherited, which leaves its parent's open, and open anew when needed."""
        for opened in self.opened.values():
            opened.environment.close()
        self.__init__()  # type: ignore[misc]


_PROCESS = _Process()
os.register_at_fork(after_in_child=_PROCESS.begin_in_child)


class Cache:
    """Bytes by key in ``folder/{name}.lmdb``; what it has lost, or cannot keep, is ``None`` and computed again.

    Any number of processes, forked or spawned, may read and write at once, each with this object or one of its own. An
    entry whose checksum is wrong counts as absent; a file that is no LMDB file, or not a whole one, is told by a
    warning and begun anew. Where the folder cannot be written, or the disk is full, it goes on without writing, and
    says so once. The folder must be on a disk of the machine itself: LMDB does not work over a network.

    Args:
        folder: Where to; it is made.
        name: Of the file.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        self.path = Path(folder).absolute() / f"{name}.lmdb"
        self._usable = True
        self._writable = True
        self._touched = 0
        self._with_file(lambda opened: None)  # what is wrong is told now, once for all processes to come

    def get(self, key: bytes) -> bytes | None:
        """Return what was kept under a key of 32 bytes, or ``None``."""

        def read(opened: _Opened) -> bytes | None:
            with opened.environment.begin() as transaction:
                return transaction.get(key)

        stored = self._with_file(read)
        if stored is None:
            return None
        self._touch(len(stored))
        checksum, value = stored[:_CHECKSUM_SIZE], stored[_CHECKSUM_SIZE:]
        if checksum == _checksum(key, value):
            return value
        warnings.warn(f"{self.path}: an entry is damaged, and made anew", stacklevel=2)
        return None

    def put(self, key: bytes, value: bytes) -> None:
        """Keep ``value`` under a key of 32 bytes, if that is possible."""

        def write(opened: _Opened) -> None:
            with opened.environment.begin(write=True) as transaction:
                transaction.put(key, _checksum(key, value) + value)

        if self.writable:
            self._with_file(write)
            self._touch(len(value))

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an entry, whole or not."""

        def look(opened: _Opened) -> bool:
            with opened.environment.begin() as transaction, transaction.cursor() as cursor:
                return bool(cursor.set_key(key))

        self._touch(0)
        return bool(self._with_file(look))

    @property
    def writable(self) -> bool:
        """Whether entries are kept."""
        return self._usable and self._writable

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._with_file(lambda opened: int(opened.environment.stat()["entries"])) or 0

    def size(self) -> int:
        """Return the bytes on disk."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def clear(self) -> None:
        """Remove the file; other processes that have it open keep what they see.

        Raises:
            OSError: It cannot be removed.
        """
        if not self.path.parent.is_dir():
            return
        with _PROCESS.turn, self._alone():
            self._forget()
            self._remove()

    # -- The file -----------------------------------------------------------------------------------------------------

    def _with_file(self, use: Callable[[_Opened], T]) -> T | None:
        """Return ``use`` of the opened file, which is opened, enlarged or begun anew as need be; ``None`` without."""
        with _PROCESS.turn:
            while self._usable:
                try:
                    return self._sized(self._open(), use)
                except _DAMAGE as error:
                    self._begin_anew(error)
                except (lmdb.Error, OSError) as error:
                    self._do_without(error)
                    break
        return None

    def _sized(self, opened: _Opened, use: Callable[[_Opened], T]) -> T:
        """Return ``use`` of the file, with as much address space as this and other processes need."""
        while True:
            try:
                return use(opened)
            except lmdb.MapResizedError:  # another process has enlarged it
                opened.environment.set_mapsize(0)
            except lmdb.MapFullError:
                opened.environment.set_mapsize(2 * opened.environment.info()["map_size"])

    def _open(self) -> _Opened:
        if self.path not in _PROCESS.opened:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self._alone():
                    _PROCESS.opened[self.path] = self._opened(writable=True)
            except (lmdb.Error, OSError) as error:
                if isinstance(error, _DAMAGE) or not self.path.is_file():
                    raise
                # Where nobody can write, nobody needs a lock.
                _PROCESS.opened[self.path] = self._opened(writable=False)
                self._read_only(error)
        return _PROCESS.opened[self.path]

    def _opened(self, writable: bool) -> _Opened:
        environment = lmdb.open(
            str(self.path),
            subdir=False,
            map_size=START_SIZE,
            max_readers=_MAX_READERS,
            readonly=not writable,
            lock=writable,
            # A crash of the system may cost entries, which the checksums find.
            sync=False,
            metasync=False,
            readahead=False,
        )
        whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        status = self.path.stat()
        if status.st_size < whole:
            environment.close()
            raise lmdb.CorruptedError(f"the file is cut off: {status.st_size} of {whole} bytes")
        if writable:
            environment.reader_check()  # of processes that were killed
        return _Opened(environment, status.st_ino, writable)

    def _begin_anew(self, error: lmdb.Error) -> None:
        """Remove a file that cannot be read, unless another process has done so already."""
        opened = _PROCESS.opened.get(self.path)
        try:
            with self._alone():
                same = opened is None or (self.path.is_file() and self.path.stat().st_ino == opened.inode)
                self._forget()
                if same:
                    self._remove()
                    warnings.warn(f"{self.path}: {error}; the cache is begun anew", stacklevel=2)
        except OSError as refused:
            self._do_without(refused)

    def _do_without(self, error: Exception) -> None:
        """Go on reading only, if there is a file to read, else without the cache, and say so."""
        if self._writable and self.path in _PROCESS.opened:
            self._read_only(error)
        else:
            self._usable = False
            warnings.warn(f"{self.path}: {error}; going on without the cache", stacklevel=2)

    def _read_only(self, error: Exception) -> None:
        if self._writable:  # not told before: a file is opened again whenever it was let go of
            warnings.warn(f"{self.path}: {error}; nothing more is written into the cache", stacklevel=2)
        self._writable = False

    def _forget(self) -> None:
        if opened := _PROCESS.opened.pop(self.path, None):
            opened.environment.close()

    def _touch(self, size: int) -> None:
        """Count what was read or written, and close the file now and then: its pages leave this process's memory."""
        self._touched += max(size, _AROUND)
        if self._touched > RESIDENT:
            self._touched = 0
            with _PROCESS.turn:
                self._forget()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        Path(f"{self.path}-lock").unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the one process that opens or removes the file; LMDB sees to the rest."""
        with open(self.path.with_suffix(".turn"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:_CHECKSUM_SIZE]
