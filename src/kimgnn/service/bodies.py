"""Bodies of requests: read as they come, and no further than they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from kimgnn.service.refusals import Refusal

HELD: Final = 8
"""Bodies of the largest size that the service holds at once."""


class Bodies:
    """Reads bodies, and knows how much of them is in memory.

    Args:
        max_bytes: Of one.
        seconds: That a client may take to send it.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.max_bytes = max_bytes
        self.seconds = seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request, which counts as held until the block ends.

        Raises:
            Refusal: It is too large, compressed, or too slow, or the service holds too much already.
            ClientDisconnect: The client left.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "the body is compressed", where="Content-Encoding", remedy="Send it as it is.")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_bytes:
            raise self._too_large(int(announced))
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self.seconds):
                    async for chunk in request.stream():
                        body += chunk
                        self._held += len(chunk)
                        if len(body) > self.max_bytes:
                            raise self._too_large(None)
                        if self._held > HELD * self.max_bytes:
                            told = "the service holds as much of requests as it can"
                            raise Refusal(429, told, remedy="Send it again later.", headers={"Retry-After": "5"})
            except TimeoutError:
                raise Refusal(
                    408,
                    "the body took too long to come",
                    allowed=f"{self.seconds:g} seconds",
                    remedy="Send less at once, or start the service with a higher --client-seconds.",
                    headers={"Connection": "close"},
                ) from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    def _too_large(self, announced: int | None) -> Refusal:
        return Refusal(
            413,
            "the body is too large",
            value=announced,
            allowed=f"up to {self.max_bytes} bytes",
            remedy="Divide it among requests, or start the service with a higher --max-body.",
        )


__all__ = ["Bodies", "ClientDisconnect"]
