"""The Materials Project's server, asked politely through mp-api. The only file that knows mp-api."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from kimgnn.errors import DataError, did_you_mean

WHERE: Final = "Materials Project"
"""What messages about the server begin with."""

PER_SECOND: Final = 5.0
"""Requests in a second, at most; the server itself allows 25."""

TRIES: Final = 6
"""Times that a request is sent again, when the server is busy, fails or dies."""

BACKOFF: Final = 1.0
"""Seconds before the second of them, doubled each time, where the server does not say how long to wait."""

TIMEOUT: Final = 60.0
"""Seconds without an answer after which a connection counts as dead."""

_BUSY: Final = (429, 500, 502, 503, 504)
_RESUME: Final = "What came before it is kept: run the same again to go on from there."


class Client:
    """Asks the server for materials. The key is in the headers of the requests, and nowhere else.

    Args:
        key: The user's key.
        endpoint: The server's address.

    Raises:
        DataError: mp-api is not installed, or the address or the key cannot be right.
    """

    def __init__(self, key: str, endpoint: str) -> None:
        _check_endpoint(endpoint)
        self._key = key
        session = _Session(key)
        with self._told(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, about one another
            summary, core = _resters()
            options = {
                "api_key": key,
                "endpoint": endpoint,
                "session": session,
                "use_document_model": False,
                "mute_progress_bars": True,
                "timeout": TIMEOUT,
            }
            self._summary, self._core = summary(**options), core(**options)

    def check_fields(self, fields: Sequence[str], where: str) -> None:
        """Refuse fields that a summary does not have.

        Args:
            fields: Names; ``bulk_modulus.vrh`` is a part of one.
            where: Dotted path of them, for messages.

        Raises:
            DataError: There is no such field.
        """
        known = self._summary.available_fields
        for field in fields:
            name = field.split(".")[0]
            if name not in known:
                raise DataError(
                    "the Materials Project has no such field",
                    where=where,
                    value=field,
                    allowed=", ".join(sorted(known)),
                    remedy=did_you_mean(name, known),
                )

    def find(self, criteria: Mapping[str, Any]) -> list[str]:
        """Return the ids of the materials that meet ``criteria``, mp-api's names of them, in order of number.

        Raises:
            DataError: The server cannot be asked.
        """
        with self._told():
            documents = self._summary.search(**criteria, deprecated=False, fields=["material_id"])
            return sorted({self.current_id(document["material_id"]) for document in documents}, key=_order)

    def materials_of(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return task id -> id of the material that it belongs to now, for those that belong to one.

        Raises:
            DataError: The server cannot be asked.
        """
        with self._told():
            found: dict[str, str] = {}
            for document in self._core.search(task_ids=list(tasks), fields=["material_id", "task_ids"]):
                theirs = {self.current_id(task) for task in document["task_ids"]}
                found |= {task: self.current_id(document["material_id"]) for task in tasks if task in theirs}
            return found

    def documents(self, materials: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return id -> document with ``structure`` and ``fields``, for the materials that there are.

        Raises:
            DataError: The server cannot be asked.
        """
        with self._told():
            documents = self._summary.search(
                material_ids=list(materials), deprecated=False, fields=["material_id", "structure", *fields]
            )
            return {self.current_id(document["material_id"]): document for document in documents}

    @staticmethod
    def current_id(identifier: str) -> str:
        """Return an id as the Materials Project writes it today: older ones in digits, newer ones in letters."""
        from emmet.core.mpid import AlphaID

        return str(AlphaID(identifier).string)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words, and without the key, what goes wrong in mp-api."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # mp-api raises whatever it stumbles on in an answer
            text = f"{type(error).__name__}: {error}".replace(self._key, "<key>")
            # The error itself may quote the key, and would be shown above ours.
            raise DataError(f"the server's answer cannot be used: {text}", where=WHERE, remedy=_RESUME) from None


def _order(identifier: str) -> tuple[int, str]:
    """Sort ids by number: those in digits are shorter where they are smaller, and so are those in letters."""
    return len(identifier), identifier


class _Session(requests.Session):
    """Sends requests one at a time, not too fast, and again where that may help.

    Args:
        key: Goes into the header that the server looks for.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.headers["X-API-KEY"] = key
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(max_retries=0))
        self._next = 0.0

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request until there is an answer.

        Raises:
            DataError: The server refuses the key, stays busy or fails each time.
        """
        # A redirect would take the key to another server.
        kwargs = {"timeout": TIMEOUT, **kwargs, "allow_redirects": False}
        retry = Retry(total=TRIES, backoff_factor=BACKOFF)
        while True:
            self._wait()
            response, fault = None, None
            try:
                # The body is read here too, so that one which ends half-way is asked for again.
                response = super().request(method, url, *args, **kwargs)
                if response.status_code in (401, 403):
                    raise DataError(
                        f"the server refuses the key (status {response.status_code})",
                        where="MP_API_KEY",
                        remedy="Copy it anew from https://next-gen.materialsproject.org/api.",
                    )
                if response.status_code not in _BUSY:
                    return response
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.ContentDecodingError,
            ) as error:
                fault = error
            raw = None if response is None else response.raw
            try:
                retry = retry.increment(method, urlsplit(url).path, response=raw, error=fault)
            except MaxRetryError:
                raise DataError(_after_all(response, fault), where=WHERE, remedy=_RESUME) from None
            retry.sleep(raw)

    def _wait(self) -> None:
        """Sleep until the next request may be sent."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + 1.0 / PER_SECOND


def _after_all(response: requests.Response | None, fault: Exception | None) -> str:
    """Say why the last of all tries failed."""
    if response is None:
        return f"the connection fails or breaks off, {TRIES + 1} times ({type(fault).__name__})"
    if response.status_code == 429:
        return f"the server says that it gets too many requests, {TRIES + 1} times (status 429)"
    return f"the server fails, {TRIES + 1} times (status {response.status_code})"


def _check_endpoint(endpoint: str) -> None:
    address = urlsplit(endpoint)
    if address.scheme == "https" or (address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost")):
        return
    raise DataError(
        "is not an address that a key may be sent to", where="MP_API_ENDPOINT", value=endpoint, allowed="https://..."
    )


def _resters() -> tuple[Any, Any]:
    """Return mp-api's clients of material summaries and of materials' tasks."""
    try:
        from mp_api.client.routes.materials.materials import MaterialsRester
        from mp_api.client.routes.materials.summary import SummaryRester
    except ImportError as error:
        raise DataError(
            f"the package mp-api cannot be imported ({error})",
            where="dataset.type",
            value="materials_project",
            remedy="Run: pip install 'kimgnn[materials-project]'.",
        ) from error

    class Unhurried:
        @staticmethod
        def _get_heartbeat_info(endpoint: str) -> tuple[str, list[str]]:
            """Do not ask, each time and with no second try, for a version that is not used here."""
            return "", []

    class Summaries(Unhurried, SummaryRester): ...  # type: ignore[misc]

    class Materials(Unhurried, MaterialsRester): ...  # type: ignore[misc]

    return Summaries, Materials
