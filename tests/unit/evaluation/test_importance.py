"""What composition and structure count for, of networks that use the one, the other or both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.errors import DataError, ModelError
from kimgnn.evaluation.importance import Importance, _others, attention_shares, importance
from kimgnn.evaluation.importance_plots import attention_plot, attention_table, importance_plot, importance_table
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.models.build import build_network
from kimgnn.models.fusion import forests
from kimgnn.models.network import NetworkSpec
from kimgnn.models.tasks import tasks_of
from kimgnn.physics.potential import Potential
from kimgnn.training.late_fusion import trees_of
from kimgnn.transforms.periodic_graph import PeriodicGraph

OPTIONS = {"cutoff": 4.0, "hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 8}
HEADS: list[dict[str, Any]] = [
    {"type": "property", "target": "gap", "unit": "eV", "reference": "none", "mean": [1.0], "spread": [2.0]},
    {"type": "property", "target": "total", "extensive": True, "mean": [0.0], "spread": [1.0], "reference": "none"},
    {"type": "property", "target": "eps", "transform": "log10", "mean": [0.0], "spread": [0.5]},
    {"type": "classification", "target": "lattice", "classes": ["a", "b", "c"]},
    {"type": "property", "target": "born", "per_atom": True, "reference": "none", "mean": [0.0], "spread": [1.0]},
]
TASKS = tasks_of(HEADS)
TRANSFORM = PeriodicGraph(4.0)


def make_network(fusion: str, weight: float = 0.5, depth: int = 0):
    torch.manual_seed(0)
    composition = {"features": "fractions", "fusion": fusion, "hidden_channels": 6, "num_hidden_layers": 1,
                   "dropout": 0.0, "n_trees": 5, "max_leaves": 8, "species": ["C", "Si", "Ge"]}  # fmt: skip
    spec = NetworkSpec("schnet", OPTIONS, HEADS, ["C", "Si", "Ge"], "double", depth, composition)
    network = build_network(spec).eval()
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    rng = np.random.default_rng(0)
    for late in forests(network).values():
        rows = rng.random(size=(60, 3))
        kind = RandomForestClassifier if late.classes else RandomForestRegressor
        target = np.arange(60) % late.classes if late.classes else rows[:, 0]
        late.forest.set_trees(trees_of(kind(5, random_state=0).fit(rows, target), late.classes))
        late.weight.fill_(weight)
    return network


def labelled(network, n: int = 12):
    """Cells of two sizes, labelled with what the network says: its error is 0."""
    rng = np.random.default_rng(1)
    frames = []
    for index in range(n):
        atoms = bulk("Si", cubic=bool(index % 2))
        atoms.symbols[:] = rng.choice(["C", "Si", "Ge"], size=len(atoms))
        atoms.rattle(0.1, rng=rng)
        frames.append(configuration_from_atoms(atoms))
    for configuration, found in zip(frames, predict(Potential(network), frames, TRANSFORM), strict=True):
        configuration.metadata["targets"] = found.properties | {
            "lattice": np.array([float(np.argmax(found.properties["lattice"]))])
        }
    return frames


def by_part(found: list[Importance], head: str) -> dict[tuple[str, str], Importance]:
    return {(item.part, item.way): item for item in found if item.head == head}


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("fusion", ["early", "attention", "intermediate", "late"])
def test_both_count_where_both_are_used(fusion, depth):
    network = make_network(fusion, depth=depth)
    configurations = labelled(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = importance(network, TASKS, configurations, TRANSFORM, repeats=4)
    assert {item.head for item in found} == {"gap", "total", "eps", "lattice"}
    assert {item.error for item in found} == {"MAE", "MAE of log10", "Brier score"}
    for head in ("gap", "total", "eps"):
        parts = by_part(found, head)
        assert len(parts) == (3 if fusion == "intermediate" else 4)
        for item in parts.values():
            assert item.base == pytest.approx(0.0, abs=1e-12)
            assert 0 < item.low <= item.growth <= item.high
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    # No hooks are left in it.
    again = predict(Potential(network), configurations, TRANSFORM)
    np.testing.assert_allclose(again[0].properties["gap"], configurations[0].metadata["targets"]["gap"], rtol=1e-12)


@pytest.mark.parametrize(("weight", "unused"), [(1.0, "composition"), (0.0, "structure")])
def test_what_is_not_used_counts_nothing(weight, unused):
    """A mixture of network and forest in which one has no weight; cells of different sizes, an extensive head too."""
    network = make_network("late", weight)
    found = importance(network, TASKS, labelled(network), TRANSFORM, repeats=3)
    for item in found:
        if item.part == unused:
            # Of sums in batches of another order.
            assert abs(item.growth) < 1e-9, item
        elif item.head != "lattice":
            assert item.growth > 1e-3, item


@pytest.mark.parametrize("n", [2, 3, 12])
def test_no_structure_is_given_its_own(n):
    """One that keeps its own has no error to grow by, and growths would come out too small."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        others = _others(n, rng)
        assert sorted(others) == list(range(n))
        assert (others != np.arange(n)).all()


