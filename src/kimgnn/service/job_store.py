"""Jobs and their results in SQLite: what is accepted is on the disk before its client hears of it."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from kimgnn.errors import DataError
from kimgnn.service.formats import Given

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, total INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    good INTEGER NOT NULL DEFAULT 0, touched REAL NOT NULL, expires REAL
);
CREATE TABLE IF NOT EXISTS entries (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, place INTEGER NOT NULL, given TEXT NOT NULL,
    results TEXT, PRIMARY KEY (job, place)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unfinished ON jobs (status, touched);
"""

VERSION: Final = 1
"""Of the tables."""

OPEN: Final = ("queued", "running")
"""States of a job that is not done."""


class Job(NamedTuple):
    """What is told of a job."""

    id: str
    status: str
    total: int
    done: int


class JobStore:
    """The jobs in one file, which one service at a time has open.

    Args:
        path: The file; it is made where there is none, readable for its user alone.
        keep_seconds: How long a job is kept once it is done.

    Attributes:
        unfinished: How many entries are still to be computed.

    Raises:
        DataError: Another service has it open, or it is no file of jobs.
    """

    unfinished: int

    def __init__(self, path: Path, keep_seconds: float) -> None:
        self.keep_seconds = keep_seconds
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # until this process ends, however it ends
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA secure_delete = ON")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise DataError(
                    "is of another version of kimgnn", where=str(path), remedy="Give another file by --jobs."
                )
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            left = "SELECT coalesce(sum(total - done), 0) FROM jobs WHERE status IN (?, ?)"
            (self.unfinished,) = self._db.execute(left, OPEN).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"cannot be opened as a file of jobs ({error})",
                where=str(path),
                remedy="Where another service uses it, give this one a file of its own by --jobs.",
            ) from error

    def add(self, entries: Sequence[Given]) -> Job:
        """Keep a job; when this returns, it is on the disk."""
        identifier = secrets.token_urlsafe(24)
        rows = [(identifier, place, json.dumps(given)) for place, given in enumerate(entries)]
        with self._transaction() as db:
            db.execute(
                "INSERT INTO jobs (id, status, total, touched) VALUES (?, 'queued', ?, ?)",
                (identifier, len(rows), time.time()),
            )
            db.executemany("INSERT INTO entries (job, place, given) VALUES (?, ?, ?)", rows)
        self.unfinished += len(rows)
        return Job(identifier, "queued", len(rows), 0)

    def find(self, identifier: str) -> Job | None:
        """Return what is known of a job."""
        row = self._db.execute("SELECT id, status, total, done FROM jobs WHERE id = ?", (identifier,)).fetchone()
        return row and Job(*row)

    def results(self, identifier: str, first: int = 0, count: int = -1) -> list[str]:
        """Return results in JSON, in the order of their structures; an entry of many structures has many.

        Args:
            identifier: Of the job.
            first: Entry to begin with.
            count: Entries, at most; all by default.
        """
        rows = self._db.execute(
            "SELECT results FROM entries WHERE job = ? AND place >= ? AND results IS NOT NULL ORDER BY place LIMIT ?",
            (identifier, first, count),
        )
        return [text for (text,) in rows]

    def next_entries(self, count: int) -> tuple[str, list[tuple[int, Given]]] | None:
        """Return the job that waited longest, and its next entries with their places."""
        row = self._db.execute("SELECT id FROM jobs WHERE status IN (?, ?) ORDER BY touched LIMIT 1", OPEN).fetchone()
        if row is None:
            return None
        rows = self._db.execute(
            "SELECT place, given FROM entries WHERE job = ? AND results IS NULL ORDER BY place LIMIT ?", (row[0], count)
        ).fetchall()
        self._db.execute("UPDATE jobs SET status = 'running', touched = ? WHERE id = ?", (time.time(), row[0]))
        return row[0], [(place, Given(*json.loads(given))) for place, given in rows]

    def put(self, identifier: str, results: Sequence[tuple[int, str, bool]]) -> None:
        """Keep results of a job, and end it with the last; of a job that was cancelled meanwhile, nothing.

        Args:
            identifier: Of the job.
            results: Place, results in JSON, and whether they are good.
        """
        done = found = 0
        with self._transaction() as db:
            for place, text, good in results:
                kept = db.execute(
                    "UPDATE entries SET results = ?, given = '' WHERE job = ? AND place = ? AND results IS NULL",
                    (text, identifier, place),
                ).rowcount
                done, found = done + kept, found + (kept and good)
            db.execute("UPDATE jobs SET done = done + ?, good = good + ? WHERE id = ?", (done, found, identifier))
            db.execute(
                "UPDATE jobs SET status = iif(good > 0, 'done', 'failed'), expires = ? "
                "WHERE id = ? AND done = total AND status IN (?, ?)",
                (time.time() + self.keep_seconds, identifier, *OPEN),
            )
        self.unfinished -= done

    def remove(self, identifier: str) -> Job | None:
        """Delete the structures and results of a job; one that is not done is known as cancelled until it expires."""
        job = self.find(identifier)
        if job is None:
            return None
        with self._transaction() as db:
            if job.status in OPEN:
                db.execute("DELETE FROM entries WHERE job = ?", (identifier,))
                db.execute(
                    "UPDATE jobs SET status = 'cancelled', expires = ? WHERE id = ?",
                    (time.time() + self.keep_seconds, identifier),
                )
            else:
                db.execute("DELETE FROM jobs WHERE id = ?", (identifier,))
        if job.status not in OPEN:
            return job
        self.unfinished -= job.total - job.done
        return job._replace(status="cancelled")

    def remove_expired(self) -> None:
        """Forget the jobs that are done since long."""
        self._db.execute("DELETE FROM jobs WHERE expires < ?", (time.time(),))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of what is done in it, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
