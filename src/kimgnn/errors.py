"""Every error kimgnn raises on a user's input: where it is, what came, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in the order a reader needs it.

    Attributes:
        where: Dotted path in the manifest, or file and frame.
        message: What is wrong.
        value: The value received, shown with ``repr``; omitted when ``None``.
        allowed: The values or range allowed, already in words.
        remedy: What to do about it.
    """

    where: str
    message: str
    value: object = None
    allowed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        if self.value is not None:
            text += f" (got {self.value!r})"
        text += "."
        if self.allowed:
            text += f" Allowed: {self.allowed}."
        if self.remedy:
            text += f" {self.remedy}"
        return text


class KimgnnError(Exception):
    """Base of all kimgnn errors; holds one or more `Problem`s and prints them one a line."""

    def __init__(
        self,
        message: str = "",
        *,
        where: str = "",
        value: object = None,
        allowed: str = "",
        remedy: str = "",
        problems: Sequence[Problem] = (),
    ) -> None:
        self.problems = tuple(problems) or (Problem(where, message, value, allowed, remedy),)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ManifestError(KimgnnError):
    """The manifest is wrong; every problem is listed."""


class DataError(KimgnnError):
    """A structure or a label cannot be used."""


class ModelError(KimgnnError):
    """A network cannot be built, or a checkpoint cannot be read."""


class TrainingError(KimgnnError):
    """A run cannot be started, continued or saved."""


class ExportError(KimgnnError):
    """A model cannot be exported, with the reason."""


class ServiceError(KimgnnError):
    """A prediction service cannot be reached, or refuses."""


class KIMError(KimgnnError):
    """The KIM API, the model driver or a simulator is missing, or refused."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``"Did you mean 'x'?"`` for the nearest choice, or an empty string."""
    lowered = {choice.lower(): choice for choice in choices}
    match = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f"Did you mean {lowered[match[0]]!r}?" if match else ""
