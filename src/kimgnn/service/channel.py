"""How the service and its workers talk: the length of a message, then the message in Python's marshal.

Only built-in types pass, so that nothing that arrives can be code, or becomes an object by being read.
"""

from __future__ import annotations

import asyncio
import marshal
import struct
from typing import IO, Any, Final

LENGTH: Final = struct.Struct("!Q")


def write(stream: IO[bytes], message: Any) -> None:
    """Write a message, and flush."""
    stream.write(packed(message))
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """Return the next message.

    Raises:
        EOFError: The other side is gone.
    """
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return marshal.loads(body)


def packed(message: Any) -> bytes:
    """Return a message as it is written."""
    body = marshal.dumps(message)
    return LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return the next message.

    Raises:
        EOFError: The other side is gone.
    """
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return marshal.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError from error
