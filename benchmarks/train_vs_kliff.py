"""Training steps a second: KLIFF's trainer on its staged graph beside ours on the periodic graph.

Same network with the same weights, same structures, same loss, one run on one machine:

    python benchmarks/train_vs_kliff.py --cutoff 4.0

Each trainer runs in a process of its own (KLIFF's needs `pytorch_lightning` alone, ours runs on `lightning`), one after
the other, in turns. Ours runs as it is, with tables in training steps (`training.tabulate`), and both in single
precision. Steps are timed from the end of one batch to the end of the next inside each trainer's own loop; the table
gives medians, of the time by the clock and of the processor's, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
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


def manifest_for(folder: Path, cutoff: float, batch: int) -> dict:
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
            "batch_size": batch,
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
    from kimgnn.models.build import build_network
    from kimgnn.models.network import NetworkSpec

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
        from kimgnn.nn.layer_edges import LayerEdges

        trunk = self.network.trunk
        x = trunk.embedding(z)
        for layer, interaction in enumerate(trunk.interactions):
            sender, receiver = edges[f"edge_index{len(trunk.interactions) - 1 - layer}"]
            distances = (coords[receiver] - coords[sender]).norm(dim=1)
            basis, envelope = trunk.basis(distances), trunk.envelope(distances)
            x = x + interaction(x, LayerEdges(sender, receiver, basis, envelope, len(z), None))
        atomic = self.network.heads["energy"](x, z)
        return atomic.new_zeros(int(contributions.max()) + 1).index_add(0, contributions, atomic)[::2]


def recorder(base: type) -> object:
    """Return a Lightning callback, of the Lightning that ``base`` belongs to, that notes losses and times."""

    class Recorder(base):
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.times: list[float] = []
            self.cpu_times: list[float] = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))
            self.times.append(time.perf_counter())
            self.cpu_times.append(time.process_time())

    return Recorder()


def run_kliff(folder: Path, cutoff: float, layers: int, batch: int) -> object:
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
    manifest = manifest_for(folder, cutoff, batch)
    manifest["transforms"]["configuration"]["name"] = "RadialGraph"
    manifest["transforms"]["configuration"]["kwargs"]["n_layers"] = layers
    edges = [f"edge_index{k}" for k in range(layers)]
    manifest["model"]["input_args"] = ["z", "coords", "contributions", *edges]
    trainer = GNNLightningTrainer(manifest, model=StagedSchNet(network))
    record = recorder(pytorch_lightning.Callback)
    trainer.pl_trainer.callbacks.append(record)
    trainer.train()
    return record


def run_kimgnn(
    folder: Path, cutoff: float, layers: int, batch: int, tabulate: bool = False, single: bool = False
) -> object:
    """Train with ours, as it is or with tables in training steps, in double or single precision."""
    import lightning.pytorch as pl

    from kimgnn import GNNLightningTrainer

    manifest = manifest_for(folder, cutoff, batch)
    manifest["transforms"]["configuration"]["name"] = "PeriodicGraph"
    manifest["model"] |= {
        "architecture": "schnet",
        "options": network_options(cutoff, layers),
        "heads": [{"type": "energy", "reference_energies": "none", "scale": 1.0}],
    }
    manifest["model"]["precision"] = "single" if single else "double"
    manifest["training"]["tabulate"] = tabulate
    trainer = GNNLightningTrainer(manifest)
    trainer.pl_model.potential.network.load_state_dict(build(cutoff, layers).state_dict())
    record = recorder(pl.Callback)
    trainer.pl_trainer.callbacks.append(record)
    trainer.train()
    return record


def median_step(times: list[float], steps: int) -> float:
    """Return the median step; the first epoch warms caches, and a step across two epochs holds checkpoints."""
    return float(np.median([np.diff(times[e * steps : (e + 1) * steps]) for e in range(1, EPOCHS)]))


SIDES = {
    "kliff": run_kliff,
    "kimgnn": run_kimgnn,
    "kimgnn tables": partial(run_kimgnn, tabulate=True),
    "kimgnn single": partial(run_kimgnn, single=True),
    "kimgnn tables single": partial(run_kimgnn, tabulate=True, single=True),
}
"""What is compared -> what runs it."""


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, in turns")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--batch", type=int, choices=(1, 2, 3, 4, 6), default=1, help="structures of a step")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        record = SIDES[options.side](options.folder, options.cutoff, options.layers, options.batch)
        step, cpu = (median_step(times, COPIES // options.batch) for times in (record.times, record.cpu_times))
        result = {"loss": record.losses[0], "step": step, "cpu": cpu}
        (options.folder / f"{options.side}.json").write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_structures(folder / "si.xyz")
        results = {}
        for side in [side for _ in range(options.rounds) for side in SIDES]:
            arguments = ["--side", side, "--folder", name, "--cutoff", str(options.cutoff)]
            arguments += ["--layers", str(options.layers), "--batch", str(options.batch)]
            command = [sys.executable, str(Path(__file__).resolve()), *arguments]
            subprocess.run(command, check=True, cwd=name, stdout=subprocess.DEVNULL)
            results.setdefault(side, []).append(json.loads((folder / f"{side}.json").read_text()))
    print(
        f"SchNet, {options.layers} interactions, {options.cutoff} Å, 64-atom Si, batch of {options.batch}, "
        f"{options.rounds} rounds; float64 but for 'single'; {torch.get_num_threads()} threads"
    )
    print(
        f"{'trainer':24}{'loss at step 1':>24}{'ms a step':>12}{'CPU ms':>10}{'steps/s':>10}{'ratio':>8}{'of CPU':>8}"
    )
    medians = {
        side: {key: float(np.median([row[key] for row in rows])) for key in ("step", "cpu")} | {"loss": rows[0]["loss"]}
        for side, rows in results.items()
    }
    for side, row in medians.items():
        ratio, of_cpu = (medians["kliff"][key] / row[key] for key in ("step", "cpu"))
        print(
            f"{side:24}{row['loss']:24.14f}{1e3 * row['step']:12.1f}{1e3 * row['cpu']:10.1f}"
            f"{1 / row['step']:10.2f}{ratio:8.1f}{of_cpu:8.1f}"
        )


if __name__ == "__main__":
    main()
