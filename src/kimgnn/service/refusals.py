"""What a client is told that is refused: a status of HTTP, and a message in kimgnn's own form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from kimgnn.errors import Problem
from kimgnn.service.problems import plain_problem


class Refusal(Exception):
    """A request is not answered, with the reason.

    Args:
        status: Of HTTP, 4xx.
        message: What is wrong.
        where: The part of the request.
        value: What came.
        allowed: What may come.
        remedy: What to do.
        problems: Instead of these five, several of them in plain values.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        where: str = "",
        value: object = None,
        allowed: str = "",
        remedy: str = "",
        problems: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problems = list(problems) or [plain_problem(Problem(where, message, value, allowed, remedy))]
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return error_of(self.problems)

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.content(), self.status, self.headers)


def error_of(problems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return problems as a client is told them: the first one, and all of them."""
    return {"error": {**problems[0], "problems": list(problems)}}
