"""Jobs: large batches that are computed when there is time, a chunk after another, and survive the service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from kimgnn.service.batching import Batcher
from kimgnn.service.formats import Answer, Given
from kimgnn.service.job_store import Job, JobStore
from kimgnn.service.refusals import error_of

logger = logging.getLogger("kimgnn.service")

CHUNK: Final = 32
"""Entries that are in the queue at once: requests wait for no more of a job than these."""

PAUSE: Final = 30.0
"""Seconds after which it is looked for jobs that have expired."""

Result = TypeVar("Result")


class Jobs:
    """Computes jobs by and by.

    Args:
        store: Where they are kept.
        batcher: What computes them, beside all else.
        models: Names of the models that there are; a job may be of one that was there before.
    """

    def __init__(self, store: JobStore, batcher: Batcher, models: Collection[str]) -> None:
        self.store = store
        self._batcher = batcher
        self._models = models
        self._thread = ThreadPoolExecutor(1, "jobs")  # one: what it does to the file, it does in turn
        self._added = asyncio.Event()

    async def add(self, entries: Sequence[Given]) -> Job:
        """Accept a job: it is kept, whatever happens then."""
        job = await self._do(self.store.add, entries)
        self._added.set()
        return job

    async def find(self, identifier: str) -> Job | None:
        """Return what is known of a job."""
        return await self._do(self.store.find, identifier)

    async def results(self, identifier: str, first: int, count: int) -> list[str]:
        """Return its results in JSON, see `JobStore.results`."""
        return await self._do(self.store.results, identifier, first, count)

    async def remove(self, identifier: str) -> Job | None:
        """Cancel or delete it."""
        return await self._do(self.store.remove, identifier)

    async def run(self) -> None:
        """Compute what there is to compute, for ever."""
        while True:
            self._added.clear()
            try:
                await self._do(self.store.remove_expired)
                worked = await self._compute_chunk()
            except Exception:  # a full disk, say: what was accepted is still there
                logger.exception("jobs: cannot go on; again in %g s", PAUSE)
                await asyncio.sleep(PAUSE)
                continue
            if not worked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._added.wait()

    def close(self) -> None:
        """Close the file; to be called when `run` has ended."""
        self._thread.shutdown()
        self.store.close()

    async def _compute_chunk(self) -> bool:
        """Compute the next entries of a job; whether there were any."""
        found = await self._do(self.store.next_entries, CHUNK)
        if found is None:
            return False
        identifier, entries = found
        known = [given for _, given in entries if given.model in self._models]
        answers = iter(await asyncio.gather(*self._batcher.submit(known, bounded=False)))
        results = []
        for place, given in entries:
            answer = next(answers) if given.model in self._models else _gone(given)
            results.append((place, _text(given, answer), not answer.problems))
        await self._do(self.store.put, identifier, results)
        return True

    async def _do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _text(given: Given, answer: Answer) -> str:
    """Return the results of an entry, in JSON, with commas between them."""
    if answer.problems:
        return json.dumps({"id": given.identifier, **error_of(answer.problems)}, ensure_ascii=False)
    return ",".join(answer.results)


def _gone(given: Given) -> Answer:
    problem = {
        "where": given.identifier,
        "message": "the service has no such model any more",
        "value": given.model,
        "allowed": "",
        "remedy": "Send the job again with a model of GET /models.",
    }
    return Answer([], [problem], 404)
