"""Seconds an epoch of several manifests, trained in turn, epoch by epoch; ratios to the first.

    OMP_NUM_THREADS=1 python benchmarks/epochs.py manifests/perov5_cgcnn.yaml manifests/perov5_alignn.yaml

Graphs are in memory before the clock starts. Runs on the same machine at the same time share its load: read the ratios.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from kimgnn.manifest import load_manifest
from kimgnn.training.trainer import GNNLightningTrainer


class Side:
    """A manifest's network, data and optimizer, and the seconds of its epochs."""

    def __init__(self, manifest: Path, folder: str) -> None:
        plain = load_manifest(manifest).to_dict()
        plain["workspace"] |= {"name": folder}
        plain["dataset"] |= {"dynamic_loading": False}
        trainer = GNNLightningTrainer(plain)
        self.module = trainer.pl_model
        self.loader = trainer.data_module.train_dataloader()
        self.optimizer = trainer.optimizer
        self.seconds: list[float] = []

    def train(self, epoch: int) -> None:
        """Train for an epoch, as Lightning would without its bookkeeping."""
        self.loader.sampler.set_epoch(epoch)
        self.module.potential.train()
        start = time.perf_counter()
        for batch in self.loader:
            loss = self.module.loss
            predicted = self.module(batch, forces=loss.uses("forces"), stress=loss.uses("stress"))
            self.optimizer.zero_grad()
            loss.terms(predicted, batch).mean().backward()
            self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--epochs", type=int, default=4, help="the first is not counted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {path.stem: Side(path, folder) for path in arguments.manifests}
        for epoch in range(arguments.epochs):
            for side in sides.values():
                side.train(epoch)
    print(f"{torch.get_num_threads()} threads; seconds an epoch, and over those of the first")
    first = np.array(next(iter(sides.values())).seconds[1:])
    for name, side in sides.items():
        seconds = np.array(side.seconds[1:])
        ratios = seconds / first
        print(f"{name:24}{np.median(seconds):8.2f}{np.median(ratios):8.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    main()
