"""Training steps of SchNet in KLIFF's trainer on its staged graph, beside ours on the periodic graph.

Same network with the same weights, same structures, same loss, one run on one machine:

    python benchmarks/train_vs_kliff.py --cutoff 4.0

Each trainer runs in processes of its own (KLIFF's needs `pytorch_lightning` alone, ours runs on `lightning`), one after
the other, round after round. Ours runs as it is, with tables in training steps (`training.tabulate`), with these and
compiled (`training.compile`), and all in single precision, which KLIFF refuses: its double precision stands beside
these too. Steps are timed from the end of one batch to the end of the next inside each trainer's own loop. Memory is
that of the training process; KLIFF's has a worker besides, which it cannot go without, and which is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase.io import write

from harness import BESIDE, Results, arguments_of, bars_beside, peak_mib, with_clock
from made_up import schnet, silicon

EPOCHS = 3


def steps_of(batch: int) -> int:
    """Return the steps of an epoch: the first of each is not counted."""
    return max(4, 12 // batch)


def make_structures(path: Path, batch: int) -> None:
    """Write copies of one rattled 64-atom silicon cell: whatever the order, every step sees the same structures."""
    write(path, [silicon(np.random.default_rng(0))] * (batch * steps_of(batch)), format="extxyz")


def manifest_for(folder: Path, cutoff: float, batch: int) -> dict:
    """Return the manifest that both trainers read; only transform and model differ."""
    keys = {"energy": "energy_label", "forces": "force_label"}
    return {
        "workspace": {"name": str(folder / "runs"), "seed": 1, "resume": False},
        "dataset": {"type": "ase", "path": str(folder / "si.xyz"), "keys": keys},
        "model": {"name": "bench"},
        "transforms": {"configuration": {"name": "", "kwargs": {"cutoff": cutoff, "species": ["Si"]}}},
        "training": {
            "loss": {"function": "mse", "weights": {"config": 1.0, "energy": 1.0, "forces": 10.0}},
            "optimizer": {"name": "Adam", "learning_rate": 1e-4},
            "training_dataset": {"train_size": batch * steps_of(batch)},
            "batch_size": batch,
            "epochs": EPOCHS,
            "strategy": "auto",
            "accelerator": "cpu",
        },
        "export": {},
    }


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
            self.times: dict[str, list[float]] = {"wall": [], "cpu": []}

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))
            self.times["wall"].append(time.perf_counter())
            self.times["cpu"].append(time.process_time())

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
    network = schnet(cutoff, layers=layers)
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
    folder: Path, cutoff: float, layers: int, batch: int, choices: dict[str, bool], precision: str
) -> object:
    """Train with ours."""
    import lightning.pytorch as pl

    from kimgnn import GNNLightningTrainer

    manifest = manifest_for(folder, cutoff, batch)
    manifest["transforms"]["configuration"]["name"] = "PeriodicGraph"
    manifest["model"] |= {
        "architecture": "schnet",
        "options": {"cutoff": cutoff, "num_interactions": layers},
        "heads": [{"type": "energy", "reference_energies": "none", "scale": 1.0}],
        "precision": precision,
    }
    manifest["training"] |= choices
    trainer = GNNLightningTrainer(manifest)
    trainer.pl_model.potential.network.load_state_dict(schnet(cutoff, layers=layers).state_dict())
    record = recorder(pl.Callback)
    trainer.pl_trainer.callbacks.append(record)
    trainer.train()
    return record


def median_step(times: list[float], steps: int) -> float:
    """Return the median step; the first epoch warms caches, and a step across two epochs holds checkpoints."""
    return float(np.median([np.diff(times[e * steps : (e + 1) * steps]) for e in range(1, EPOCHS)]))


KLIFF = "KLIFF's trainer, double"
OURS = {
    "kimgnn's trainer": {},
    "kimgnn's trainer, tables": {"tabulate": True},
    "kimgnn's trainer, compiled": {"compile": True},
    "kimgnn's trainer, tables, compiled": {"tabulate": True, "compile": True},
}
"""Name -> the choices of the block `training`."""

LOSSES = {"double": 1e-9, "single": 1e-4}
"""How far apart losses at the first step may be, of the loss."""

SIDES = {KLIFF: run_kliff} | {
    f"{name}, {precision}": partial(run_kimgnn, choices=choices, precision=precision)
    for precision in LOSSES
    for name, choices in OURS.items()
}
"""What is compared -> what runs it."""


def run_side(options: argparse.Namespace) -> None:
    """Run one side in this process, and write what is found into the folder."""
    record = SIDES[options.side](options.folder, options.cutoff, options.layers, options.batch)
    steps = {clock: median_step(times, steps_of(options.batch)) for clock, times in record.times.items()}
    found = {"loss": record.losses[0], "MiB": peak_mib()} | steps
    (options.folder / "side.json").write_text(json.dumps(found), encoding="utf-8")


def measure(
    results: Results, precisions: Sequence[str], batch: int, cutoff: float, rounds: int, clock: str, layers: int = 3
) -> None:
    """Add rows of a batch size."""
    sides = [KLIFF, *(f"{name}, {precision}" for precision in precisions for name in OURS)]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_structures(folder / "si.xyz", batch)
        given = {"folder": folder, "cutoff": cutoff, "layers": layers, "batch": batch}
        arguments = [text for key, value in given.items() for text in (f"--{key}", str(value))]
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        for _ in range(rounds):
            for side in sides:
                done = subprocess.run([*command, "--side", side], cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{side}:\n{done.stderr}")
                found[side].append(json.loads((folder / "side.json").read_text(encoding="utf-8")))
    for precision in precisions:
        names = {name: f"{name}, {precision}" for name in OURS} | {KLIFF: KLIFF}
        losses = {name: found[side][0]["loss"] for name, side in names.items()}
        worst = max(abs(loss / losses[KLIFF] - 1) for loss in losses.values())
        print(f"losses at the first step differ by {worst:.0e} of {losses[KLIFF]:.8g}")
        if not worst < LOSSES[precision]:
            raise SystemExit(f"not the same network: losses {losses}")
        times = {name: np.array([row[clock] for row in found[side]]) for name, side in names.items()}
        memory = {name: max(row["MiB"] for row in found[side]) for name, side in names.items()}
        results.add_beside(times, memory, what="trainer's step", precision=precision, batch=batch)


def main() -> None:
    """Run both sides and print the table."""
    parser = with_clock(arguments_of(__doc__, rounds=3))
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--batch", type=int, default=1, help="structures of a step")
    parser.add_argument("--precisions", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options)
        return
    title = f"A trainer's step of SchNet, {options.layers} interactions, {options.cutoff} Å, 64-atom Si"
    results = Results("train_vs_kliff", title, BESIDE)
    measure(results, options.precisions, options.batch, options.cutoff, options.rounds, options.clock, options.layers)
    results.write(options.output, bars_beside)


if __name__ == "__main__":
    main()
