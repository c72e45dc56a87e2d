"""A server that answers as the Materials Project does, on this machine, over real connections."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymatgen.core import Lattice, Structure

KEY = "0123456789abcdefghijklmnopqrstuv"


def material(number: int, tasks: tuple[int, ...] = (), **values: Any) -> dict[str, Any]:
    """Return a document in the schema of a summary, with the tasks that the core collection has for it."""
    elements = ("Na", "Cl") if number % 2 else ("Mg", "O")
    half = 2.0 + 0.005 * number
    lattice = Lattice([[0.0, half, half], [half, 0.0, half], [half, half, 0.0]])
    structure = Structure(lattice, elements, [[0, 0, 0], [0.5, 0.5, 0.5]])
    return {
        "material_id": f"mp-{number}",
        "structure": structure.as_dict(),
        "task_ids": [f"mp-{task}" for task in (number, *tasks)],
        "elements": sorted(elements),
        "nelements": 2,
        "band_gap": 0.1 * number,
        "energy_above_hull": 0.01 * number,
        "formation_energy_per_atom": -1.0 - number,
        "is_metal": False,
        "bulk_modulus": {"vrh": 10.0 * number},
        "deprecated": False,
    } | values


class Server:
    """What the server knows, what it was asked, and how it misbehaves.

    Attributes:
        materials: Its documents.
        requests: Path and parameters of every request, in order, once it was found to be well-formed.
        faults: Called with the number of a request (from 0) and its handler; true if it has dealt with it.
        headers: Of every request.
    """

    def __init__(self, materials: list[dict[str, Any]]) -> None:
        self.materials = materials
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[Message] = []
        self.faults: Callable[[int, BaseHTTPRequestHandler], bool] = lambda number, handler: False
        self.url = ""

    def count(self) -> Counter[str]:
        """Number of requests, by path."""
        return Counter(path for path, _ in self.requests)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        address = urlsplit(handler.path)
        parameters = {name: values[-1] for name, values in parse_qs(address.query).items()}
        number = len(self.requests)
        self.requests.append((address.path, parameters))
        self.headers.append(handler.headers)
        if self.faults(number, handler):
            return
        if handler.headers.get("X-API-KEY") != KEY:
            # As a careless server would: with the key in the answer.
            reply(handler, 401, {"detail": f"Invalid key {handler.headers.get('X-API-KEY')}"})
        elif address.path in ("/materials/summary/", "/materials/core/"):
            reply(handler, 200, self.page(parameters))
        else:
            reply(handler, 404, {"detail": "Not Found"})

    def page(self, parameters: dict[str, str]) -> dict[str, Any]:
        """Return a page of what meets the parameters."""
        found = [document for document in self.materials if _meets(document, parameters)]
        skip, limit = int(parameters.get("_skip", 0)), min(int(parameters.get("_limit", 100)), 1000)
        fields = parameters["_fields"].split(",")
        data = [_projected(document, fields) for document in found[skip : skip + limit]]
        return {"data": data, "meta": {"total_doc": len(found), "api_version": "0.86", "max_limit": 1000}}


def _meets(document: dict[str, Any], parameters: dict[str, str]) -> bool:
    for name, value in parameters.items():
        if name.startswith("_") or name == "deprecated":
            continue
        listed = value.split(",")
        if name == "material_ids":
            good = document["material_id"] in listed
        elif name == "task_ids":
            good = bool(set(document["task_ids"]) & set(listed))
        elif name == "elements":
            good = set(listed) <= set(document["elements"])
        elif name.endswith("_min"):
            good = document[name[:-4]] >= float(value)
        elif name.endswith("_max"):
            good = document[name[:-4]] <= float(value)
        else:
            raise NotImplementedError(name)
        if not good:
            return False
    return True


def _projected(document: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    projected: dict[str, Any] = {}
    for field in fields:
        name, _, part = field.partition(".")
        if name in document:
            projected[name] = {part: document[name][part]} if part else document[name]
    return projected


def reply(handler: BaseHTTPRequestHandler, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
    """Send an answer as a whole."""
    body = json.dumps(content).encode()
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def die(handler: BaseHTTPRequestHandler) -> None:
    """Promise an answer, send the beginning of it, and hang up."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [{"material_id": "mp-')
    handler.close_connection = True


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Serve until the block ends; ``server.url`` is the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server.url = f"http://127.0.0.1:{listening.server_port}/"
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
