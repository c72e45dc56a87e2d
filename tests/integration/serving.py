"""``kimgnn serve`` as a user starts it: a process of its own, which tests speak with over loopback."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KIMGNN = Path(sys.executable).with_name("kimgnn")
BEGUN = re.compile(r"^serving .* on (http://\S+)$")


@contextmanager
def serving(folder: Path, *arguments: object, key: str = "", seconds: float = 240.0) -> Iterator[str]:
    """Yield the address of a service on a free port; when the block ends, it is ended.

    Args:
        folder: Where its jobs are kept.
        arguments: Models, and options.
        key: That it asks for.
        seconds: To wait for it: on a machine that is busy otherwise, imports alone take a minute.
    """
    command = [KIMGNN, "serve", *map(str, arguments), "--port", "0", "--jobs", folder / "jobs.sqlite"]
    environment = os.environ | {"KIMGNN_API_KEY": key} if key else os.environ
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield _address(process, time.monotonic() + seconds)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _address(process: subprocess.Popen[str], until: float) -> str:
    assert process.stdout is not None
    while time.monotonic() < until and process.poll() is None:
        ready, _, _ = select.select([process.stdout], [], [], 1.0)
        if ready and (found := BEGUN.match(process.stdout.readline())):
            return found[1]
    raise AssertionError(f"the service did not begin (exit status {process.poll()})")
