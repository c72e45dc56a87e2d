"""What the blocks of a manifest share: strictness, null, the escape hatch, and the types of their values."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError


def wrong(message: str, *, allowed: str = "", remedy: str = "") -> PydanticCustomError:
    """Return an error for a validator to raise, in the words that a `kimgnn.errors.Problem` will have."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "allowed": allowed, "remedy": remedy})


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _found(path: str) -> bool:
    return os.path.exists(path) or bool(glob(path))


def or_beside_the_manifest(path: str, info: ValidationInfo) -> str:
    """Return a path to read, in the manifest's folder if it is found there alone."""
    folder: Path | None = (info.context or {}).get("folder")
    if folder is None or _found(path):
        return path
    beside = str(folder / path)
    return beside if _found(beside) else path


AnyCase = BeforeValidator(_lower)
"""For a choice that may be written in any case, as KLIFF's documentation does."""

InputPath = Annotated[str, Field(min_length=1), AfterValidator(or_beside_the_manifest)]
"""A file, folder or glob to read, relative to the current folder or, where not found there, to the manifest's."""

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Block(BaseModel):
    """A part of the manifest: unknown keys refused, no type guessed (`True` is not 1), null the same as absent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    extra: dict[str, Any] = Field(default_factory=dict)
    """Keys handed to KLIFF as they are, unchecked, with a warning."""

    @field_validator("extra")
    @classmethod
    def _extra_is_unknown(cls, extra: dict[str, Any]) -> dict[str, Any]:
        known = sorted(extra.keys() & cls.model_fields.keys())
        if known:
            raise wrong(f"{', '.join(known)} would escape the checks", remedy="Write it beside 'extra', not in it.")
        return extra

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls_and_merged_extra(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        extra = data.get("extra")
        merged = extra if isinstance(extra, dict) else {}

        def stays(key: Any) -> bool:
            if key in cls.model_fields:
                return data[key] is not None
            return not (key in merged and merged[key] == data[key])

        return {key: value for key, value in data.items() if stays(key)}

    @model_serializer(mode="wrap")
    def _merge_extra(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = serialize(self)
        extra = plain.pop("extra")
        return {**extra, **plain, "extra": extra} if extra else plain
