"""A structure's properties are the same alone and in any batch, from files of every kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from properties import HEADS, property_checkpoint, property_network, property_structures, torch_says

from kimgnn.export import property_batches
from kimgnn.export.property_batches import batches
from kimgnn.export.property_package import write_property_file
from kimgnn.export.property_runtimes import PropertyModel, load_property_model, property_graph
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.ensemble import Ensemble

pytestmark = pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")

STATES: Final = [
    {"name": "temperature", "mean": 300.0, "spread": 50.0},
    {"name": "method", "classes": ["PBE", "HSE", "r2SCAN"]},
]

NETWORKS: Final[dict[str, tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "cgcnn": ("cgcnn", {}, {"max_neighbors": 6}),
    "single": ("cgcnn", {}, {"max_neighbors": 6}),
    "schnet": ("schnet", {}, {}),
    "gat": ("gat", {}, {"max_neighbors": 5, "ties": "keep"}),
    "alignn": ("alignn", {}, {"max_neighbors": 6}),
    "megnet": ("megnet", {"state_inputs": STATES}, {}),
}
"""Architecture, its options and those of its graph."""

TOLERANCES: Final = {"double": 1e-12, "single": 1e-6}
"""Relative: sums in another order, over at most some tens of terms. The network and its graph are the same."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PropertyModel]:
    """A file of each network, as TorchScript."""
    found = {}
    for name, (architecture, options, graph) in NETWORKS.items():
        folder = tmp_path_factory.mktemp(name)
        precision = "single" if name == "single" else "double"
        network = property_network(architecture, None, precision, **options)
        write_property_file(property_checkpoint(network, **graph), folder, "torchscript")
        found[name] = load_property_model(folder / "properties.pt")
    return found


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    """One atom with or without neighbours, a molecule, a crystal, one of 64 atoms; with equal distances or not."""
    kind = draw(st.sampled_from(["lone", "tiny", "molecule", "crystal", "large", "apart"]))
    if kind in ("lone", "tiny", "molecule", "apart"):
        atoms = property_structures()[kind]
    else:
        atoms = bulk("Si", cubic=True).repeat(2 if kind == "large" else 1)
    atoms.numbers = draw(st.lists(st.sampled_from([6, 14]), min_size=len(atoms), max_size=len(atoms)))
    if draw(st.booleans()):
        atoms.rattle(0.1, seed=draw(st.integers(0, 99)))
    atoms.info = {"temperature": draw(st.floats(200, 400)), "method": draw(st.sampled_from(STATES[1]["classes"]))}
    return atoms


def assert_same(found: dict[str, Any], right: dict[str, Any], tolerance: float, where: str) -> None:
    """Outputs and shapes are the same, values to so much of the largest of an output.

    Of eps it is the logarithm that is rounded, which costs ln 10 times as much, twice where the deviation has its own.
    """
    assert found.keys() == right.keys()
    for name, values in right.items():
        assert found[name].shape == values.shape, f"{where}: {name}"
        rounded = 2 * np.log(10.0) if name.startswith("eps") else 1.0
        allowed = tolerance * rounded * max(1.0, np.abs(values).max())
        np.testing.assert_allclose(found[name], values, rtol=0, atol=allowed, err_msg=f"{where}: {name}")


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(structures(), min_size=2, max_size=7))
def test_alone_and_in_a_batch(name: str, models: dict[str, PropertyModel], batch: list[Atoms]) -> None:
    """Heads of every kind, deviations, states and triplets: each structure says what it says by itself."""
    model = models[name]
    tolerance = TOLERANCES["single" if name == "single" else "double"]
    for index, (atoms, found) in enumerate(zip(batch, model.predict(batch), strict=True)):
        assert_same(found, model.predict([atoms])[0], tolerance, f"{name}, {index}")


@pytest.fixture(scope="module")
def both(crystals: tuple[Checkpoint, Path]) -> tuple[PropertyModel, PropertyModel]:
    """A CGCNN in ONNX and TorchScript."""
    return load_property_model(crystals[1] / "properties.onnx"), load_property_model(crystals[1] / "properties.pt")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(structures(), min_size=2, max_size=7))
def test_alone_and_in_a_batch_by_onnx(both: tuple[PropertyModel, PropertyModel], batch: list[Atoms]) -> None:
    """The same in the file with tables, and what TorchScript says."""
    model, other = both
    for index, (atoms, found, also) in enumerate(zip(batch, model.predict(batch), other.predict(batch), strict=True)):
        assert_same(found, model.predict([atoms])[0], 1e-12, str(index))
        assert_same(found, also, 1e-12, str(index))


def test_batches_are_bounded(models: dict[str, PropertyModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """By structures, by the places of the largest structure, of the busiest atom and edge; one too large is alone."""
    every = property_structures()
    model = models["alignn"]
    graphs = {name: property_graph(atoms, model.description) for name, atoms in every.items()}

    def sizes(*names: str) -> list[int]:
        return [len(batch) for batch in batches(graphs[name] for name in names)]

    assert sizes(*["lone"] * 130) == [64, 64, 2]
    monkeypatch.setattr(property_batches, "MAX_PLACES", 31)
    assert sizes("supercell", "lone", "lone") == [1, 2]  # 16 atoms: two structures of as many would be 32 places
    assert sizes("lone", "molecule", "molecule", "lone") == [4]
    monkeypatch.setattr(property_batches, "MAX_PLACES", 47)
    assert sizes("molecule", "crystal", "lone") == [1, 1, 1]  # 8 atoms of 6 edges, each of 6 triplets
    right = [model.predict([atoms])[0] for atoms in every.values()]
    for name, found, alone in zip(every, model.predict(list(every.values())), right, strict=True):
        assert_same(found, alone, 1e-12, name)
    assert model.predict([]) == []


@pytest.mark.parametrize("architecture", ["cgcnn", "schnet"])
def test_files_of_ensembles(architecture: str, tmp_path: Path) -> None:
    """Every head has a deviation, that of classes included; in batches too. An integration test has ONNX."""
    heads = [HEADS[0], HEADS[1], HEADS[3], *HEADS[5:]]
    members = [property_network(architecture, heads) for _ in range(3)]
    for index, member in enumerate(members):
        for parameter in member.parameters():
            parameter.data *= 1.0 + 0.1 * index
    checkpoint = property_checkpoint(Ensemble(members).eval(), max_neighbors=6)
    every = property_structures()
    expected = torch_says(checkpoint, list(every.values()))
    assert all(values.max() > 0 for name, values in expected[0].items() if name.endswith("_deviation"))
    write_property_file(checkpoint, tmp_path, "torchscript")
    model = load_property_model(tmp_path / "properties.pt")
    assert model.description.deviations == ["gap", "eps", "born", "metal", "lattice"]
    for name, values, right in zip(every, model.predict(list(every.values())), expected, strict=True):
        assert_same(values, right, 1e-11, name)


def test_lengths_are_those_of_the_structure_itself(models: dict[str, PropertyModel]) -> None:
    """Cells that differ by less than what counts as one length are no more alike in a batch than alone."""
    cells = [property_structures()["crystal"] for _ in range(3)]
    for index, atoms in enumerate(cells):
        atoms.set_cell(atoms.cell * (1.0 + 2e-12 * index), scale_atoms=True)
    found = [model["gap"].item() for model in models["cgcnn"].predict(cells)]
    assert found == pytest.approx([models["cgcnn"].predict([atoms])[0]["gap"].item() for atoms in cells], rel=1e-15)
    assert len(set(found)) == 3
