"""What every command says on the terminal, and what it does not."""

from __future__ import annotations

import sys


def set_up_log() -> None:
    """Log plain lines to the terminal, and import KLIFF without its own log, which makes a file where the user is."""
    from unittest.mock import patch

    from loguru import logger

    logger.remove()
    logger.add(lambda line: print(line, end="", file=sys.stderr), format="{message}", level="INFO")
    # KLIFF warns at import that its descriptors are missing; graphs do without them.
    logger.disable("kliff.transforms.configuration_transforms.descriptors")
    with patch.object(logger, "configure"):
        import kliff  # noqa: F401
