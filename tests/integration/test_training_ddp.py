"""Two processes on one machine train as one would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from silicon_run import silicon, tiny_manifest

SCRIPT = textwrap.dedent(
    """
    import json, sys
    from kimgnn import GNNLightningTrainer

    trainer = GNNLightningTrainer(json.load(open(sys.argv[1])))
    trainer.train()
    if trainer.pl_trainer.is_global_zero:
        print("METRICS", json.dumps({k: float(v) for k, v in trainer.pl_trainer.callback_metrics.items()}))
    """
)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def train(folder: Path, manifest: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Train in a process of its own, and return the weights and the metrics of the last epoch."""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "train.py").write_text(SCRIPT)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MASTER_PORT": str(free_port()),
    }
    done = subprocess.run(
        [sys.executable, "train.py", "manifest.json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").glob(f"{manifest['model']['name']}_*")  # one directory, whatever the number of processes
    (line,) = [line for line in done.stdout.splitlines() if "METRICS" in line]
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state, json.loads(line.split("METRICS")[1])


def test_two_processes_give_the_gradients_of_one(tmp_path):
    """With the same global batches, weights after SGD steps agree to 1e-10, though the processes' shares differ.

    The shares differ in atoms (2 or 8 a structure) and in labels (some forces and stresses are missing), so averages of
    the processes' own means would not do. Gradients are exact up to the order of a sum.
    """
    changes = {
        "training.loss.weights": {"energy": 1.0, "forces": 2.0, "stress": 5.0},
        "training.optimizer": {"name": "SGD", "learning_rate": 1e-3},
        "training.training_dataset.train_size": 8,
        "training.validation_dataset.val_size": 3,
        "training.test_dataset": None,
        "training.epochs": 2,
    }
    frames = silicon()
    for index in (1, 4, 5):
        kept = ("energy", "stress") if index == 4 else ("energy",)
        results = {name: frames[index].calc.results[name] for name in kept}
        frames[index].calc = SinglePointCalculator(frames[index], **results)
    ase.io.write(tmp_path / "silicon.xyz", frames, format="extxyz")

    one = tiny_manifest(tmp_path, changes | {"model.name": "one", "training.batch_size": 4})
    two = tiny_manifest(tmp_path, changes | {"model.name": "two", "training.batch_size": 2, "training.devices": 2})
    weights_of_one, metrics_of_one = train(tmp_path, one)
    weights_of_two, metrics_of_two = train(tmp_path, two)
    for name, tensor in weights_of_one.items():
        torch.testing.assert_close(weights_of_two[name], tensor, rtol=0, atol=1e-10)
    assert metrics_of_one.keys() == metrics_of_two.keys()
    for name, value in metrics_of_one.items():
        assert abs(metrics_of_two[name] - value) <= 1e-9 * max(1.0, abs(value)), name
