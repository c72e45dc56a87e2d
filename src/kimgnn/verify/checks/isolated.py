"""Runs a check in a Python of its own: for clean counts of memory, and because a model may crash."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kimgnn.errors import KIMError

TIMEOUT: Final = 900.0
"""Seconds; several times what the slowest check takes, so that only a deadlock reaches it."""


class ModelCrash(Exception):
    """The process that ran the model was killed by a signal, or hung."""


def run_isolated(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a module, and return the JSON object that it writes into the file its first argument names.

    Not from what it prints, since models print too.

    Raises:
        ModelCrash: It was killed, or did not end in time.
        KIMError: It failed otherwise.
    """
    with tempfile.TemporaryDirectory() as temporary:
        answer = Path(temporary) / "answer.json"
        command = [sys.executable, "-m", module, str(answer), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ModelCrash(f"the model did not return within {TIMEOUT:.0f} s") from error
        if done.returncode < 0:
            raise ModelCrash(f"the model crashed: {signal.Signals(-done.returncode).name}")
        if done.returncode:
            raise KIMError(f"failed: {(done.stderr or done.stdout).strip()}", where=module)
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return result
