"""Waits for what workers compute for a client, for as long as the client is there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence
from typing import Final

from starlette.requests import ClientDisconnect, Request

from kimgnn.service.batching import QueueFullError
from kimgnn.service.formats import Answer, Given
from kimgnn.service.refusals import Refusal
from kimgnn.service.service import Service

PATIENCE: Final = 0.1
"""Seconds for which an answer is waited for without looking whether the client is still there."""

SHOWN: Final = 50
"""Problems that an answer lists."""


async def computed(service: Service, request: Request, given: Sequence[Given]) -> list[Answer]:
    """Return the answers to all entries.

    Raises:
        Refusal: There is no room for them, or one of them is bad.
        ClientDisconnect: The client left, and what is not computed yet will not be.
    """
    try:
        waiting = service.batcher.submit(given)
    except QueueFullError:
        seconds = max(1, math.ceil(service.batcher.seconds_ahead))
        told = "too many structures wait to be computed"
        raise Refusal(429, told, remedy="Send it again later.", headers={"Retry-After": str(seconds)}) from None
    try:
        _, late = await asyncio.wait(waiting, timeout=PATIENCE)
        if late:
            await _unless_gone(request, late)
    finally:
        for future in waiting:
            future.cancel()
    answers = [future.result() for future in waiting]
    counts = service.metrics.structures
    for one, answer in zip(given, answers, strict=True):
        counts.labels(one.model, "refused" if answer.problems else "predicted").inc()
    bad = [answer for answer in answers if answer.problems]
    if bad:
        problems = [problem for answer in bad for problem in answer.problems]
        raise Refusal(max(answer.status for answer in bad), problems=problems[:SHOWN])
    return answers


async def _unless_gone(request: Request, late: Collection[asyncio.Future[Answer]]) -> None:
    """Wait for answers.

    Raises:
        ClientDisconnect: The client left before.
    """
    leaving = asyncio.ensure_future(_gone(request))
    every = asyncio.ensure_future(asyncio.wait(late))
    try:
        await asyncio.wait((every, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not every.done():
            raise ClientDisconnect
    finally:
        leaving.cancel()
        every.cancel()


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
