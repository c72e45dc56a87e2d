"""Do several threads that compute with one model at the same time get what one after the other gets?"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Final

import numpy as np

from kimgnn.verify.checks.grades import Outcome
from kimgnn.verify.checks.isolated import ModelCrash, run_isolated
from kimgnn.verify.checks.kim_model import Evaluation, Evaluator, KIMModel
from kimgnn.verify.checks.rounding import difference, tolerance
from kimgnn.verify.checks.structures import SEED, Structure, lattice

THREADS: Final = 4
REPEATS: Final = 5
"""Computations of a thread in a cycle."""

FEWEST_CYCLES, MOST_CYCLES, SECONDS = 5, 100, 3.0
"""Cycles to run; more than the fewest only until the seconds are over."""


def thread_safety(model: KIMModel, species: Sequence[str]) -> Outcome:
    """Pass if every thread gets the serial energy and forces: to the last bit, or within rounding, which is told.

    The threads share the model, but each has its own compute arguments. They start together, compute cells of
    different sizes with Python's lock released, and swap them after each cycle. A race that no run met stays unseen.
    """
    try:
        found = run_isolated(__name__, [model.name, *species])
    except ModelCrash as crash:
        return Outcome("F", str(crash))
    agreement = "identical to" if found["identical"] else "not bit for bit"
    comment = f"{found['computed']} computations in {THREADS} threads, {agreement} the serial ones"
    passed = found["error"] <= found["allowed"]
    return Outcome("P" if passed else "F", comment, found["error"], found["allowed"])


def _cells(species: Sequence[str]) -> list[Structure]:
    """Distorted periodic face-centred cells of 4, 8, 16 and 32 atoms."""
    cells = []
    for doublings in range(THREADS):
        cell = lattice("fcc", 4.0, 1, species, amplitude=0.3, seed=SEED + doublings)._replace(pbc=(True, True, True))
        for axis in range(doublings):
            cell = cell.doubled(axis)
        cells.append(cell)
    return cells


def main(answer: str, name: str, *species: str) -> None:
    """Compute serially, then in threads, and write into a file how far the results are apart."""
    model = KIMModel(name)
    cells = _cells(species)
    serial = [model.evaluate(cell) for cell in cells]
    allowed = max(tolerance(model, cell) for cell in cells)
    models = [KIMModel(name) for _ in range(THREADS)]
    evaluators = [model.evaluator() for model in models]
    start_together = Barrier(THREADS)
    rng = np.random.default_rng(SEED)

    def compute(evaluator: Evaluator) -> list[Evaluation]:
        start_together.wait()
        return [evaluator.compute() for _ in range(REPEATS)]

    # Threads of Python take turns every 5 ms, in which a fast model is done many times.
    sys.setswitchinterval(1e-5)
    errors: list[float] = []
    identical = True
    start = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for cycle in range(MOST_CYCLES):
            if cycle >= FEWEST_CYCLES and time.monotonic() - start > SECONDS:
                break
            order = rng.permutation(THREADS)
            for evaluator, index in zip(evaluators, order, strict=True):
                evaluator.load(cells[index])
            for index, evaluations in zip(order, pool.map(compute, evaluators), strict=True):
                for found in evaluations:
                    errors.append(difference(found, serial[index]))
                    same = found.energy == serial[index].energy and np.array_equal(found.forces, serial[index].forces)
                    identical = identical and same
    result = {"computed": len(errors), "identical": identical, "error": float(np.max(errors)), "allowed": allowed}
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
