"""Tables in plain text that are also Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Cells ``rows``, the first of which is the header; the first ``left`` columns are words, the others numbers."""

    rows: Sequence[Sequence[str]]
    left: int = 1


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return ``rows``, the first of which is the header, with columns of one width.

    Args:
        rows: Cells; every row as long as the first.
        left: How many columns, from the first, are words and stand to the left; the others are numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width if index < left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    lines = [
        [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