def test_the_same_again_and_missing_labels_left_out():
    network = make_network("early")
    configurations = labelled(network)
    configurations[0].metadata["targets"]["gap"] = np.array([np.nan])
    for configuration in configurations:
        configuration.metadata["targets"]["eps"] = np.array([np.nan])
    found = importance(network, TASKS, configurations, TRANSFORM, repeats=2)
    assert found == importance(network, TASKS, configurations, TRANSFORM, repeats=2)
    assert {item.head for item in found} == {"gap", "total", "lattice"}
    assert np.isfinite([item.growth for item in found]).all()


def test_what_cannot_be_asked_is_told():
    alone = build_network(NetworkSpec("schnet", OPTIONS, HEADS, ["Si"]))
    with pytest.raises(ModelError, match="knows no composition"):
        importance(alone, TASKS, [], TRANSFORM)
    fused = make_network("early")
    with pytest.raises(ModelError, match="no head of a property or class of whole structures"):
        importance(fused, TASKS[4:], labelled(fused), TRANSFORM)
    with pytest.raises(DataError, match="two structures or more"):
        importance(fused, TASKS, labelled(fused)[:1], TRANSFORM)


def test_attention_by_element_and_crystal_system():
    frames = [
        configuration_from_atoms(atoms) for atoms in (bulk("Si"), bulk("Cu"), bulk("ZnO", "wurtzite", a=3.2, c=5.2))
    ]
    frames[1].species[:] = ["Si"]
    predictions = [Prediction(attention=weight) for weight in (0.2, 0.4, 0.9)]
    shares = attention_shares(predictions, frames)
    assert [(item.kind, item.name, item.count) for item in shares] == [
        ("crystal system", "hexagonal", 1),
        ("crystal system", "cubic", 2),
        ("element", "O", 1),
        ("element", "Zn", 1),
        ("element", "Si", 2),
    ]
    assert shares[-1].weight == pytest.approx(0.3)
    assert shares[-1].spread == pytest.approx(0.1)
    assert attention_shares([Prediction()], frames[:1]) == []
    assert "| element        | Si" in attention_table(shares)
    assert len(attention_plot(shares).axes) == 2


def test_predictions_carry_the_weights():
    network = make_network("attention")
    found = predict(Potential(network), labelled(network), TRANSFORM, batch_size=5)
    weights = np.array([item.attention for item in found])
    assert ((weights > 0) & (weights < 1)).all()
    assert np.ptp(weights) > 1e-6
    assert predict(Potential(make_network("early")), labelled(network)[:1], TRANSFORM)[0].attention is None


def test_table_and_picture():
    found = [
        Importance("gap", "MAE", "eV", 0.5, part, way, 0.1, -0.02, 0.2)
        for part in ("composition", "structure")
        for way in ("permuted", "zeroed")
    ]
    row = importance_table(found).splitlines()[2]
    assert [cell.strip() for cell in row.strip("| ").split("|")] == [
        "gap, MAE (eV)", "composition", "permuted", "0.5", "+0.1", "-0.02 to +0.2",
    ]  # fmt: skip
    figure = importance_plot(found)
    (ax,) = figure.axes
    assert ax.get_title() == "gap\nMAE 0.5 eV before"
    assert [round(bar.get_height(), 3) for bar in ax.patches[:4]] == [0.1] * 4
