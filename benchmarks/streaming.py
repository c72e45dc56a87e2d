"""Memory and speed of training on a cached set that is larger than what it may take up: 200,000 small graphs.

    nice python benchmarks/streaming.py --folder /tmp/streaming

Three processes, one after the other: one writes the structures (seeded; kept in the folder for the next call), one
fills the cache, and one trains for an epoch, as `kimgnn train` would, with its graphs read from the cache batch by
batch. Of the resident memory, pages of the file that the cache is mapped from are given back when others need memory;
what only ending the process frees is what the last column counts ("anonymous").
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import RESULTS, Results, bars

COLUMNS = {"process": "s", "seconds": ".0f", "structures/s": ".0f", "peak MiB": ".0f", "anonymous MiB": ".0f"}


def write_structures(path: Path, count: int) -> None:
    """Write cells of two to four atoms, of four elements, with a number that depends on their volume and elements."""
    random = np.random.default_rng(0)
    lengths = random.uniform(3.5, 5.5, (count, 3))
    sizes = random.integers(2, 5, count)
    elements = np.array(["Si", "Ge", "C", "Sn"])
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]])
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            chosen = random.integers(4, size=sizes[index])
            places = (corners[: sizes[index]] + random.normal(0, 0.02, (sizes[index], 3))) * lengths[index]
            gap = lengths[index].prod() / 100 + 0.1 * chosen.mean()
            a, b, c = lengths[index]
            file.write(
                f'{sizes[index]}\nLattice="{a:.6f} 0 0 0 {b:.6f} 0 0 0 {c:.6f}" pbc="T T T" '
                f"Properties=species:S:1:pos:R:3 gap={gap:.6f}\n"
            )
            for symbol, (x, y, z) in zip(elements[chosen], places, strict=True):
                file.write(f"{symbol} {x:.6f} {y:.6f} {z:.6f}\n")


def manifest(folder: Path, path: Path, batch_size: int) -> dict[str, Any]:
    """Return a manifest of a small CGCNN on the structures, whose graphs come from the cache."""
    return {
        "workspace": {"name": str(folder / "runs"), "seed": 0},
        "dataset": {"type": "ase", "path": str(path), "cache": str(folder / "cache"), "dynamic_loading": True},
        "transforms": {"configuration": {"name": "CrystalGraph", "kwargs": {"cutoff": 6.0, "max_neighbors": 12}}},
        "model": {
            "name": "streaming",
            "architecture": "cgcnn",
            "options": {"hidden_channels": 32, "num_convolutions": 2},
            "heads": [{"type": "property", "target": "gap"}],
            "precision": "single",
        },
        "training": {"batch_size": batch_size, "epochs": 1, "accelerator": "cpu"},
    }


def fill(folder: Path, path: Path, batch_size: int) -> dict[str, float]:
    """Read the structures, and make the graphs that the cache lacks."""
    trainer_of(folder, path, batch_size)
    return {}


def train(folder: Path, path: Path, batch_size: int) -> dict[str, float]:
    """Train for an epoch; return the seconds of it, without those of reading and of imports."""
    from kimgnn.training.lightning_run import fit

    trainer = trainer_of(folder, path, batch_size)
    start = time.perf_counter()
    fit(trainer.pl_trainer, trainer.pl_model, trainer.data_module, None)
    return {"seconds": time.perf_counter() - start}


def trainer_of(folder: Path, path: Path, batch_size: int) -> Any:
    from loguru import logger

    from kimgnn import GNNLightningTrainer

    logger.remove()
    warnings.simplefilter("ignore")
    return GNNLightningTrainer(manifest(folder, path, batch_size))


def measured(step: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Return the seconds of a step and the memory of its process, MiB, at its largest and at the end."""
    start = time.perf_counter()
    found = step(*arguments)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak, anonymous = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmHWM", "RssAnon"))
    return {"seconds": time.perf_counter() - start, "peak MiB": peak, "anonymous MiB": anonymous} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the structures, the cache and the run")
    parser.add_argument("--structures", type=int, default=200_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON and the picture")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"cells_{options.structures}.xyz"
    results = Results("streaming", f"Training on {options.structures} cached graphs", COLUMNS)
    if not path.is_file():
        unfinished = path.with_suffix(".part")
        write_structures(unfinished, options.structures)
        unfinished.rename(path)
    for name, step in (("fill the cache", fill), ("train an epoch", train)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(measured, (step, options.folder, path, options.batch_size))
        results.add(process=name, **found, **{"structures/s": options.structures / found["seconds"]})
    results.write(options.output, lambda figure, rows: bars(figure.subplots(), rows, "process", "peak MiB"))


if __name__ == "__main__":
    main()
