"""Seconds an epoch of several manifests, trained in turn, epoch by epoch; ratios to the first.

    OMP_NUM_THREADS=1 python benchmarks/epochs.py manifests/perov5_cgcnn.yaml manifests/perov5_alignn.yaml

Graphs are in memory before the clock starts. Runs on the same machine at the same time share its load: read the ratios.
"""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path

from harness import Results, arguments_of, bars, in_turn, median, spread
from kimgnn.manifest import load_manifest
from steps import Training


def main() -> None:
    parser = arguments_of(__doc__, rounds=3)
    parser.add_argument("manifests", type=Path, nargs="+")
    arguments = parser.parse_args()
    columns = {"manifest": "s", "s an epoch": ".2f", "over the first": ".2f", "spread %": ".0f"}
    results = Results("epochs", "Seconds an epoch", columns)
    with tempfile.TemporaryDirectory() as folder:
        epochs = {}
        for path in arguments.manifests:
            training = Training(load_manifest(path).to_dict(), folder)
            epochs[path.stem] = partial(_next_epoch, training, itertools.count())
        times = in_turn(epochs, arguments.rounds, seconds=0.0)
    first = next(iter(times.values()))
    for name, seconds in times.items():
        found = {"s an epoch": median(seconds), "over the first": median(seconds / first), "spread %": spread(seconds)}
        results.add(manifest=name, **found, seconds=seconds.tolist())
    results.write(arguments.output, lambda figure, rows: bars(figure.subplots(), rows, "manifest", "s an epoch"))


def _next_epoch(training: Training, numbers: itertools.count) -> None:
    training.epoch(next(numbers))


if __name__ == "__main__":
    main()
