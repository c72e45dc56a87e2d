"""Structures of many clients to batches: who waits for whom, how long, and how many may wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from kimgnn.service.formats import Answer, Given

REMEMBERED: Final = 1.0
"""Seconds for which it is remembered how many structures were there at once."""

UNDIVIDED: Final = 8
"""Requests that are computed together even where they are all that there are: it takes little longer than half."""

BYTES_PER_ATOM: Final = 64
"""Of the text of a structure, about: what bounds a batch before its structures are read."""


class QueueFullError(Exception):
    """More structures wait than may."""


class Computes(Protocol):
    """What computes batches: a `kimgnn.service.workers.Worker`."""

    async def answers(self, batch: Sequence[Given]) -> list[Answer]:
        """Return what is said to each entry."""


class Waiting(NamedTuple):
    """An entry that waits since a time for its answer; the first of its request, or one that came with it."""

    given: Given
    since: float
    size: int
    first: bool
    answer: asyncio.Future[Answer]


class Batcher:
    """Collects what comes, and gives it to workers in batches.

    A worker that is free takes what waits as soon as half of the requests wait that were lately there at once, and at
    the latest when the first has waited for the window: a client that is alone never waits for others. Of many, it
    takes no more than half, so that these are computed while the others come and go.

    Args:
        max_queue: Structures that may wait.
        window: Seconds.
        batch_structures: Of a batch.
        batch_atoms: Of a batch, about.
        observe: Is told the size of each batch, and how many seconds it took.
    """

    def __init__(
        self,
        max_queue: int,
        window: float,
        batch_structures: int,
        batch_atoms: int,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.max_queue = max_queue
        self.window = window
        self.batch_structures = batch_structures
        self.batch_bytes = batch_atoms * BYTES_PER_ATOM
        self.observe = observe
        self._waiting: deque[Waiting] = deque()
        self._requests_waiting = 0
        self._requests_computed = 0
        self._seconds_each = 0.0
        self._peaks: deque[tuple[float, int]] = deque()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def seconds_ahead(self) -> float:
        """About how long what waits will take."""
        return len(self._waiting) * self._seconds_each

    def submit(self, entries: Sequence[Given], bounded: bool = True) -> list[asyncio.Future[Answer]]:
        """Return the answers to come; one that is cancelled is not computed any more.

        Args:
            entries: What to compute.
            bounded: The queue may be too full for it.

        Raises:
            QueueFullError: It is.
        """
        if bounded and len(self._waiting) + len(entries) > self.max_queue:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        now = loop.time()
        added = [
            Waiting(given, now, _size(given), place == 0, loop.create_future()) for place, given in enumerate(entries)
        ]
        self._waiting.extend(added)
        self._requests_waiting += 1
        self._remember(now)
        self._changed.set()
        return [waiting.answer for waiting in added]

    async def run(self, worker: Computes) -> None:
        """Give batches to a worker for ever; several may run at once."""
        loop = asyncio.get_running_loop()
        while True:
            async with self._turn:
                batch = await self._next_batch()
            requests = sum(waiting.first for waiting in batch)
            self._requests_computed += requests
            began = loop.time()
            try:
                answers = await worker.answers([waiting.given for waiting in batch])
            except BaseException:
                for waiting in batch:
                    waiting.answer.cancel()
                raise
            finally:
                self._requests_computed -= requests
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
            seconds = loop.time() - began
            self._seconds_each += 0.1 * (seconds / len(batch) - self._seconds_each)
            self.observe(len(batch), seconds)

    async def _next_batch(self) -> list[Waiting]:
        loop = asyncio.get_running_loop()
        while True:
            left = None
            if self._waiting:
                now = loop.time()
                left = self._waiting[0].since + self.window - now
                most = self._most(now)
                if left <= 0 or self._enough(most):
                    if batch := self._taken(max(UNDIVIDED, (most + 1) // 2)):
                        return batch
                    continue
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _enough(self, most: int) -> bool:
        """Return whether what waits is worth a batch: it is full, or begun, or half of the clients are here."""
        return (
            2 * self._requests_waiting >= most
            or len(self._waiting) >= self.batch_structures
            or not self._waiting[0].first
        )

    def _most(self, now: float) -> int:
        """Return how many requests were lately there at once."""
        while self._peaks and self._peaks[0][0] < now - REMEMBERED:
            self._peaks.popleft()
        return self._peaks[0][1] if self._peaks else 1

    def _remember(self, now: float) -> None:
        """Note how many requests are here; smaller numbers noted before count no more."""
        here = self._requests_waiting + self._requests_computed
        while self._peaks and self._peaks[-1][1] <= here:
            self._peaks.pop()
        self._peaks.append((now, here))

    def _taken(self, requests: int) -> list[Waiting]:
        """Return what waits of no more than so many requests."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < self.batch_structures:
            size += self._waiting[0].size
            requests -= self._waiting[0].first
            if batch and (size > self.batch_bytes or requests < 0):
                break
            waiting = self._waiting.popleft()
            self._requests_waiting -= waiting.first
            if not waiting.answer.cancelled():
                batch.append(waiting)
        return batch


def _size(given: Given) -> int:
    """Return about how many bytes a structure is as text."""
    if isinstance(given.data, str):
        return len(given.data)
    atoms = given.data.get("numbers", given.data.get("sites", ()))
    return BYTES_PER_ATOM * (len(atoms) if isinstance(atoms, list | dict) else 1)
