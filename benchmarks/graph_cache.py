"""What a cache saves: seconds to read structures, to make graphs, to the first step, and of the first two epochs.

    python benchmarks/graph_cache.py manifests/perov5_cgcnn.yaml

Every row is a process of its own, on one cache folder that is empty at first; its imports come before the clock starts.
One run of each: a cache is empty once. "MiB" is the most memory that the process held.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Results, arguments_of, in_child

COLUMNS = ("structures", "graphs", "first step", "epoch 1", "epoch 2")


def measure(manifest: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each column for one run of two epochs."""
    from lightning.pytorch import Callback
    from loguru import logger

    from kimgnn import GNNLightningTrainer
    from kimgnn.training.lightning_run import fit

    logger.remove()
    warnings.simplefilter("ignore")
    seconds = dict.fromkeys(COLUMNS, 0.0)

    def timed(step: Callable[[Any], None], column: str) -> Callable[[Any], None]:
        def run(trainer: Any) -> None:
            start = time.perf_counter()
            step(trainer)
            seconds[column] += time.perf_counter() - start

        return run

    class Timed(GNNLightningTrainer):
        setup_dataset = timed(GNNLightningTrainer.setup_dataset, "structures")
        setup_dataset_split = timed(GNNLightningTrainer.setup_dataset_split, "structures")
        setup_dataloaders = timed(GNNLightningTrainer.setup_dataloaders, "graphs")

    class Clock(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            seconds["first step"] = seconds["first step"] or time.perf_counter() - start

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seconds[f"epoch {trainer.current_epoch + 1}"] = time.perf_counter() - self.started

    start = time.perf_counter()
    trainer = Timed(manifest)
    trainer.pl_trainer.callbacks.insert(0, Clock())
    fit(trainer.pl_trainer, trainer.pl_model, trainer.data_module, None)
    return seconds


def main() -> None:
    """Measure a run without a cache, one that fills it, and two that find it full."""
    parser = arguments_of(__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data (training.num_workers)")
    options = parser.parse_args()
    from kimgnn.manifest import load_manifest

    columns = {"seconds": "s"} | dict.fromkeys(COLUMNS, ".2f") | {"MiB": ".0f"}
    results = Results("graph_cache", f"Seconds with and without a cache, {options.manifest.name}", columns)
    with tempfile.TemporaryDirectory() as folder:
        plain = load_manifest(options.manifest).to_dict()
        plain["workspace"]["name"] = f"{folder}/runs"
        plain["training"] |= {"epochs": 2, "num_workers": options.workers, "verbose": False}
        rows = {
            "no cache": {"cache": False},
            "empty cache": {"cache": f"{folder}/cache"},
            "full cache": {"cache": f"{folder}/cache"},
            "full cache, read when needed": {"cache": f"{folder}/cache", "dynamic_loading": True},
        }
        found = {}
        for row, changes in rows.items():
            found[row], memory = in_child(measure, plain | {"dataset": plain["dataset"] | changes})
            results.add(seconds=row, MiB=memory, **found[row])
    full = found["full cache"]
    print(f"first step, no cache / full cache: {found['no cache']['first step'] / full['first step']:.1f}")
    print(f"first epoch / second, full cache: {full['epoch 1'] / full['epoch 2']:.2f}")
    results.write(options.output, _draw)


def _draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.bar([at + 0.2 * place for at in range(len(COLUMNS))], [row[column] for column in COLUMNS], 0.2,
                 label=row["seconds"])  # fmt: skip
    axes.set_xticks([at + 0.3 for at in range(len(COLUMNS))], COLUMNS)
    axes.set_ylabel("s")
    axes.legend()


if __name__ == "__main__":
    main()
