"""Files of properties pass the gate only if they say what PyTorch says; what fails leaves a table and no package."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from properties import ENERGY, HEADS, OUTPUTS, property_checkpoint, property_network, property_structures

from kimgnn.errors import ExportError
from kimgnn.export.property_contract import ExportedProperties
from kimgnn.export.property_package import PROPERTY_FORMATS, PropertyFormat, export_properties
from kimgnn.export.property_torchscript import write_torchscript_properties
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.verify import gate
from kimgnn.verify.property_gate import approve_properties, head_scale

pytestmark = pytest.mark.filterwarnings("ignore:.*neighbours? within the cutoff")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """On nearest neighbours; it remembers a structure of its data."""
    atoms = property_structures()["rattled"]
    sample = {"symbols": list(atoms.symbols), "positions": atoms.positions.tolist(),
              "cell": atoms.cell.array.tolist(), "pbc": [True] * 3}  # fmt: skip
    trained = property_checkpoint(property_network("cgcnn", num_convolutions=1), max_neighbors=6)
    trained.data["samples"] = [sample]
    return trained


def export(checkpoint: Checkpoint, directory: Path, told: list[str] | None = None) -> Path:
    """Export it as TorchScript through the gate."""
    approve = partial(
        approve_properties,
        checkpoint=checkpoint,
        rejected=directory / "rejected.md",
        tell=(told if told is not None else []).append,
    )
    return export_properties(checkpoint, "crystals", directory, approve=approve)


def test_what_agrees_is_written_with_its_table(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Every structure, output and version stands there; a table of an attempt of before is gone."""
    (tmp_path / "rejected.md").write_text("an attempt of before")
    told: list[str] = []
    folder = export(checkpoint, tmp_path, told)
    assert not (tmp_path / "rejected.md").exists()
    table = json.loads((folder / "parity.json").read_text())
    assert table["versions"]["kimgnn"]
    properties = table["properties"]
    assert properties["passed"]
    found = properties["differences"]["properties.pt"]
    assert {
        "sample 1",
        "rattled",
        "strained",
        "species permuted",
        "one C atom",
        "molecule",
        "small cell",
    } <= found.keys()
    for differences in found.values():
        assert differences.keys() == set(OUTPUTS)
        assert all(value <= 1e-9 for value in differences.values())
    page = (folder / "parity.md").read_text()
    assert page.startswith("# crystals: parity with PyTorch")
    assert "Within what is allowed." in page
    assert told[0].startswith("comparing properties.pt with PyTorch in Python: ")


