"""Our graphs in KLIFF's own trainer, which knows nothing of us."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
sys.modules["lightning"] = sys.modules["lightning.pytorch"] = None  # PyG's loaders refuse KLIFF's trainer beside it
import numpy as np
import torch
import torch_geometric
scatter = type(sys)("torch_scatter")
scatter.scatter_add = lambda src, index, dim=0: src.new_zeros(int(index.max()) + 1, 3).index_add(dim, index, src)
sys.modules.setdefault("torch_scatter", scatter)
from ase.build import bulk
from ase.io import write
import kliff.transforms.configuration_transforms as kliff_transforms
from kliff.trainer.lightning_trainer import GNNLightningTrainer
from kimgnn.transforms.periodic_graph import PeriodicGraph

kliff_transforms.PeriodicGraph = PeriodicGraph
torch.set_default_dtype(torch.double)
frames = [bulk("Si", cubic=True) for _ in range(3)]
for seed, atoms in enumerate(frames):
    atoms.rattle(0.1, seed=seed)
    atoms.info["Energy"], atoms.arrays["force"] = -30.0, np.zeros((8, 3))
write("si.xyz", frames, format="extxyz")


class Pairs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, coords, edge_index0, shifts, contributions):
        vectors = coords[edge_index0[1]] - coords[edge_index0[0]] + shifts
        pairs = self.strength * torch.exp(-vectors.square().sum(1))
        total = pairs.new_zeros(int(contributions.max()) + 1)
        return total.index_add(0, contributions[edge_index0[1]], pairs)[::2]


manifest = {
    "workspace": {"name": "runs", "seed": 1},
    "dataset": {"type": "ase", "path": "si.xyz", "keys": {"energy": "Energy", "forces": "force"}},
    "model": {"name": "pairs", "input_args": ["coords", "edge_index0", "shifts", "contributions"]},
    "transforms": {"configuration": {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
    "training": {
        "loss": {"weights": {"energy": 1.0, "forces": 1.0}},
        "optimizer": {"name": "SGD", "learning_rate": 1e-4},
        "batch_size": 3, "epochs": 2, "strategy": "auto", "accelerator": "cpu",
    },
}
trainer = GNNLightningTrainer(manifest, model=Pairs())
trainer.train()
assert trainer.model.strength.item() != -1.0
print("trained", trainer.pl_trainer.callback_metrics["train_loss"].item())
"""


def test_periodic_graph_trains_in_kliffs_own_trainer(tmp_path: Path):
    """KLIFF's trainer takes PeriodicGraph by name, batches its graphs and trains on their energies and forces."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained" in done.stdout
