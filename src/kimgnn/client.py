"""A prediction service from Python: what it says is what its model would say on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import ase
import httpx
import numpy as np

from kimgnn.errors import DataError, KimgnnError, ModelError, Problem, ServiceError, did_you_mean
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.prediction_json import from_json
from kimgnn.models.tasks import Task
from kimgnn.nn.states import StateInput
from kimgnn.predictor import Predictor

TOGETHER: Final = 32
"""Structures of one request to predict; `kimgnn predict` computes as many at a time."""

LONGEST_ID: Final = 200
"""Characters of an identifier, of which the end tells the most."""

OF_STRUCTURES: Final = (413, 422)
"""Statuses that say that structures cannot be used, not that the service cannot."""

BUSY: Final = 429

PARTS: Final = ("where", "message", "value", "allowed", "remedy")
"""Of a problem."""

UPDATE: Final = "Have the same version of kimgnn here and there."

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """Structures that a service computes when it has time.

    Attributes:
        id: What the service calls it.
        status: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        done: Structures that are computed.
        total: All of them.
        results: As far as they are computed, in the order of the structures: predictions, and the errors of those that
            could not be predicted.
    """

    id: str
    status: str
    done: int
    total: int
    results: list[Prediction | DataError]

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in ("queued", "running")


class Client:
    """A service as ``kimgnn serve`` runs it. Used in a ``with`` block, it closes its connections.

    Args:
        url: Where it is: ``http://127.0.0.1:8000``.
        api_key: Where the service asks for one.
        timeout: Seconds that one answer may take.
        patience: Seconds to go on asking a service that is too busy, as often as it says.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 120.0, patience: float = 300.0) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:  # a header of letters that HTTP does not have
            raise ServiceError(f"cannot be used ({error})", where=self.url, allowed="http://host:port") from error
        self._known: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return what the service tells of each of its models: name, tasks, species, states, training data."""
        found = self._understood(lambda: list(self._ask("GET", "/models")["models"]))
        self._known = self._understood(lambda: {model["name"]: model for model in found})
        return found

    def predict(
        self, structures: Sequence[ase.Atoms], model: str | None = None, identifiers: Sequence[str] = ()
    ) -> list[Prediction]:
        """Return one prediction a structure, in their order.

        Args:
            structures: Sent exactly, number by number. What a model needs besides the atoms is in their ``info``.
            model: Its name; it may be left out where the service has one.
            identifiers: What messages call the structures; by default their places.

        Raises:
            DataError: A structure cannot be used.
            ModelError: There is no such model.
            ServiceError: The service cannot be reached, refuses, or stays too busy.
        """
        entries = self._entries(structures, model, identifiers)
        name = self._about(model)["name"]
        predictions: list[Prediction] = []
        for start in range(0, len(entries), TOGETHER):
            batch = entries[start : start + TOGETHER]
            answer = self._ask("POST", "/predict", {"model": name, "structures": batch})
            found = self._understood(partial(_predictions, answer))
            if len(found) != len(batch):
                raise ServiceError("answers for other structures than were sent", where=self.url, remedy=UPDATE)
            predictions += found
        return predictions

    def submit(self, structures: Sequence[ase.Atoms], model: str | None = None, identifiers: Sequence[str] = ()) -> str:
        """Hand over structures to be computed later, and return the job's id; arguments and errors as of `predict`."""
        entries = self._entries(structures, model, identifiers)
        answer = self._ask("POST", "/jobs", {"model": self._about(model)["name"], "structures": entries})
        return self._understood(lambda: str(answer["id"]))

    def job(self, identifier: str) -> Job:
        """Return how far a job is, with its results.

        Raises:
            ServiceError: The service knows no such job (any more).
        """
        return self._job(identifier)

    def wait(self, identifier: str, every: float = 0.5) -> Job:
        """Return a job once it is over, asking every so many seconds; errors as of `job`."""
        while not self._job(identifier, "?limit=0").is_over:  # its state alone
            time.sleep(every)
        return self._job(identifier)

    def cancel(self, identifier: str) -> None:
        """Have a job forgotten, with its results; errors as of `job`."""
        self._ask("DELETE", f"/jobs/{_part(identifier)}")

    def _job(self, identifier: str, query: str = "") -> Job:
        answer = self._ask("GET", f"/jobs/{_part(identifier)}{query}")
        return self._understood(
            lambda: Job(
                answer["id"],
                answer["status"],
                answer["done"],
                answer["total"],
                [_result(one) for one in answer.get("results") or ()],
            )
        )

    def predictor(self, model: str | None = None) -> Predictor:
        """Return a model of the service as a predictor like any other; arguments and errors as of `predict`."""
        about = self._about(model)

        def predict(structures: Sequence[tuple[str, ase.Atoms]]) -> list[Prediction]:
            return self.predict([atoms for _, atoms in structures], about["name"], [name for name, _ in structures])

        return self._understood(
            lambda: Predictor(
                predict,
                [Task(**task | {"classes": tuple(task["classes"])}) for task in about["tasks"]],
                about["is_potential"],
                about["species"],
                [StateInput(**state) for state in about["states"]],
                about["training_data"],
                about.get("level"),
            )
        )

    def _about(self, model: str | None) -> dict[str, Any]:
        """Return what the service tells of a model, asked once."""
        if not self._known:
            self.models()
        names = list(self._known)
        if model is None and len(names) == 1:
            return self._known[names[0]]
        if model not in self._known:
            raise ModelError(
                "there is no such model" if model is not None else "the service has several models",
                where=self.url,
                value=model,
                allowed=", ".join(names),
                remedy="Name one of them." if model is None else did_you_mean(model, names),
            )
        return self._known[model]

    def _entries(
        self, structures: Sequence[ase.Atoms], model: str | None, identifiers: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return structures as a request has them."""
        states = [state["name"] for state in self._about(model)["states"]]
        names = identifiers or [f"structure {place}" for place in range(len(structures))]
        if len(names) != len(structures):
            raise DataError(
                "there must be one for each structure",
                where="identifiers",
                value=len(names),
                allowed=str(len(structures)),
            )
        return [_entry(name, atoms, states) for name, atoms in zip(names, structures, strict=True)]

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON of an answer; while the service is too busy, ask again when it says."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        give_up = time.monotonic() + self.patience
        while True:
            try:
                response = self._http.request(method, path, content=content, headers=headers)
            except httpx.TimeoutException as error:
                raise ServiceError("does not answer in time", where=self.url, remedy="Send less at once.") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ServiceError(
                    f"cannot be reached ({error})",
                    where=self.url,
                    remedy="Is `kimgnn serve` running there? Its address is like http://127.0.0.1:8000.",
                ) from error
            pause = _seconds(response)
            if response.status_code != BUSY or time.monotonic() + pause > give_up:
                break
            time.sleep(pause)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and answer is not None:
            return answer
        raise self._error(response.status_code, answer)

    def _error(self, status: int, answer: Any) -> KimgnnError:
        """Return the error that an answer tells of."""
        problems = _problems(answer)
        if not problems:
            return ServiceError(
                f"is no service of kimgnn, or broken: it answers with status {status}",
                where=self.url,
                remedy="Look at the address, and at what the service prints.",
            )
        return DataError(problems=problems) if status in OF_STRUCTURES else ServiceError(problems=problems)

    def _understood(self, read: Callable[[], Result]) -> Result:
        """Return what is read out of an answer.

        Raises:
            ServiceError: It has another form.
        """
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ServiceError(f"answers in a form unknown here ({reason})", where=self.url, remedy=UPDATE) from error


def _entry(identifier: str, atoms: ase.Atoms, states: Sequence[str]) -> dict[str, Any]:
    cell = atoms.cell.array
    if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
        raise DataError("the lattice or a coordinate is NaN or infinite", where=identifier)
    data = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": cell.tolist(),
        "pbc": atoms.pbc.tolist(),
    }
    given = {name: _plain(atoms.info[name]) for name in states if name in atoms.info}
    return {"id": identifier[-LONGEST_ID:], "format": "ase", "data": data, "states": given}


def _plain(value: Any) -> float | str:
    """Return the value of a state as JSON has it: a number, or text."""
    value = np.asarray(value).item() if np.size(value) == 1 else value
    return value if isinstance(value, int | float) and np.isfinite(value) else str(value)


def _predictions(answer: Mapping[str, Any]) -> list[Prediction]:
    return [from_json(one["prediction"]) for one in answer["results"]]


def _result(answer: Mapping[str, Any]) -> Prediction | DataError:
    if "error" in answer:
        return DataError(problems=_problems(answer))
    return from_json(answer["prediction"])


def _problems(answer: Any) -> list[Problem]:
    """Return the problems of an answer in the service's form; none of any other."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return []
    listed = [one for one in error.get("problems") or [error] if isinstance(one, dict)]
    return [Problem(**{"where": "", "message": ""} | {key: one[key] for key in PARTS if key in one}) for one in listed]


def _seconds(response: httpx.Response) -> float:
    """Return when to ask again; HTTP allows a date too, which no service of ours sends."""
    try:
        return max(float(response.headers.get("Retry-After", 1.0)), 0.1)
    except ValueError:
        return 1.0


def _part(identifier: str) -> str:
    """Return text as one part of a path."""
    return quote(identifier, safe="")
