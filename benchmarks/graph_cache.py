"""What a cache saves: seconds to read structures, to make graphs, to the first step, and of the first two epochs.

    python benchmarks/graph_cache.py manifests/perov5_cgcnn.yaml

Every row is a process of its own, on one cache folder that is empty at first; its imports come before the clock starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """Measure a run without a cache, one that fills it, and one that finds it full; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data (training.num_workers)")
    options = parser.parse_args()
    from kimgnn.manifest import load_manifest

    with tempfile.TemporaryDirectory() as folder:
        plain = load_manifest(options.manifest).to_dict()
        plain["workspace"]["name"] = f"{folder}/runs"
        plain["training"] |= {"epochs": 2, "num_workers": options.workers, "verbose": False}
        rows = {
            "no cache": {"cache": False},
            "empty cache": {"cache": f"{folder}/cache"},
            "full cache": {"cache": f"{folder}/cache"},
            "full cache, graphs read when needed": {"cache": f"{folder}/cache", "dynamic_loading": True},
        }
        results = {}
        for row, changes in rows.items():
            manifest = plain | {"dataset": plain["dataset"] | changes}
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results[row] = pool.apply(measure, (manifest,))
    print(f"{'seconds':36s}" + "".join(f"{column:>12s}" for column in COLUMNS))
    for row, seconds in results.items():
        print(f"{row:36s}" + "".join(f"{seconds[column]:12.2f}" for column in COLUMNS))
    full = results["full cache"]
    print(f"first step, no cache / full cache: {results['no cache']['first step'] / full['first step']:.1f}")
    print(f"first epoch / second, full cache: {full['epoch 1'] / full['epoch 2']:.2f}")


if __name__ == "__main__":
    main()
