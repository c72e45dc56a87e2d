"""The base of every architecture's and head's options."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Options:
    """Frozen dataclass of options; pydantic, which the manifest uses on it, refuses keys that it does not know."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
