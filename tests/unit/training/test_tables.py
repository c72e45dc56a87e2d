"""Tables in training steps: the same loss and the same gradients, and nothing that stays."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from kliff.dataset import Configuration

from kimgnn.errors import ManifestError, TrainingError
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.training.losses import Loss
from kimgnn.training.tables import StepTables
from kimgnn.transforms.collate import collate
from kimgnn.transforms.periodic_graph import PeriodicGraph

LOSS = Loss("mse", weights={"energy": 1.0, "forces": 10.0, "stress": 100.0})
SCHNET = {"cutoff": 5.0, "hidden_channels": 16, "num_filters": 12, "num_interactions": 2, "num_gaussians": 12}
CGCNN = {
    "cutoff": 5.0,
    "hidden_channels": 12,
    "num_gaussians": 12,
    "cutoff_function": "cosine",
    "normalization": "none",
}


def potential(architecture: str = "schnet", precision: str = "double", **options: object) -> Potential:
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": "none", "scale": 1.0}
    given = {"schnet": SCHNET, "cgcnn": CGCNN, "gat": CGCNN}.get(architecture, {"cutoff": 5.0})
    spec = NetworkSpec(architecture, given | options, [head], ["Si", "C"], precision)
    return Potential(build_network(spec)).train()


def batch(seed: int = 0, n_atoms: int = 8, box: float = 5.4) -> object:
    """Return two labelled random crystals in skewed cells."""
    rng = np.random.default_rng(seed)
    graphs = []
    for _ in range(2):
        cell = box * np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3))
        grid = np.stack(np.meshgrid([0, 0.5], [0, 0.5], [0, 0.5]), axis=-1).reshape(-1, 3)[:n_atoms]
        atoms = Atoms(rng.choice(["Si", "C"], len(grid)), scaled_positions=grid, cell=cell, pbc=True)
        atoms.rattle(0.2, rng=rng)
        labels = (rng.normal(), rng.normal(size=(len(atoms), 3)), rng.normal(size=6))
        graphs.append(
            PeriodicGraph(5.0, ["Si", "C"])(
                Configuration(cell, atoms.get_chemical_symbols(), atoms.positions, [True] * 3, *labels)
            )
        )
    return collate(graphs)


def step(potential: Potential, graph: object, tables: StepTables | None = None) -> tuple[float, list[torch.Tensor]]:
    """Return the loss and its gradients by the weights that it depends on."""
    potential.zero_grad()
    if tables is None:
        loss = LOSS.terms(potential(graph), graph).mean()
    else:
        with tables.in_place():
            loss = LOSS.terms(potential(graph), graph).mean()
    loss.backward(inputs=list(potential.parameters()))
    return loss.item(), [parameter.grad.clone() for parameter in potential.parameters() if parameter.grad is not None]


def largest_difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest difference, of the largest gradient."""
    pairs = zip(found, expected, strict=True)
    return float(max((a - b).abs().max() for a, b in pairs) / max(b.abs().max() for b in expected))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), box=st.floats(4.6, 6.5), envelope=st.sampled_from(["cosine", "polynomial"]))
def test_same_loss_and_gradients(seed: int, box: float, envelope: str) -> None:
    """With tables, to the splines' error; and by pairs instead of edges, to rounding."""
    exact, graph = potential(cutoff_function=envelope), batch(seed, box=box)
    loss, gradients = step(exact, graph)
    tables = StepTables(exact.network)
    with_tables, found = step(exact, graph, tables)
    # Eight intervals in a Gaussian's width leave 1e-8 of values and 1e-7 of slopes, which forces square.
    assert with_tables == pytest.approx(loss, rel=1e-6)
    assert 0 < largest_difference(found, gradients) < 1e-6  # not 0: the tables were used
    exact.network.eval()  # by edges, and torch's own derivatives
    by_edges, expected = step(exact, graph)
    assert loss == pytest.approx(by_edges, rel=1e-12)
    assert largest_difference(gradients, expected) < 1e-12


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("schnet", {"shared_interactions": True}), ("schnet", {"gaussian_width": 0.8}), ("cgcnn", {}), ("gat", {})],
)
def test_other_layers(architecture: str, options: dict[str, object]) -> None:
    """One layer used twice, wide Gaussians, and the other architectures that have maps of distances."""
    exact, graph = potential(architecture, **options), batch()
    loss, gradients = step(exact, graph)
    with_tables, found = step(exact, graph, StepTables(exact.network))
    assert with_tables == pytest.approx(loss, rel=1e-6)
    assert 0 < largest_difference(found, gradients) < 1e-6


def test_heads_with_layers_of_their_own() -> None:
    """Two trunks that share their first layer."""
    torch.manual_seed(0)
    heads = [
        {"type": "energy", "reference_energies": "none", "scale": 1.0},
        {"type": "property", "target": "gap", "reference": "none", "mean": [0.0], "spread": [1.0]},
    ]
    exact = Potential(build_network(NetworkSpec("schnet", SCHNET, heads, ["Si", "C"], split_depth=1))).train()
    graph, tables, found = batch(), StepTables(exact.network), []
    for context in (nullcontext(), tables.in_place()):
        with context:
            predicted = exact(graph)
        (predicted["forces"].square().sum() + predicted["gap"].sum()).backward(inputs=list(exact.parameters()))
        found.append([parameter.grad.clone() for parameter in exact.parameters() if parameter.grad is not None])
        exact.zero_grad()
    assert 0 < largest_difference(*found) < 1e-6


def test_single_precision() -> None:
    """Sums of float32 leave 1e-6 with and without tables; those of fewer sites add less than ten times that."""
    exact, graph = potential(precision="single"), batch()
    loss, gradients = step(exact, graph)
    with_tables, found = step(exact, graph, StepTables(exact.network))
    assert with_tables == pytest.approx(loss, rel=1e-5)
    assert largest_difference(found, gradients) < 1e-5


def test_few_pairs_are_computed_without() -> None:
    """Where there are fewer distances than sites, the step is the network's, bit by bit."""
    exact = potential(num_gaussians=60)
    graph = batch(n_atoms=1)
    assert step(exact, graph, StepTables(exact.network))[0] == step(exact, graph)[0]


def test_nothing_stays() -> None:
    """Weights have their names during a step, and the network is itself after one, also after one that failed."""
    exact = potential()
    names, modules = list(exact.state_dict()), list(exact.modules())
    tables = StepTables(exact.network)
    with pytest.raises(RuntimeError, match="stop"), tables.in_place():
        raise RuntimeError("stop")
    assert list(exact.state_dict()) == names
    assert list(exact.modules()) == modules


@pytest.mark.parametrize("precision", ["double", "single"])
def test_errors(precision: str) -> None:
    """They are measured between the sites, fall with more of them, and are refused where they are large."""
    tables = StepTables(potential(precision=precision).network)
    errors = tables.errors()
    tables.check(errors)
    assert 0 < errors["value"] < errors["slope"]
    tables.intervals //= 4
    coarse = tables.errors()
    assert coarse["value"] > 100 * errors["value"]
    with pytest.raises(TrainingError, match="training.tabulate"):
        tables.check(coarse)
    with pytest.raises(TrainingError, match="training.tabulate"):
        tables.check({"value": float("nan")})


def test_networks_without_maps_of_distances_are_refused() -> None:
    """MEGNet's layers see more of an edge than its length; of a module from elsewhere nothing is known."""
    for network in (potential("megnet").network, torch.nn.Linear(2, 2)):
        with pytest.raises(ManifestError, match="training.tabulate"):
            StepTables(network)
