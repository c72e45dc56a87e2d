"""The service's HTTP: paths, what they take and what they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from kimgnn import __version__
from kimgnn.errors import did_you_mean
from kimgnn.service import messages
from kimgnn.service.computed import computed
from kimgnn.service.formats import FORMATS, Answer, Given
from kimgnn.service.guard import LEFT, Guard
from kimgnn.service.job_store import Job
from kimgnn.service.refusals import Refusal
from kimgnn.service.service import Service

PAGE: Final = Path(__file__).parent / "page"

TEXT: Final = {"text/plain": None, "chemical/x-cif": "cif", "chemical/x-poscar": "poscar", "chemical/x-xyz": "extxyz"}
"""Content type of a body that is one structure's text -> its format, where the type says it."""

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{32}")

MOST: Final = 2**31 - 1
"""Entries of a job that can be counted: SQLite knows no larger numbers than 2**63."""

WORDS: Final = {404: "there is no such path", 405: "the path has no such method"}
"""Status -> what is said of it, in the place of Starlette's words."""


def create_app(service: Service, key: str | None = None, hosts: Collection[str] = ()) -> ASGIApp:
    """Return the application.

    Args:
        service: What computes; who started it, ends it.
        key: What clients have to know, if anything.
        hosts: Names by which the service may be called; any without them.
    """
    # /docs would load its scripts from another host.
    app = FastAPI(
        title="kimgnn",
        version=__version__,
        summary="Predictions of graph neural networks for materials.",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    predict = _add_predictions(app, service)
    _add_jobs(app, service)
    _add_state(app, service)
    if (PAGE / "index.html").is_file():
        _add_page(app)
    return Guard(_Direct(app, "/predict", predict), service.limits.max_requests, key, hosts, service.metrics)


Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Direct:
    """Answers one path itself, as the application would: its way there takes as long as all the rest of an answer.

    Args:
        app: The application, which has the path too: it tells of it, and of what else is asked there.
        path: Of requests with POST.
        endpoint: What answers them.
    """

    def __init__(self, app: ASGIApp, path: str, endpoint: Endpoint) -> None:
        self.app = app
        self.route = Route(path, endpoint, methods=["POST"])
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != self.route.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["route"] = self.route  # the Guard counts by it
        request = Request(scope, receive)
        try:
            response = await self.endpoint(request)
        except Refusal as error:
            response = await _refused(request, error)
        except ClientDisconnect as error:
            response = await _left(request, error)
        except Exception as error:
            await (await _unexpected(request, error))(scope, receive, send)
            raise  # to the log
        await response(scope, receive, send)


DESCRIPTION: Final = """\
Units are eV, Å and what is said with each value; stress is positive in tension, in Voigt order xx yy zz yz xz xy. What
cannot be done is told with a status of 4xx and `{"error": {"message", "where", "value", "allowed", "remedy",
"problems"}}`."""

ERROR: Final[dict[str, Any]] = {
    "error": {
        "message": "two atoms are at one place",
        "where": "structure 0",
        "value": "atoms 0 and 1, 0.0e+00 Å apart",
        "allowed": "",
        "remedy": "Remove one of them; atoms are counted from 0.",
        "problems": ["these five of each problem"],
    }
}

RESULT: Final[dict[str, Any]] = {
    "id": "structure 0",
    "formula": "CSi",
    "atoms": 2,
    "prediction": {"properties": {"gap": [1.31]}, "deviations": {"gap": [0.12]}},
    "columns": {"gap (eV)": 1.31, "gap deviation (eV)": 0.12},
    "warnings": [],
}


def _answer(example: Any, text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"example": example}}}


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: _answer(ERROR, text)
    for status, text in {
        401: "A key is needed.",
        404: "There is no such model.",
        408: "The request took too long to come.",
        413: "The body, a structure, or their number is too large.",
        415: "The content type is not one of those above.",
        422: "The request or a structure cannot be used; every problem is listed, and nothing is computed.",
        429: "Too much waits already; Retry-After says for how many seconds.",
    }.items()
}


