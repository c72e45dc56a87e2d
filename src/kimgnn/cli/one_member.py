"""What a process of an ensemble's training does: ``python -m kimgnn.cli.one_member MEMBER``, a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kimgnn.cli.log import set_up_log
from kimgnn.errors import KimgnnError


def main(path: Path) -> None:
    """Train the network that the file says."""
    set_up_log()
    from kimgnn.training.ensemble import MemberTrainer

    asked = json.loads(path.read_text(encoding="utf-8"))
    MemberTrainer(asked["manifest"], asked["member"]).train()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
    except KimgnnError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
