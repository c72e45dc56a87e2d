"""The base of every architecture's and head's options."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Options:
    """Frozen dataclass of options; pydantic, which the manifest uses on it, refuses keys that it does not know."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def _require_positive(self, *names: str) -> None:
        """Raise `ValueError` of a length, in Å, that is given and not above 0."""
        for name in names:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be positive, in Å (got {value})")

    def _require_at_least(self, minimum: int, *names: str) -> None:
        """Raise `ValueError` of a number that is given and less than ``minimum``."""
        for name in names:
            if (value := getattr(self, name)) is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum} (got {value})")
