"""uvicorn's connections, with an end to their patience: clients that send or read too slowly are let go."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from kimgnn.service.refusals import Refusal

if TYPE_CHECKING:
    Base = Any
else:
    Base = AutoHTTPProtocol

LINGER: Final = 10.0
"""Seconds in which a client may send the rest of a body that is refused already: many read the answer only then."""

MAX_HEAD: Final = 64 * 1024
"""Bytes before a request's body."""

BODY: Final = json.dumps(
    Refusal(408, "the head of the request took too long to come", remedy="Send it at once.").content()
).encode()

TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Joining:
    """A transport that sends what is written as two pieces in one go: uvicorn's head of an answer, and its body.

    Args:
        transport: What sends.
        loop: Its event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._first = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the piece before and this one; where there is none before, wait for another until the loop goes on."""
        if self._first:
            self._first += data
            self._send()
        else:
            self._first = data
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """Send what was written, and close."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._first = b""
        self._transport.abort()

    def _send(self) -> None:
        first, self._first = self._first, b""
        if first:
            self._transport.write(first)


def impatient(seconds: float, max_connections: int) -> type[asyncio.Protocol]:
    """Return the class of connections that wait no longer than ``seconds`` for a client.

    uvicorn waits for ever for the rest of a request's head, and for a client to read. The application bounds the time
    of the body, and uvicorn that between requests.

    Args:
        seconds: For the head of a request, and for the client to make room for more of the answer.
        max_connections: One more is closed at once.
    """

    class Impatient(Base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Joining(transport, self.loop))
            self._head = 0
            self._waiting: asyncio.TimerHandle | None = None
            self._writing: asyncio.TimerHandle | None = None
            if len(self.connections) > max_connections:
                transport.abort()
                return
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._busy():
                self._head = 0
                self._stop_waiting()
                return
            self._head += len(data)
            if self._head > MAX_HEAD and not self._answered_early():
                self.transport.abort()
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._answered_early():
                self._wait(LINGER)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None
            super().resume_writing()

        def _busy(self) -> bool:
            """Whether a request is being answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def _answered_early(self) -> bool:
            """Whether the body of an answered request still comes; it is thrown away."""
            return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

        def _wait(self, patience: float = seconds) -> None:
            if self._waiting is None:
                self._waiting = self.loop.call_later(patience, self._give_up)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            if self._head and not self._answered_early():
                self.transport.write(TOO_SLOW)
                self.transport.close()
            else:
                self.transport.abort()

    return Impatient
