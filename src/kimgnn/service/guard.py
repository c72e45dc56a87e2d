"""What every request passes before it is read: who asks, for which host, and how many are there."""

from __future__ import annotations

import hmac
import time
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kimgnn.service.metrics import Metrics
from kimgnn.service.refusals import Refusal

OPEN: Final = ("/", "/health", "/ready", "/openapi.json")
"""Paths that need no key, beside the page's files."""

LEFT: Final = 499
"""What is counted as the status where the client left before there was one, as nginx does."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer: a browser takes nothing from other hosts, and shows nothing inside of their pages."""

_RAW_HEADERS: Final = Headers(HEADERS).raw


class Guard:
    """Lets a request pass to the application, or refuses it; counts and times both.

    Args:
        app: The application.
        max_requests: That are answered at once.
        key: What a client has to know; anybody may ask without one.
        hosts: Names by which the service may be called; any without them. They keep a page of another host, whose name
            was made to mean this machine, from asking a service that listens here only.
        metrics: Where it is counted.
    """

    def __init__(
        self, app: ASGIApp, max_requests: int, key: str | None, hosts: Collection[str], metrics: Metrics
    ) -> None:
        self.app = app
        self.max_requests = max_requests
        self.key = None if key is None else key.encode()
        self.hosts = hosts
        self.metrics = metrics
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), LEFT

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_RAW_HEADERS]}
            await send(message)

        self._active += 1
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, send_noting)
            else:
                await self.app(scope, receive, send_noting)
        finally:
            self._active -= 1
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._active > self.max_requests:
            told = "too many requests are answered at once"
            return Refusal(429, told, remedy="Send it again later.", headers={"Retry-After": "1"})
        if self.hosts and _name_in(headers.get("host", "")) not in self.hosts:
            return Refusal(
                421,
                "the service is not called by this name",
                where="Host",
                value=headers.get("host", ""),
                allowed=", ".join(sorted(self.hosts)),
                remedy="Start it with --allow-host for other names.",
            )
        if self.key is None or path in OPEN or path.startswith("/static/"):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        given = given if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.key):
            return None
        return Refusal(
            401,
            "the key is wrong" if given else "a key is needed",
            where="Authorization",
            remedy="Send the header Authorization: Bearer KEY, or X-API-Key: KEY.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name_in(host: str) -> str | None:
    """Return the name in a header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
