"""KIM's naming rule."""

import pytest

from kimgnn.errors import ExportError
from kimgnn.kim_id import is_model_name, parse_model_name


def test_parts() -> None:
    """Prefix, number and version are told apart, also where the prefix has double underscores itself."""
    assert parse_model_name("SchNet__a_Si__MO_123456789012_007") == ("SchNet__a_Si", "123456789012", "007")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Si",
        "Si__MO_12345678901_000",
        "Si__MO_123456789012_00",
        "Si__MD_123456789012_000",
        "1Si__MO_123456789012_000",
        "Si-C__MO_123456789012_000",
        "Sí__MO_123456789012_000",
        "Si__MO_12345678901²_000",
        f"{'a' * 101}__MO_123456789012_000",
        "Si__MO_123456789012_000\n",
    ],
)
def test_what_breaks_the_rule_is_refused_with_the_rule(name: str) -> None:
    """The message quotes the rule."""
    assert not is_model_name(name)
    with pytest.raises(ExportError, match="12 digits"):
        parse_model_name(name)


def test_longest_prefix() -> None:
    """A prefix of 100 characters is allowed."""
    assert is_model_name(f"{'a' * 100}__MO_123456789012_000")
