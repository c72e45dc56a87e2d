"""Compiled training steps, as torch writes them down: the same loss and gradients, whatever the sizes of a batch.

What the compiler makes of that is tested by `tests/integration/test_training_compiled.py`: it takes minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from kliff.dataset import Configuration
from torch._inductor import config

from kimgnn.errors import ManifestError, TrainingError
from kimgnn.models.build import build_network
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import CoordinatePotential, Potential
from kimgnn.training import compiled_step
from kimgnn.training.compiled_step import CompiledStep
from kimgnn.training.losses import Loss
from kimgnn.training.tables import StepTables
from kimgnn.transforms.collate import collate
from kimgnn.transforms.periodic_graph import PeriodicGraph

SCHNET = {"cutoff": 5.0, "hidden_channels": 16, "num_filters": 12, "num_interactions": 1, "num_gaussians": 12}
HEAD = {"type": "energy", "reference_energies": {"Si": -1.0, "C": 2.0}, "scale": 0.7}
WEIGHTS = {"energy": 1.0, "forces": 10.0, "stress": 100.0}
SIZES = [(2, 8, 5.4), (3, 5, 5.0), (2, 7, 6.3), (4, 8, 4.8), (2, 1, 3.0)]
"""Structures, atoms of each, and Å: batches whose sizes all differ."""


@pytest.fixture(autouse=True)
def _without_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what was written down, operation by operation."""
    monkeypatch.setattr(compiled_step, "standalone_compile", lambda graph, inputs, options: graph)


def potential(precision: str = "double", heads: list[dict[str, Any]] | None = None, **options: object) -> Potential:
    torch.manual_seed(0)
    spec = NetworkSpec("schnet", SCHNET | options, heads or [HEAD], ["Si", "C"], precision)
    return Potential(build_network(spec)).train()


def structure(rng: np.random.Generator, n_atoms: int, box: float, missing: bool = False) -> Configuration:
    """Return a labelled random crystal in a skewed cell."""
    cell = box * np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3))
    grid = np.stack(np.meshgrid([0, 0.5], [0, 0.5], [0, 0.5]), axis=-1).reshape(-1, 3)[:n_atoms]
    atoms = Atoms(rng.choice(["Si", "C"], len(grid)), scaled_positions=grid, cell=cell, pbc=True)
    atoms.rattle(0.2, rng=rng)
    stress = None if missing else rng.normal(size=6)
    labels = (rng.normal(), rng.normal(size=(len(atoms), 3)), stress)
    return Configuration(cell, atoms.get_chemical_symbols(), atoms.positions, [True] * 3, *labels)


def batch(n_graphs: int, n_atoms: int, box: float, seed: int = 0) -> Any:
    """Return structures, the last of several without stress."""
    rng, transform = np.random.default_rng(seed), PeriodicGraph(5.0, ["Si", "C"])
    missing = [0 < k == n_graphs - 1 for k in range(n_graphs)]
    return collate([transform(structure(rng, n_atoms, box, none)) for none in missing])


def eager(potential: Potential, loss: Loss, graph: Any, tables: StepTables | None) -> tuple[torch.Tensor, Any]:
    with tables.in_place() if tables else nullcontext():
        predicted = potential(graph, forces=loss.uses("forces"), stress=loss.uses("stress"))
    return loss.terms(predicted, graph).mean(), predicted


