"""KLIFF's GNN tutorial, typed as its users type it: only the import of the trainer differs."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor, nn
from torch.nn import functional

from kimgnn import GNNLightningTrainer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")


class ShiftedSoftplus(nn.Module):
    """As in the tutorial, with a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.log(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x) - self.shift


class OneLayerSchNet(nn.Module):
    """The tutorial's kind of network: filters of Gaussians, one interaction, atomic energies summed by slot."""

    def __init__(self, width: int = 16, gaussians: int = 12, cutoff: float = 5.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, width)
        self.register_buffer("centres", torch.linspace(0.0, cutoff, gaussians))
        self.exponent = -0.5 * (gaussians / cutoff) ** 2
        self.filter = nn.Sequential(nn.Linear(gaussians, width), ShiftedSoftplus(), nn.Linear(width, width))
        self.atom = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), nn.Linear(width, width))
        self.output = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), nn.Linear(width, 1))

    def forward(self, z: Tensor, coords: Tensor, edge_index0: Tensor, contributions: Tensor) -> Tensor:
        source, target = edge_index0[0], edge_index0[1]
        distance = torch.norm(coords[source] - coords[target], dim=1)
        basis = torch.exp(self.exponent * torch.pow(distance.unsqueeze(-1) - self.centres, 2))
        x = self.embedding(z)
        gathered = torch.zeros(x.size(0), x.size(1), device=x.device)
        gathered.index_add_(0, target, self.atom(x[source]) * self.filter(basis))
        energies = self.output(x + gathered).squeeze(-1)
        slots = torch.zeros(int(contributions.max().item()) + 1, dtype=energies.dtype, device=energies.device)
        return slots.index_add_(0, contributions, energies)[::2]


@pytest.fixture
def default_double():
    """The tutorial sets it for the whole session."""
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


def write_kliff_xyz(path: Path, seed: int) -> None:
    """Write a structure as KLIFF's own extended XYZ: ``Energy`` in the comment, a column ``force``."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, rng=rng)
    cell = " ".join(map(str, atoms.cell.array.ravel()))
    rows = [
        f"{symbol} {' '.join(map(str, position))} {' '.join(map(str, rng.normal(size=3)))}"
        for symbol, position in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    ]
    comment = f'Lattice="{cell}" PBC="1 1 1" Properties=species:S:1:pos:R:3:force:R:3 Energy={-30.0 - rng.random()}'
    path.write_text("\n".join([str(len(atoms)), comment, *rows]) + "\n")


def manifest() -> dict[str, dict]:
    """The tutorial's dictionaries, word for word."""
    workspace = {"name": "GNN_train_example", "random_seed": 12345}
    dataset = {"type": "path", "path": "Si_training_set_4_configs", "shuffle": True}
    model = {"name": "SchNet1", "input_args": ["z", "coords", "edge_index0", "contributions"]}
    transforms = {"configuration": {"name": "RadialGraph", "kwargs": {"cutoff": 4.0, "species": ["Si"], "n_layers": 1}}}
    training = {
        "loss": {"function": "MSE", "weights": {"config": 1.0, "energy": 1.0, "forces": 10.0}},
        "optimizer": {"name": "Adam", "learning_rate": 1e-3},
        "training_dataset": {"train_size": 3},
        "validation_dataset": {"val_size": 1},
        "batch_size": 1,
        "epochs": 10,
    }
    export = {"model_path": "./", "model_name": "SchNet1__MO_000000000000_000"}
    return {
        "workspace": workspace,
        "model": model,
        "dataset": dataset,
        "transforms": transforms,
        "training": training,
        "export": export,
    }


NORMALIZED = [{"name": "energy", "energy": {"name": "NormalizedPropertyTransform", "kwargs": {}}}]


@pytest.mark.usefixtures("default_double")
@pytest.mark.parametrize("transforms", [None, NORMALIZED], ids=["as it is", "with a property transform"])
def test_tutorial_runs_unchanged(tmp_path, monkeypatch, transforms):
    """The manifest and a module for RadialGraph go through train() and save_kim_model() as they are.

    The exported module gives the energy that the trainer's prediction gives, under either of the driver's two species
    conventions; a property transform, which the tutorial mentions, is inverted in both.
    """
    monkeypatch.chdir(tmp_path)
    folder = Path("Si_training_set_4_configs")
    folder.mkdir()
    for seed in range(4):
        write_kliff_xyz(folder / f"Si_{seed}.xyz", seed)
    typed = manifest()
    if transforms:
        typed["transforms"]["property"] = transforms
    trainer = GNNLightningTrainer(typed, model=OneLayerSchNet())
    trainer.train()
    trainer.save_kim_model()

    exported = Path("SchNet1__MO_000000000000_000")
    assert {"model.pt", "kliff_graph.param", "CMakeLists.txt"} <= {path.name for path in exported.iterdir()}
    (configuration,) = trainer.splits["validation"]
    (prediction,) = trainer.predict([configuration])
    if transforms:
        assert abs(prediction.energy - configuration.energy) < 5.0  # in eV, about -30 eV
    graph = trainer.graph_of(configuration)
    module = torch.jit.load(exported / "model.pt")
    for species in (graph.z, torch.zeros_like(graph.z)):
        output = module(species, graph.coords, graph.edge_index0, graph.contributions)
        assert float(output.sum()) == pytest.approx(prediction.energy, abs=1e-9)


@pytest.mark.usefixtures("default_double")
def test_loss_is_kliffs(tmp_path, monkeypatch):
    """With squared errors and plain weights, the first step's loss is what KLIFF's own module computes, to 1e-12."""
    from kliff.trainer.lightning_trainer import LightningTrainer

    monkeypatch.chdir(tmp_path)
    folder = Path("Si_training_set_4_configs")
    folder.mkdir()
    for seed in range(4):
        write_kliff_xyz(folder / f"Si_{seed}.xyz", seed)
    network = OneLayerSchNet()
    trainer = GNNLightningTrainer(manifest() | {"training": manifest()["training"] | {"batch_size": 3}}, model=network)
    (batch,) = trainer.data_module.train_dataloader()
    stock = LightningTrainer(network, manifest()["model"]["input_args"], ema=False, forces_weight=10.0)
    monkeypatch.setattr(stock, "log", lambda *args, **kwargs: None)
    theirs = stock.training_step(batch.clone(), 0)["loss"]
    ours = trainer.pl_model.loss.terms(trainer.pl_model(batch), batch).mean()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-12)


@pytest.mark.usefixtures("default_double")
def test_tutorial_runs_on_its_own_data(tmp_path, monkeypatch, shared_data):
    """The four structures of the tutorial are read and trained on."""
    with tarfile.open(shared_data / "kliff" / "Si_training_set_4_configs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    short = manifest()
    short["training"]["epochs"] = 1
    trainer = GNNLightningTrainer(short, model=OneLayerSchNet())
    assert {len(configuration.species) for configuration in trainer.splits["train"]} == {64}
    trainer.train()
    assert np.isfinite(trainer.evaluate("validation")["forces_rmse"])