@pytest.mark.parametrize(
    ("head", "change", "where"),
    [("gap", 1.0 + 1e-7, "gap"), ("metal", 1.0 + 1e-6, "metal"), ("total", torch.nan, "total")],
)
def test_what_differs_is_refused(
    head: str, change: float, where: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights off by a millionth, or not numbers: no package, and a message with file, structure and output."""

    def write(network: Any, path: Path, metadata: Any) -> None:
        changed = property_network("cgcnn", num_convolutions=1)
        changed.load_state_dict(network.state_dict())
        with torch.no_grad():
            changed.heads[head].mlp[-1].weight.mul_(change)
        write_torchscript_properties(changed, path, metadata)

    monkeypatch.setitem(PROPERTY_FORMATS, "torchscript", PropertyFormat("properties.pt", write))
    with pytest.raises(ExportError, match=rf"(?s)was not exported.*properties\.pt, .*, {where}: differs") as refused:
        export(checkpoint, tmp_path)
    assert len(refused.value.problems) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["rejected.md"]
    assert "Beyond what is allowed" in (tmp_path / "rejected.md").read_text()


def test_a_file_that_computes_nothing_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the runtime says stands in the message."""

    def write(network: Any, path: Path, metadata: Any) -> None:
        path.write_text("no model")

    monkeypatch.setitem(PROPERTY_FORMATS, "torchscript", PropertyFormat("properties.pt", write))
    with pytest.raises(ExportError, match=r"sample 1: not computed: .*damaged"):
        export(checkpoint, tmp_path)


def test_scales_are_the_spread_or_more(checkpoint: Checkpoint) -> None:
    """As many spreads as the largest component has; an atom's times the atoms; of log10 10^y; 1 of a probability."""
    atoms = property_structures()["rattled"]
    expected = {
        "gap": np.array([0.1]),
        "gap_deviation": np.array([0.7]),
        "eps": np.array([100.0]),
        "total": np.array([-16.0]),
        "born": np.array([[1.0, 1.0, 30.0], [0.0, 0.0, 0.0]]),
        "metal": np.array([0.2, 0.8]),
    }
    scales = head_scale(checkpoint.network, atoms, expected)
    np.testing.assert_allclose(scales["gap"], [0.7])
    np.testing.assert_allclose(scales["gap_deviation"], [0.7])
    np.testing.assert_allclose(scales["eps"], [100 * np.log(10) * 2])
    np.testing.assert_allclose(scales["total"], [16.0])
    np.testing.assert_allclose(np.broadcast_to(scales["born"], (2, 3)), [[10.0, 20.0, 30.0]] * 2)
    np.testing.assert_allclose(scales["metal"], 1.0)


@pytest.fixture
def kimgnn(kimgnn: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The same in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return kimgnn


def test_the_command_writes_a_folder_that_is_no_kim_model(checkpoint: Checkpoint, tmp_path: Path, kimgnn: Any) -> None:
    """Called as the run is, compared with PyTorch unless told not to; what asks for KIM is refused."""
    (tmp_path / "gaps" / "checkpoints").mkdir(parents=True)
    save_checkpoint(tmp_path / "gaps" / "checkpoints" / "best.ckpt", checkpoint)
    code, output, _ = kimgnn("export", "gaps")
    assert code == 0
    assert "properties in gaps-properties: no KIM model, for there is no energy head" in output
    assert sorted(path.name for path in (tmp_path / "gaps-properties").iterdir()) == [
        "README.md", "manifest.yaml", "parity.json", "parity.md", "properties.pt",
    ]  # fmt: skip
    code, _, messages = kimgnn("export", "gaps/checkpoints/best.ckpt")
    assert code == 1
    assert "gaps-properties: exists already" in messages
    code, output, _ = kimgnn("export", "gaps", "--name", "again", "--no-verify")
    assert code == 0
    assert "--no-verify: not compared with PyTorch: gap, gap_deviation, eps" in output
    assert "by properties.pt in Python, for 8 structures (sample 1, rattled" in output
    assert not (tmp_path / "again" / "parity.md").exists()
    for option in (["--install"], ["--driver", "torchml"]):
        code, _, messages = kimgnn("export", "gaps", "--name", "other", *option)
        assert code == 1
        assert f"{option[0]}: without an energy head it is no KIM model" in messages
    code, _, messages = kimgnn("export", "gaps", "--name", "gaps", "--force")
    assert code == 1
    assert "exists already" in messages
    assert (tmp_path / "gaps" / "checkpoints" / "best.ckpt").is_file()


def test_a_multitask_network_travels_with_its_potential(
    tmp_path: Path, kimgnn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Potential and properties are compared, told and described in one folder; a bad potential is refused as ever."""
    monkeypatch.setattr(gate, "missing_tools", lambda: ["cmake"])
    name = "Both_SiC__MO_000000000021_000"
    both = property_checkpoint(property_network("schnet", [ENERGY, *HEADS[:1], HEADS[5]]))
    save_checkpoint(tmp_path / "both.ckpt", both)
    code, _, messages = kimgnn("export", "both.ckpt", "--name", name)
    assert code == 0, messages
    folder = tmp_path / name
    assert {"model.pt", "kimgnn.param", "properties.pt"} <= {path.name for path in folder.iterdir()}
    assert "properties.pt" not in (folder / "CMakeLists.txt").read_text()
    table = json.loads((folder / "parity.json").read_text())
    assert table["passed"]
    assert table["properties"]["passed"]
    page = (folder / "parity.md").read_text()
    assert page.count("# Both_SiC") == 1
    assert "## Properties" in page
    readme = (folder / "README.md").read_text()
    assert "| `metal` | (n_structures, 2) | probability | of <= 0.1, > 0.1, in this order |" in readme
    code, output, _ = kimgnn("export", "both.ckpt", "--name", name, "--force", "--no-verify")
    assert code == 0
    assert output.count("--no-verify: not compared with PyTorch: ") == 2

    rough = property_checkpoint(property_network("cgcnn", [ENERGY, HEADS[0]]))
    save_checkpoint(tmp_path / "rough.ckpt", rough)
    code, _, messages = kimgnn("export", "rough.ckpt", "--name", "Rough__MO_000000000022_000")
    assert code == 1
    assert "the model cannot be a potential: without an envelope" in messages
    nearest = property_checkpoint(property_network("schnet", [ENERGY, HEADS[0]]), max_neighbors=6)
    save_checkpoint(tmp_path / "nearest.ckpt", nearest)
    code, _, messages = kimgnn("export", "nearest.ckpt", "--name", "Nearest__MO_000000000023_000")
    assert code == 1
    assert "trained on the nearest neighbours" in messages


def test_the_decoded_network_is_the_network(checkpoint: Checkpoint) -> None:
    """Outputs have the names that the description gives, in its order."""
    exported = ExportedProperties(checkpoint.network)
    vectors, first = torch.ones(1, 3, dtype=torch.float64), torch.tensor([0])
    counts, ends = torch.tensor([2]), torch.tensor([[0], [1]])
    assert list(exported(torch.tensor([14, 6]), counts, ends, vectors, first, first, torch.tensor([1]))) == OUTPUTS
