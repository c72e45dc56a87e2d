"""Structures and atoms a second in training, by batch size and precision, and the most memory that each takes.

    OMP_NUM_THREADS=2 python benchmarks/training.py

SchNet learns energies and forces of 64-atom silicon cells (5 Å, three interactions, 64 channels, as
manifests/mlearn_si_schnet.yaml has it), CGCNN a property of 5-atom perovskites (8 Å, 12 neighbours, three convolutions,
96 channels, as manifests/perov5_cgcnn.yaml). The structures are made up: what a step costs does not depend on labels.
A step is a batch from the loader, the loss, its gradient and the optimizer; the graphs are in memory. "SchNet tables"
is SchNet with training.tabulate, "SchNet tables compiled" with training.compile too. All batch sizes and precisions of
a network take turns; memory is that of a process of its own, its imports included.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import write
from loguru import logger

from harness import Results, arguments_of, in_child, in_turn, lines, median, nothing, spread
from made_up import perovskite, silicon
from steps import Training

COLUMNS = {"network": "s", "batch": "d", "ms a step": ".1f", "spread %": ".0f", "structures/s": ".1f", "atoms/s": ".0f",
           "MiB": ".0f"}  # fmt: skip


def manifest(network: str, data: Path, batch_size: int, precision: str) -> dict[str, Any]:
    """Return the manifest of a training."""
    if network.startswith("SchNet"):
        return {
            "workspace": {"seed": 1},
            "dataset": {"type": "ase", "path": str(data), "keys": {"energy": "energy_label", "forces": "force_label"}},
            "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 5.0, "species": ["Si"]}}},
            "model": {
                "name": "schnet",
                "architecture": "schnet",
                "options": {"hidden_channels": 64, "num_filters": 64, "num_interactions": 3, "num_gaussians": 50},
                "heads": [{"type": "energy", "reference_energies": "none", "scale": 1.0}],
                "precision": precision,
            },
            "training": {
                "loss": {"weights": {"energy": 1.0, "forces": 10.0}},
                "optimizer": {"name": "Adam", "learning_rate": 1e-4},
                "tabulate": "tables" in network,
                "compile": "compiled" in network,
                "batch_size": batch_size,
                "epochs": 1,
                "accelerator": "cpu",
            },
        }
    return {
        "workspace": {"seed": 1},
        "dataset": {"type": "ase", "path": str(data), "keys": {"energy": None, "forces": None}},
        "transforms": {"configuration": {"name": "CrystalGraph", "kwargs": {"cutoff": 8.0, "max_neighbors": 12}}},
        "model": {
            "name": "cgcnn",
            "architecture": "cgcnn",
            "options": {"hidden_channels": 96, "num_convolutions": 3},
            "heads": [{"type": "property", "target": "heat", "reference": "none"}],
            "precision": precision,
        },
        "training": {
            "optimizer": {"name": "Adam", "learning_rate": 1e-4},
            "batch_size": batch_size,
            "epochs": 1,
            "accelerator": "cpu",
        },
    }


MAKE = {"SchNet": silicon, "SchNet tables": silicon, "SchNet tables compiled": silicon, "CGCNN": perovskite}


def write_structures(network: str, count: int, folder: Path) -> Path:
    """Write what a network learns from, and return the file."""
    random = np.random.default_rng(0)
    path = folder / f"{network}.extxyz"
    write(path, [MAKE[network](random) for _ in range(count)])
    return path


def training_of(network: str, data: Path, batch_size: int, precision: str) -> Training:
    """Return a training that can take steps."""
    logger.remove()
    warnings.simplefilter("ignore")
    return Training(manifest(network, data, batch_size, precision), str(data.parent / "runs"))


def three_steps(*arguments: Any) -> None:
    """Train for what shows the most memory: the optimizer's state is there from the second step on."""
    training = training_of(*arguments)
    for _ in range(3):
        training.step()


def main() -> None:
    parser = arguments_of(__doc__, rounds=5)
    parser.add_argument("--networks", nargs="+", choices=list(MAKE), default=list(MAKE))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    parser.add_argument("--precisions", nargs="+", choices=["double", "single"], default=["double", "single"])
    options = parser.parse_args()
    results = Results("training", "Training: SchNet with forces on 64-atom Si, CGCNN on 5-atom crystals", COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        for network in options.networks:
            data = write_structures(network, 2 * max(options.batch_sizes), Path(name))
            atoms = len(MAKE[network](np.random.default_rng(0)))
            cases = [(precision, size) for precision in options.precisions for size in options.batch_sizes]
            trainings = {case: training_of(network, data, case[1], case[0]) for case in cases}
            times = in_turn({case: training.step for case, training in trainings.items()}, options.rounds)
            del trainings
            for (precision, size), seconds in times.items():
                _, memory = in_child(three_steps, network, data, size, precision)
                speed = size / median(seconds)
                found = {"ms a step": 1e3 * median(seconds), "spread %": spread(seconds), "structures/s": speed,
                         "atoms/s": atoms * speed, "MiB": memory}  # fmt: skip
                results.add(network=f"{network}, {precision}", batch=size, **found, seconds=seconds.tolist())
    print(f"a process that has only imported: {in_child(nothing)[1]:.0f} MiB")

    def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
        speeds, memories = figure.subplots(1, 2)
        lines(speeds, rows, "batch", "structures/s", "network")
        lines(memories, rows, "batch", "MiB", "network")

    results.write(options.output, draw)


if __name__ == "__main__":
    main()