def _add_predictions(app: FastAPI, service: Service) -> Endpoint:
    """Add them, and return what answers ``/predict``."""
    results = {"model": "gaps", "results": [RESULT]}

    @app.post(
        "/predict",
        summary="Predict the properties of structures",
        openapi_extra=messages.REQUEST_BODY | {"parameters": PARAMETERS},
        responses=REFUSALS | {200: _answer(results, "A result for each structure, in their order.")},
    )
    async def predict(request: Request) -> Response:
        async with service.bodies.read(request) as body:
            model, given = _asked(service, request, body)
            answers = await computed(service, request, given)
        return _json(f'{{"model":{json.dumps(model)},"results":[{_joined(answers)}]}}')

    drawn = {"structures": [{"id": "structure 0", "formula": "CSi", "atoms": 2, "structure": messages.ASE}]}

    @app.post(
        "/structures",
        summary="Read structures, and predict nothing",
        openapi_extra=messages.REQUEST_BODY,
        responses=REFUSALS | {200: _answer(drawn, "The structures, and what their elements look like.")},
    )
    async def structures(request: Request) -> Response:
        async with service.bodies.read(request) as body:
            _, given = _asked(service, request, body, with_model=False)
            answers = await computed(service, request, given)
        found = json.loads(f"[{_joined(answers)}]")
        looks = {symbol: look for one in found for symbol, look in one["elements"].items()}
        return JSONResponse({"structures": [one["structure"] for one in found], "elements": looks})

    return predict


def _add_jobs(app: FastAPI, service: Service) -> None:
    job = {"id": "Zr0mFqWc5vJxL2aTn8eYh3bKd7sUg1pQ", "status": "running", "total": 5000, "done": 1280}
    missing: dict[int | str, dict[str, Any]] = {
        404: {
            "description": "There is no such job, or not any more.",
            "content": {"application/json": {"example": ERROR}},
        }
    }

    @app.post(
        "/jobs",
        status_code=202,
        summary="Have many structures predicted, by and by",
        openapi_extra=messages.REQUEST_BODY | {"parameters": PARAMETERS},
        responses=REFUSALS | {202: _answer(job | {"status": "queued", "done": 0}, "It is kept, and will be computed.")},
    )
    async def add_job(request: Request) -> Response:
        async with service.bodies.read(request) as body:
            _, given = _asked(service, request, body, of_job=True)
            left = service.limits.max_job_structures - service.jobs.store.unfinished
            if len(given) > left:
                raise Refusal(
                    429,
                    "too many structures of jobs are not done",
                    value=len(given),
                    allowed=f"{max(0, left)} now",
                    remedy="Send it again later, or start the service with a higher --max-job-structures.",
                    headers={"Retry-After": "60"},
                )
            added = await service.jobs.add(given)
        return JSONResponse(added._asdict(), 202, {"Location": f"/jobs/{added.id}"})

    @app.get(
        "/jobs/{id}",
        summary="How far a job is, and its results so far",
        responses=missing | {200: _answer(job | {"results": [RESULT]}, "With results of what is done, in order.")},
    )
    async def get_job(
        id: str,
        offset: Annotated[int, Query(ge=0, le=MOST, description="Entry to begin with.")] = 0,
        limit: Annotated[
            int | None, Query(ge=0, le=MOST, description="Entries, at most; 0 for the status alone.")
        ] = None,
    ) -> Response:
        found = _known(await service.jobs.find(id) if JOB_ID.fullmatch(id) else None, id)
        results = await service.jobs.results(id, offset, -1 if limit is None else limit)
        head = json.dumps(found._asdict())
        return _json(f'{head[:-1]},"results":[{",".join(results)}]}}')

    @app.delete(
        "/jobs/{id}",
        summary="Cancel a job, or delete one that is done",
        responses=missing | {200: _answer(job | {"status": "cancelled"}, "Its structures and results are deleted.")},
    )
    async def delete_job(id: str) -> Response:
        removed = _known(await service.jobs.remove(id) if JOB_ID.fullmatch(id) else None, id)
        return JSONResponse(removed._asdict())


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/models", summary="The models, what they predict and what they were trained on")
    async def models() -> Response:
        limits = service.limits
        bounds = {
            "max_structures": limits.max_structures,
            "max_atoms": limits.max_atoms,
            "max_body_bytes": limits.max_body,
            "max_job_structures": limits.max_job_structures,
        }
        return JSONResponse({"models": service.models, "limits": bounds, "formats": FORMATS, "version": __version__})

    @app.get("/health", summary="Whether the service runs")
    async def health() -> Response:
        return _state("ok" if service.alive else "a part of the service ended; its log says why", service.alive)

    @app.get("/ready", summary="Whether a structure would be computed now")
    async def ready() -> Response:
        return _state("ready" if service.ready else "the models are being loaded", service.ready)

    @app.get("/metrics", summary="Counts and times, for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    fresh = {"Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers=fresh)

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        response = await StaticFiles(directory=PAGE).get_response(name, request.scope)
        response.headers.update(fresh)
        return response


