"""KIM's naming rule for portable models: ``<prefix>__MO_<12 digits>_<3 digits>``.

Source: https://openkim.org/doc/schema/kim-ids. CMake also requires a valid C identifier, hence no hyphen or dot.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kimgnn.errors import ExportError

RULE: Final = (
    "<prefix>__MO_<12 digits>_<3 digits>; the prefix has at most 100 letters, digits and underscores and begins with a "
    "letter, as in SchNet_MyData_2026_Si__MO_123456789012_000"
)

_MODEL_NAME = re.compile(r"(?P<prefix>[A-Za-z][A-Za-z0-9_]{0,99})__MO_(?P<number>\d{12})_(?P<version>\d{3})", re.ASCII)


class KIMId(NamedTuple):
    """The parts of an extended KIM id."""

    prefix: str
    number: str
    version: str


def is_model_name(name: str) -> bool:
    """Whether ``name`` is an extended KIM id of a portable model."""
    return _MODEL_NAME.fullmatch(name) is not None


def parse_model_name(name: str, where: str = "export.model_name") -> KIMId:
    """Return the parts of a portable model's extended KIM id.

    Raises:
        ExportError: The name breaks KIM's rule; the message quotes the rule.
    """
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        raise ExportError("not a KIM model name", where=where, value=name, allowed=RULE)
    return KIMId(**match.groupdict())
