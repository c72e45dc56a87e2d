"""Connections of clients that are slow, over a real uvicorn in another thread; all patience is half a second here."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvicorn

from kimgnn.service.impatient import MAX_HEAD, Joining, impatient

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with as many bytes as the path says, without a look at the body."""
    size = int(scope["path"].strip("/") or 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=impatient(0.5, 4), lifespan="off", ws="none", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
    thread.start()
    yield bound.getsockname()[1]
    server.should_exit = True
    thread.join()


def all_of(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connected:
        yield connected


def test_the_head_of_an_answer_goes_with_its_body() -> None:
    """Nothing waits that is not followed in the same turn of the loop, and nothing is lost where it ends."""

    class Sends:
        def __init__(self) -> None:
            self.sent: list[bytes] = []
            self.write = self.sent.append

        def close(self) -> None:
            self.sent.append(b"closed")

        abort = close

    async def run() -> None:
        to = Sends()
        joining = Joining(cast(asyncio.Transport, to), asyncio.get_running_loop())
        joining.write(b"head ")
        assert to.sent == []
        joining.write(b"body")
        assert to.sent == [b"head body"]
        joining.write(b"alone")
        await asyncio.sleep(0)
        joining.write(b"last")
        joining.close()
        await asyncio.sleep(0)
        assert to.sent == [b"head body", b"alone", b"last", b"closed"]
        joining.write(b"in vain")
        joining.abort()
        await asyncio.sleep(0)
        assert to.sent[4:] == [b"closed"]

    asyncio.run(run())


def test_a_client_that_sends_nothing_is_let_go(connection: socket.socket) -> None:
    assert all_of(connection) == b""


def test_a_client_that_drips_is_told(connection: socket.socket) -> None:
    """A byte now and then resets no patience."""
    connection.sendall(HEAD)
    connection.settimeout(0.05)
    answer = b""
    until = time.monotonic() + 30
    while not answer and time.monotonic() < until:
        connection.sendall(b"X")
        try:
            answer = connection.recv(2**16)
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_may_take_its_time_between_requests(connection: socket.socket) -> None:
    for _ in range(3):
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        time.sleep(0.7)


def test_a_head_has_an_end(connection: socket.socket) -> None:
    try:
        for _ in range(64):
            connection.sendall(HEAD + b"X: " + b"x" * MAX_HEAD)
    except OSError:  # closed already
        return
    assert b" 200 " not in all_of(connection)


def test_a_client_that_does_not_read_is_let_go(port: int) -> None:
    """The answer is larger than what the system keeps of it: the service waits for room, but not for ever."""
    size = 64 * 2**20
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", port))
        connection.sendall(HEAD.replace(b"/ ", b"/%d " % size) + b"\r\n")
        time.sleep(2.0)
        assert len(all_of(connection)) < size


def test_a_client_that_reads_slowly_but_reads_gets_all(port: int) -> None:
    size = 8 * 2**20
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(HEAD.replace(b"/ ", b"/%d " % size) + b"Connection: close\r\n\r\n")
        got = 0
        while part := connection.recv(2**20):
            got += len(part)
            time.sleep(0.05)
    assert got > size


def test_an_answer_comes_before_the_body_does(connection: socket.socket) -> None:
    """Who is answered before it has sent all may send the rest, which is thrown away, and ask again."""
    connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
    assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
    time.sleep(0.7)
    connection.sendall(b"67890" + HEAD + b"\r\n")
    assert connection.recv(2**16).startswith(b"HTTP/1.1 200")


def test_too_many_connections_are_closed(port: int) -> None:
    connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(12)]
    answered = 0
    for connection in connections:
        try:
            connection.sendall(HEAD + b"\r\n")
            answered += connection.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            pass
    for connection in connections:
        connection.close()
    assert 0 < answered <= 4