def _add_errors(app: FastAPI) -> None:
    app.exception_handler(Refusal)(_refused)
    app.exception_handler(ClientDisconnect)(_left)
    app.exception_handler(Exception)(_unexpected)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        message = WORDS.get(error.status_code, str(error.detail))
        remedy = "GET /openapi.json tells the paths, and what they take."
        value = f"{request.method} {request.url.path}"
        refusal = Refusal(error.status_code, message, value=value, remedy=remedy, headers=error.headers)
        return refusal.response()

    @app.exception_handler(RequestValidationError)
    async def not_valid(_: Request, error: RequestValidationError) -> Response:
        return Refusal(422, problems=[messages.problem_of(found) for found in error.errors()]).response()


async def _refused(_: Request, error: Refusal) -> Response:
    return error.response()


async def _left(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=LEFT)


async def _unexpected(_: Request, __: Exception) -> Response:
    return Refusal(500, "the service failed; its log says where", remedy="Please report it.").response()


PARAMETERS: Final[list[dict[str, Any]]] = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
    for name, text, schema in (
        ("format", "Of a body that is a structure's text.", {"type": "string", "enum": ["cif", "poscar", "extxyz"]}),
        ("model", "The model of such a body.", {"type": "string"}),
        ("id", "What results call its structure.", {"type": "string"}),
    )
]


def _asked(
    service: Service, request: Request, body: bytes, with_model: bool = True, of_job: bool = False
) -> tuple[str, list[Given]]:
    """Return the model and the entries of a request.

    Raises:
        Refusal: It cannot be read, asks for too much, or for a model that there is not.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        asked = messages.read_request(body)
    elif kind in TEXT:
        asked = _of_text(request, body, TEXT[kind])
    else:
        raise Refusal(
            415,
            "the body is of no type that is taken",
            where="Content-Type",
            value=kind,
            allowed=", ".join(["application/json", *TEXT]),
            remedy="Send JSON, or the text of one structure with ?format=.",
        )
    if not of_job and len(asked.structures) > service.limits.max_structures:
        raise Refusal(
            413,
            "there are too many structures",
            where="structures",
            value=len(asked.structures),
            allowed=f"up to {service.limits.max_structures}",
            remedy="Divide them among requests, send them to POST /jobs, or start the service with a higher "
            "--max-structures.",
        )
    model = _model(service, asked.model) if with_model else ""
    return model, asked.given(model)


def _of_text(request: Request, body: bytes, known: str | None) -> messages.Request:
    """Return the request of a body that is the text of a structure."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in ("format", "model", "id") or name in given:
            what = "is given twice" if name in given else "is no parameter"
            remedy = "A structure is given in one format." if name == "format" else ""
            raise Refusal(422, what, where=f"?{name}=", allowed="format, model, id, each once", remedy=remedy)
        given[name] = value
    format_name = given.get("format", known)
    if known is not None and format_name != known:
        raise Refusal(422, "the content type says another format", where="?format=", value=format_name, allowed=known)
    if format_name not in ("cif", "poscar", "extxyz"):
        raise Refusal(
            422, "the format of the text is needed", where="?format=", value=format_name, allowed="cif, poscar, extxyz"
        )
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refusal(422, "the body is not text in UTF-8", remedy="Send the structure's text as it is.") from None
    entry = {"format": format_name, "data": text, "id": given.get("id", "")}
    return messages.checked({"structures": [entry], "model": given.get("model")})


def _model(service: Service, name: str | None) -> str:
    if name is None and len(service.names) == 1:
        return service.names[0]
    allowed = ", ".join(service.names)
    if name is None:
        raise Refusal(422, "which model is needed, as there are several", where="model", allowed=allowed)
    if name not in service.names:
        remedy = did_you_mean(name, service.names) or "GET /models tells what there is."
        raise Refusal(404, "there is no such model", where="model", value=name, allowed=allowed, remedy=remedy)
    return name


def _known(job: Job | None, identifier: str) -> Job:
    if job is None:
        remedy = "POST /jobs tells the id; results are kept for some time only."
        raise Refusal(404, "there is no such job", where="id", value=identifier[:64], remedy=remedy)
    return job


def _joined(answers: Sequence[Answer]) -> str:
    return ",".join(result for answer in answers for result in answer.results)


def _state(text: str, good: bool) -> Response:
    return JSONResponse({"status": text}, 200 if good else 503)


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")
