"""What a process of a comparison does: ``python -m kimgnn.cli.one_training JOB OUTCOME``, both JSON.

A training of its own process has a memory of its own, and when it ends before its time the others go on.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from kimgnn.cli.log import set_up_log
from kimgnn.files import atomic_write


def main(job: Path, outcome: Path) -> None:
    """Train what the file says, and write what came out, or why nothing did."""
    set_up_log()
    from kimgnn.training.measured_training import train_once

    asked = json.loads(job.read_text(encoding="utf-8"))
    try:
        found = train_once(asked["manifest"], asked["structures"])
    except Exception as error:  # of any kind: out of memory, a loss that is not a number
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    with atomic_write(outcome) as file:
        json.dump(found, file)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
