"""Does a model release all that it allocates? Counted in a process of its own, over cycles of its whole life."""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.isolated import ModelCrash, run_isolated
from kimgnn.verify.checks.kim_model import KIMModel
from kimgnn.verify.checks.structures import lattice

FEWEST_CYCLES, MOST_CYCLES, SECONDS = 60, 100, 5.0
"""Cycles to run; more than the fewest only until the seconds are over. On a busy machine caches take tens to fill."""


def memory_leak(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Fail if the memory in use grows with every cycle of creating the model, computing, and destroying it.

    glibc counts the bytes in use exactly. Elsewhere it is the peak resident memory that is looked at, in which a leak
    of less than a page a cycle does not show.
    """
    try:
        found = run_isolated(__name__, [model.name, *species])
    except ModelCrash as crash:
        return Outcome("F", str(crash))
    used = found["used"]
    leaked = leak_per_cycle(used)
    comment = f"{leaked:.0f} bytes a cycle of {len(used)} cycles, counted by {found['counter']}"
    return Outcome("F" if leaked >= 1.0 else "P", comment, leaked, 1.0)


def leak_per_cycle(used: Sequence[float]) -> float:
    """Return the median growth from one cycle to the next, after a third of them to warm up.

    What leaks grows in every cycle; caches that fill, and the interpreter's own tables, grow in fewer and fewer.

    Args:
        used: Memory in use after each cycle, bytes.
    """
    return float(np.median(np.diff(used[len(used) // 3 :])))


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def _memory_counter() -> tuple[str, Callable[[], int]]:
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        unit = 1 if sys.platform == "darwin" else 1024
        return "peak resident memory", lambda: unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mallinfo2.restype = _MallocInfo

    def in_use() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    return "glibc's mallinfo2", in_use


def _live(name: str, species: Sequence[str]) -> None:
    """One whole life of a model."""
    model = KIMModel(name)
    cluster = lattice("bcc", 3.0, 2, species, amplitude=0.1)
    model.evaluate(cluster)
    model.evaluate(cluster._replace(pbc=(True, False, False)))


def main(answer: str, name: str, *species: str) -> None:
    """Run the cycles, and write the memory in use after each into a file."""
    counter, in_use = _memory_counter()
    used = np.zeros(MOST_CYCLES)
    start = time.monotonic()
    for cycle in range(MOST_CYCLES):
        if cycle >= FEWEST_CYCLES and time.monotonic() - start > SECONDS:
            used = used[:cycle]
            break
        _live(name, species)
        gc.collect()
        used[cycle] = in_use()
    Path(answer).write_text(json.dumps({"counter": counter, "used": used.tolist()}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