def gradients(potential: Potential, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradient by each weight, zero where there is none."""
    potential.zero_grad()
    loss.backward(inputs=list(potential.parameters()))
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in potential.named_parameters()
    }


def assert_same(
    potential: Potential, loss: Loss, compiled: CompiledStep, tables: StepTables | None, graph: Any, tolerance: float
) -> None:
    """Compare loss, its terms, predictions and gradients of a batch."""
    step = compiled(graph)
    assert step is not None
    expected, predicted = eager(potential, loss, graph, tables)
    terms = loss.terms(predicted, graph)
    torch.testing.assert_close(step.loss, expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(step.terms.sums, terms.sums, rtol=tolerance, atol=0)
    assert torch.equal(step.terms.counts, terms.counts)
    for name, value in step.predicted.items():
        scale = float(predicted[name].detach().nan_to_num().abs().max())
        torch.testing.assert_close(value, predicted[name], rtol=0, atol=tolerance * scale, equal_nan=True)
    wanted, found = gradients(potential, expected), gradients(potential, step.loss)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=0, atol=tolerance * largest, msg=name)


@pytest.mark.parametrize(
    ("function", "weights", "tabulated", "options"),
    [
        ("mse", WEIGHTS, False, {}),
        ("huber", WEIGHTS, True, {"num_interactions": 2, "shared_interactions": True}),
        ("mae", {"energy": 1.0}, False, {"cutoff_function": "polynomial"}),
        ("mse", {"forces": 1.0}, True, {}),
    ],
)
def test_same_step(function: str, weights: Mapping[str, float], tabulated: bool, options: dict[str, Any]) -> None:
    """Written down once, it holds for batches of all sizes, and for weights that have changed since.

    Sums run in another order: of some thousand terms, 1e-10 leaves room for what cancels in a squared error.
    """
    exact = potential(**options)
    loss = Loss(function, weights=weights, normalize_per_atom=function == "huber", scales={"forces": 0.3})
    tables = StepTables(exact.network) if tabulated else None
    compiled = CompiledStep(exact, loss, tables, several=True)
    for seed, sizes in enumerate(SIZES[:4]):
        assert_same(exact, loss, compiled, tables, batch(*sizes, seed), 1e-10)
        with torch.no_grad():
            for weight in exact.parameters():
                weight *= 1.1


def test_single_precision_and_single_structures() -> None:
    """Forces of single precision carry 1e-6, and their squares' gradients some ten times that.

    The gradient of twice the loss is twice the gradient, and names of weights are the network's own.
    """
    exact, loss = potential("single"), Loss("mse", weights=WEIGHTS)
    names, modules = list(exact.state_dict()), list(exact.modules())
    tables = StepTables(exact.network)
    compiled = CompiledStep(exact, loss, tables, several=False)
    for seed, (_, *sizes) in enumerate(SIZES[:4]):
        assert_same(exact, loss, compiled, tables, batch(1, *sizes, seed), 1e-4)
    graph = batch(1, *SIZES[0][1:])
    once = gradients(exact, compiled(graph).loss)
    twice = gradients(exact, 2.0 * compiled(graph).loss)
    assert all(torch.equal(twice[name], 2.0 * gradient) for name, gradient in once.items())
    assert list(exact.state_dict()) == names
    assert list(exact.modules()) == modules
    assert deepcopy(compiled) is compiled  # averaging makes a copy of what trains


def test_batches_that_are_not_compiled_for() -> None:
    """A single structure among several; atoms without a neighbour; too few pairs for tables. Others still are."""
    exact, loss = potential(num_gaussians=60), Loss("mse", weights=WEIGHTS)
    compiled = CompiledStep(exact, loss, None, several=True)
    lonely = batch(2, 1, 20.0)
    for given in (lonely, batch(*SIZES[0]), lonely, batch(1, *SIZES[0][1:])):
        assert (compiled(given) is not None) == (given.num_graphs > 1 and given.num_edges > 0)
    assert CompiledStep(exact, loss, StepTables(exact.network), several=True)(batch(2, 1, 4.0)) is None


def test_what_is_refused() -> None:
    """Networks that are not followed, devices that were not tried, and a machine without a compiler."""
    loss = Loss("mse", weights=WEIGHTS)
    gap = {"type": "property", "target": "gap", "reference": "none", "mean": [0.0], "spread": [1.0]}
    cgcnn = Potential(build_network(NetworkSpec("cgcnn", {"cutoff": 5.0}, [HEAD], ["Si", "C"], "double")))
    for refused, why in {
        cgcnn: "SchNet alone",
        CoordinatePotential(torch.nn.Linear(1, 1), ["coords"]): "SchNet alone",
        potential(heads=[HEAD, gap]): "an energy head alone",
        potential(heads=[HEAD | {"dropout": 0.1}]): "without dropout",
    }.items():
        with pytest.raises(ManifestError, match=f"training.compile.*{why}"):
            CompiledStep(refused, loss, None, several=True)
    compiled = CompiledStep(potential(), loss, None, several=True)
    compiled.check(torch.device("cpu"), 1)
    with pytest.raises(ManifestError, match="is for CPUs"):
        compiled.check(torch.device("cuda"), 1)
    with pytest.raises(ManifestError, match="a single process"):
        compiled.check(torch.device("cpu"), 2)
    with config.patch({"cpp.cxx": ("/nowhere/g++",)}), pytest.raises(TrainingError, match=r"C\+\+ compiler.*Install"):
        CompiledStep(potential(), loss, None, several=True)


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so before the first step has changed anything."""

    def fail(graph: Any, inputs: Any, options: Any) -> None:
        raise RuntimeError("Python.h: No such file\nand much more")

    monkeypatch.setattr(compiled_step, "standalone_compile", fail)
    compiled = CompiledStep(potential(), Loss("mse", weights=WEIGHTS), None, several=True)
    with pytest.raises(TrainingError, match="Python.h: No such file. Set training.compile to false"):
        compiled(batch(*SIZES[0]))
