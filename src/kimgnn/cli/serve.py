"""``kimgnn serve``: models over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kimgnn.errors import DataError, ModelError

if TYPE_CHECKING:
    from kimgnn.service.limits import Limits

KEY: Final = "KIMGNN_API_KEY"
"""Of the environment: the key that clients have to send."""

SHORTEST: Final = 16
"""Characters of a key."""

MIB: Final = 2**20


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A run directory, a checkpoint, an exported folder or file, each with a name if it is written "
            "NAME=PATH; an exported folder is served by ONNX Runtime if it can be.",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen; other machines reach another address only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    jobs: Annotated[Path, typer.Option(help="File of the jobs and their results, SQLite.")] = Path(
        "kimgnn-jobs.sqlite"
    ),
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that clients have to send; or the variable {KEY}.", show_default=False),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which a proxy calls the service, for each.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that compute, each with all models.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Of each of them.")] = 1,
    window: Annotated[
        float, typer.Option(min=0, help="Milliseconds that a structure waits at most for others.")
    ] = 20.0,
    batch: Annotated[int, typer.Option(min=1, help="Structures computed at once; 1 for no batches.")] = 64,
    batch_atoms: Annotated[int, typer.Option(min=1, help="Atoms computed at once.")] = 8192,
    max_structures: Annotated[int, typer.Option(min=1, help="Structures of a request.")] = 256,
    max_atoms: Annotated[int, typer.Option(min=1, help="Atoms of a structure.")] = 2000,
    max_body: Annotated[float, typer.Option(min=0.001, help="MiB of a request.")] = 32.0,
    max_queue: Annotated[int, typer.Option(min=1, help="Structures that wait; later ones get 429.")] = 1024,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests answered at once; later ones get 429.")] = 512,
    max_job_structures: Annotated[int, typer.Option(min=1, help="Structures of all jobs that are not done.")] = 100_000,
    job_hours: Annotated[float, typer.Option(min=0, help="Hours that results of jobs are kept.")] = 72.0,
    client_seconds: Annotated[float, typer.Option(min=0.1, help="Time of a client to send a request.")] = 20.0,
    compute_seconds: Annotated[
        float, typer.Option(min=0.1, help="Time of a batch; what takes longer is refused.")
    ] = 60.0,
) -> None:
    """Predict over HTTP: POST /predict, /jobs; GET /models, /health, /ready, /metrics, /openapi.json; a page at /."""
    from kimgnn.service.limits import Limits

    limits = Limits(
        max_structures=max_structures,
        max_atoms=max_atoms,
        max_body=int(max_body * MIB),
        max_job_structures=max_job_structures,
        max_queue=max_queue,
        max_requests=max_requests,
        client_seconds=client_seconds,
        compute_seconds=compute_seconds,
        window=window / 1000,
        batch_structures=batch,
        batch_atoms=batch_atoms,
        job_hours=job_hours,
    )
    _serve(_named(models), limits, host, port, jobs, _key(api_key_file), allow_host or [], workers, threads)


def _serve(
    models: dict[str, Path],
    limits: Limits,
    host: str,
    port: int,
    jobs: Path,
    key: str | None,
    names: list[str],
    workers: int,
    threads: int,
) -> None:
    import asyncio

    try:
        from kimgnn.service.server import LOOPBACK, is_loopback, listen, serve
        from kimgnn.service.service import Service
    except ImportError as error:
        raise ModelError(
            f"{error.name} is not installed", where="kimgnn serve", remedy="pip install kimgnn[serve]"
        ) from error

    bound = listen(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"
    if not is_loopback(host) and key is None:
        print(f"Warning: {address} is open to other machines, and asks for no key: set {KEY}.", file=sys.stderr)
    service = Service(models, limits, jobs, workers, threads)
    allowed = [*LOOPBACK, host, *names] if is_loopback(host) or names else []

    def began() -> None:
        print(f"serving {', '.join(models)} on {address}", flush=True)

    asyncio.run(serve(service, bound, key, allowed, began))


def _named(models: list[str]) -> dict[str, Path]:
    """Return name -> path of what is to be served; the path's name where there is none."""
    named: dict[str, Path] = {}
    for given in models:
        name, equals, path = given.partition("=")
        if not equals or Path(given).exists():
            path = given
            name = Path(given).name if Path(given).is_dir() else Path(given).parent.resolve().name
        if not path or not name or name in named:
            what = "two models have this name" if name in named else "a name and a path are needed"
            raise DataError(what, where="MODEL", value=given, remedy="Write NAME=PATH.")
        named[name] = Path(path)
    return named


def _key(file: Path | None) -> str | None:
    """Return the key: of the file, or of the environment.

    Raises:
        DataError: The file cannot be read, or the key is too short to be one.
    """
    where = str(file) if file is not None else KEY
    try:
        key = os.environ.get(KEY) if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=where) from error
    if key is None:
        return None
    key = key.strip()
    if len(key) < SHORTEST or not key.isascii() or not key.isprintable():
        raise DataError(
            "is no key",
            where=where,
            allowed=f"{SHORTEST} printable ASCII characters or more",
            remedy="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return key
