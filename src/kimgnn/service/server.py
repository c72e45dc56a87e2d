"""The service on a port: uvicorn, with clients it does not wait for, and a message where it cannot begin."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from kimgnn.errors import DataError
from kimgnn.service.app import create_app
from kimgnn.service.impatient import impatient
from kimgnn.service.service import Service

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

SPARE: Final = 2
"""Connections that may be open, for each request that is answered at once."""

END: Final = 10
"""Seconds that requests may take to end when the service does."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and listens not yet.

    Raises:
        DataError: The address is not of this machine, or taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise DataError(
            f"cannot be listened on ({error.strerror})",
            where="--host, --port",
            value=f"{host}:{port}",
            remedy="Give another port; 0 takes a free one.",
        ) from error
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can call an address."""
    return host in LOOPBACK or host.startswith("127.")


class _Server(uvicorn.Server):
    """uvicorn, which would end the process by the signal that it got, before the service has ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have signals end it gently, and a second one at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(
    service: Service,
    bound: socket.socket,
    key: str | None = None,
    hosts: Collection[str] = (),
    began: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal ends it.

    Args:
        service: What to serve.
        bound: Where to listen.
        key: What clients have to know, if anything.
        hosts: Names by which the service may be called; any without them.
        began: Called when it answers.

    Raises:
        ModelError: A model cannot be loaded.
    """
    limits = service.limits
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    app = create_app(service, key, hosts)
    config = uvicorn.Config(
        app,
        http=impatient(limits.client_seconds, SPARE * limits.max_requests),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END,
    )
    server = _Server(config)
    await service.start()  # not as uvicorn's lifespan, which would tell an error of the model by a traceback
    try:
        serving = asyncio.create_task(server.serve([bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            began()
        await serving
    finally:
        await service.stop()
