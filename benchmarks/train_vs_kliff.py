"""Training steps a second: KLIFF's trainer on its staged graph beside ours on the periodic graph.

Same network with the same weights, same structures, same loss, one run on one machine:

    python benchmarks/train_vs_kliff.py --cutoff 4.0

Each trainer runs in a process of its own (KLIFF's needs `pytorch_lightning` alone, ours runs on `lightning`), one after
the other. Steps are timed from the end of one batch to the end of the next inside each trainer's own loop; the table
gives medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk
from ase.io import write

COPIES = 12
EPOCHS = 3


def make_structures(path: Path) -> None:
    """Write copies of one rattled 64-atom silicon cell: whatever the order, every step sees the same structure."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    rng = np.random.default_rng(0)
    atoms.info["Energy"] = -280.0
    atoms.arrays["force"] = rng.normal(size=(len(atoms), 3))
    write(path, [atoms] * COPIES, format="extxyz")


def manifest_for(folder: Path, cutoff: float) -> dict:
    """Return the manifest that both trainers read; only transform and model differ."""
    return {
        "workspace": {"name": str(folder / "runs"), "seed": 1, "resume": False},
        "dataset": {"type": "ase", "path": str(folder / "si.xyz"), "keys": {"energy": "Energy", "forces": "force"}},
        "model": {"name": "bench"},
        "transforms": {"configuration": {"name": "", "kwargs": {"cutoff": cutoff, "species": ["Si"]}}},
        "training": {
            "loss": {"function": "mse", "weights": {"config": 1.0, "energy": 1.0, "forces": 10.0}},
            "optimizer": {"name": "Adam", "learning_rate": 1e-4},
            "training_dataset": {"train_size": COPIES},
            "batch_size": 1,
            "epochs": EPOCHS,
            "strategy": "auto",
            "accelerator": "cpu",
        },
        "export": {},
    }


def network_options(cutoff: float, layers: int) -> dict:
    """Return SchNet's options: 128 channels, 50 Gaussians."""
    return {"cutoff": cutoff, "num_interactions": layers}


def build(cutoff: float, layers: int):
    """Return the network that both sides train, in double precision, with seeded weights."""
    from kimgnn.models.network import NetworkSpec, build_network

    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    return build_network(NetworkSpec("schnet", network_options(cutoff, layers), [head], ["Si"]))


class StagedSchNet(torch.nn.Module):
    """The same network written for KLIFF's RadialGraph: one edge list a layer, all nodes in every layer."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z, coords, contributions, **edges):
        """Return one energy a graph."""
        trunk = self.network.trunk
        x = trunk.embedding(z)
        for layer, interaction in enumerate(trunk.interactions):
            sender, receiver = edges[f"edge_index{len(trunk.interactions) - 1 - layer}"]
            distances = (coords[receiver] - coords[sender]).norm(dim=1)
            x = x + interaction(x, sender, receiver, trunk.basis(distances), trunk.envelope(distances), len(z), None)
        atomic = self.network.heads["energy"](x, z)
        return atomic.new_zeros(int(contributions.max()) + 1).index_add(0, contributions, atomic)[::2]


def recorder(base: type) -> object:
    """Return a Lightning callback, of the Lightning that ``base`` belongs to, that notes losses and times."""

    class Recorder(base):
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.times: list[float] = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))
            self.times.append(time.perf_counter())

    return Recorder()


def run_kliff(folder: Path, cutoff: float, layers: int) -> object:
    """Train with KLIFF's own trainer, untouched."""
    # With `lightning` there too, PyG's data module refuses KLIFF's trainer: hide it from this process.
    sys.modules["lightning"] = None
    sys.modules["lightning.pytorch"] = None
    import torch_geometric  # noqa: F401  (before the stand-in, so that PyG does not take it for the real one)

    stand_in = type(sys)("torch_scatter")
    stand_in.scatter_add = lambda src, index, dim=0: src.new_zeros(int(index.max()) + 1, *src.shape[1:]).index_add(
        dim, index, src
    )
    sys.modules.setdefault("torch_scatter", stand_in)
    import pytorch_lightning
    from kliff.trainer.lightning_trainer import GNNLightningTrainer

    # Before the default precision changes: it would draw other weights.
    network = build(cutoff, layers)
    torch.set_default_dtype(torch.double)
    manifest = manifest_for(folder, cutoff)
    manifest["transforms"]["configuration"]["name"] = "RadialGraph"
    manifest["transforms"]["configuration"]["kwargs"]["n_layers"] = layers
    edges = [f"edge_index{k}" for k in range(layers)]
    manifest["model"]["input_args"] = ["z", "coords", "contributions", *edges]
    trainer = GNNLightningTrainer(manifest, model=StagedSchNet(network))
    record = recorder(pytorch_lightning.Callback)
    trainer.pl_trainer.callbacks.append(record)
    trainer.train()
    return record


def run_kimgnn(folder: Path, cutoff: float, layers: int) -> object:
    """Train with ours."""
    import lightning.pytorch as pl

    from kimgnn import GNNLightningTrainer

    manifest = manifest_for(folder, cutoff)
    manifest["transforms"]["configuration"]["name"] = "PeriodicGraph"
    manifest["model"] |= {
        "architecture": "schnet",
        "options": network_options(cutoff, layers),
        "heads": [{"type": "energy", "reference_energies": "none", "scale": 1.0}],
    }
    trainer = GNNLightningTrainer(manifest)
    trainer.pl_model.potential.network.load_state_dict(build(cutoff, layers).state_dict())
    record = recorder(pl.Callback)
    trainer.pl_trainer.callbacks.append(record)
    trainer.train()
    return record


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--side", choices=["kliff", "kimgnn"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        record = {"kliff": run_kliff, "kimgnn": run_kimgnn}[options.side](
            options.folder, options.cutoff, options.layers
        )
        # The first epoch warms caches; a step across two epochs holds checkpoints, not training.
        steps = [np.diff(record.times[e * COPIES : (e + 1) * COPIES]) for e in range(1, EPOCHS)]
        result = {"loss": record.losses[0], "step": float(np.median(np.concatenate(steps)))}
        (options.folder / f"{options.side}.json").write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_structures(folder / "si.xyz")
        results = {}
        for side in ("kliff", "kimgnn"):
            arguments = ["--side", side, "--folder", name, "--cutoff", str(options.cutoff)]
            command = [sys.executable, __file__, *arguments, "--layers", str(options.layers)]
            subprocess.run(command, check=True, cwd=name, stdout=subprocess.DEVNULL)
            results[side] = json.loads((folder / f"{side}.json").read_text())
    print(f"SchNet, {options.layers} interactions, {options.cutoff} Å, 64-atom Si, float64, batch of one")
    print(f"{'trainer':10}{'loss at step 1':>24}{'ms a step':>12}{'steps/s':>10}")
    for side, row in results.items():
        print(f"{side:10}{row['loss']:24.14f}{1e3 * row['step']:12.1f}{1 / row['step']:10.2f}")
    ratio = results["kliff"]["step"] / results["kimgnn"]["step"]
    difference = abs(results["kliff"]["loss"] - results["kimgnn"]["loss"])
    print(f"ratio {ratio:.1f}, losses differ by {difference:.1e}")


if __name__ == "__main__":
    main()
