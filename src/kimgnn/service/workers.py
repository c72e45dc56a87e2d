"""The processes that compute, as the service sees them: started, given batches, ended when they hang."""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from kimgnn.errors import ModelError, Problem
from kimgnn.service import channel
from kimgnn.service.formats import Answer, Given
from kimgnn.service.worker import WorkerOptions

FAILURES: Final = (EOFError, TimeoutError, ConnectionError)
"""Of a batch: the process ended, or took too long."""

logger = logging.getLogger("kimgnn.service")

PAUSE: Final = 2.0
"""Seconds before a worker is started again that could not be started."""


class Worker:
    """One process.

    Args:
        options: What it is told.
        seconds: That it may take for a batch.

    Attributes:
        models: What it told of its models.
        restarts: How often it had to be started again.
    """

    def __init__(self, options: WorkerOptions, seconds: float) -> None:
        self.options = options
        self.seconds = seconds
        self.models: list[dict[str, Any]] = []
        self.restarts = 0
        self._process: Process | None = None
        self._has_models = False
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it waits for a batch, or computes one."""
        return self._has_models and self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process, and wait until it has its models.

        Raises:
            ModelError: It has none, for the reason told.
        """
        command = [sys.executable, "-m", "kimgnn.service.worker", self.options.to_text()]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        try:
            told = await channel.receive(self._out)
        except EOFError as error:
            raise ModelError("the process that computes ended when it began; what it said stands above") from error
        if "problems" in told:
            raise ModelError(problems=[Problem(**problem) for problem in told["problems"]])
        self.models = told["models"]
        self._has_models = True
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def answers(self, batch: Sequence[Given]) -> list[Answer]:
        """Return what is said to each entry; where a batch ends or stops the process, each is tried alone."""
        async with self._turn:
            try:
                return await self._exchange(batch)
            except FAILURES as error:
                logger.warning("a batch of %d failed (%s)", len(batch), type(error).__name__)
                await self._restart()
                if len(batch) == 1 and isinstance(error, TimeoutError):
                    return [self._refusal(batch[0], error)]
            return [await self._alone(given) for given in batch]

    async def _alone(self, given: Given) -> Answer:
        """Return what is said to an entry of a batch that failed."""
        try:
            (answer,) = await self._exchange([given])
        except FAILURES as error:
            await self._restart()
            return self._refusal(given, error)
        return answer

    def _refusal(self, given: Given, error: Exception) -> Answer:
        what = "took too long" if isinstance(error, TimeoutError) else "ended the process that computes"
        problem = {
            "where": given.identifier,
            "message": f"reading or computing it {what}",
            "value": None,
            "allowed": f"{self.seconds:g} seconds",
            "remedy": "Give a smaller structure, or another format: CIF takes longest.",
        }
        return Answer([], [problem], 422)

    async def stop(self) -> None:
        """End the process, for good."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        await self._end()

    async def _watch(self) -> None:
        """Start the process again where it ends without a batch, too."""
        while True:
            process = self._process
            if process is not None:
                await process.wait()
            async with self._turn:
                if process is self._process:
                    logger.warning("the process that computes has ended")
                    await self._restart()

    async def _end(self) -> None:
        self._has_models = False
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes are closed when it is too late

    async def _exchange(self, batch: Sequence[Given]) -> list[Answer]:
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError
        async with asyncio.timeout(self.seconds):
            process.stdin.write(channel.packed([tuple(given) for given in batch]))
            await process.stdin.drain()
            return [Answer(*answer) for answer in await channel.receive(self._out)]

    async def _restart(self) -> None:
        """Start another process, as often as it takes."""
        while True:
            await self._end()
            self.restarts += 1
            try:
                await self.start()
                return
            except (ModelError, OSError):
                logger.exception("the process that computes cannot be started; again in %g s", PAUSE)
                await asyncio.sleep(PAUSE)

    @property
    def _out(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stdout is None:
            raise EOFError
        return self._process.stdout
