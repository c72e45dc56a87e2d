"""An export passes the gate only if its files give what PyTorch gives; what fails leaves a table and no package."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from structures import small_checkpoint

from kimgnn.calculator import KimgnnCalculator
from kimgnn.errors import ExportError
from kimgnn.export.formats import FORMATS
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.network import Network
from kimgnn.verify import gate

NAME = "Gate_test_SiC__MO_123456789012_000"

Write = Callable[[Network, Path], None]


@pytest.fixture(autouse=True)
def _no_kim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the files in Python; tests/integration/test_gate.py has the simulators."""
    monkeypatch.setattr(gate, "missing_tools", lambda: ["cmake"])


def export(directory: Path, told: list[str] | None = None, **options: object) -> Path:
    """Export a small network through the gate."""
    checkpoint = small_checkpoint(["Si", "C"])
    approve = partial(
        gate.approve_exports,
        checkpoint=checkpoint,
        rejected=directory / "rejected.md",
        tell=(told if told is not None else []).append,
    )
    return export_portable_model(checkpoint, NAME, directory, approve=approve, **options)


def write_instead(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Let the writer of TorchScript files write something else."""
    right = FORMATS["torchscript"]
    monkeypatch.setitem(FORMATS, "torchscript", replace(right, write=lambda network, path, _: write(network, path)))


def write_right(network: Network, path: Path) -> None:
    """What the writer writes."""
    from kimgnn.export.torchscript import write_torchscript

    write_torchscript(network, path)


def test_what_agrees_is_written_with_its_table(tmp_path: Path) -> None:
    """Every structure, quantity and version stands there, and what was not run with the reason."""
    (tmp_path / "rejected.md").write_text("an attempt of before")
    told: list[str] = []
    folder = export(tmp_path, told)
    table = json.loads((folder / "parity.json").read_text())
    assert table["passed"]
    assert list(table["differences"]) == ["model.pt in Python"]
    found = table["differences"]["model.pt in Python"]
    assert list(found) == list(table["structures"])
    assert {"sample 1", "rattled", "strained", "one C atom", "molecule", "small cell"} <= found.keys()
    assert found["rattled"].keys() == {"energy", "atomic_energies", "forces", "stress"}
    assert found["molecule"].keys() == {"energy", "atomic_energies", "forces"}
    page = (folder / "parity.md").read_text()
    assert f"# {NAME}: parity" in page
    assert "Not run: KIM in ASE and LAMMPS, since cmake is missing." in page
    assert told[0] == "not compared with PyTorch: KIM in ASE and LAMMPS, since cmake is missing"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def off_by_little(network: Network, path: Path) -> None:
    """One weight of many off by a millionth."""
    network = deepcopy(network)
    with torch.no_grad():
        next(network.heads["energy"].mlp.parameters()).view(-1)[0] += 1e-6
    write_right(network, path)


def species_swapped(network: Network, path: Path) -> None:
    """Codes are those of the other element."""
    swapped = build_network(replace(network.spec, species=network.spec.species[::-1]))
    swapped.load_state_dict(network.state_dict())
    write_right(swapped.eval(), path)


def truncated(network: Network, path: Path) -> None:
    """Half a file."""
    write_right(network, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (
            off_by_little,
            r"model\.pt in Python, .*, energy: differs from PyTorch by \d\.\de-0[5678] eV\. Allowed: 1e-09",
        ),
        (
            species_swapped,
            r"model\.pt in Python, one \w+ atom, energy: differs from PyTorch by \d\.\de-01 eV\. Allowed",
        ),
        (truncated, r"model\.pt in Python, sample 1: not computed: .*the file is damaged"),
    ],
)
def test_what_does_not_agree_is_refused(
    write: Write, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names runtime, structure, quantity and difference; a package of before stays, beside the table."""
    before = export_portable_model(small_checkpoint(["Si", "C"]), NAME, tmp_path)
    (before / "notes").write_text("mine")
    write_instead(monkeypatch, write)
    with pytest.raises(ExportError, match=told) as caught:
        export(tmp_path, force=True)
    assert f"The whole table: {tmp_path / 'rejected.md'}" in str(caught.value)
    assert "**Beyond what is allowed.**" in (tmp_path / "rejected.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "rejected.md"}
    assert (before / "notes").read_text() == "mine"


def test_an_error_of_now_and_then_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that race err in some evaluations only, so a file is evaluated several times, on several threads."""
    calculate, threads = KimgnnCalculator.calculate, set()

    def racing(calculator: KimgnnCalculator, *arguments: object) -> None:
        calculate(calculator, *arguments)
        threads.add(torch.get_num_threads())
        racing.count += 1
        if racing.count == 20:
            calculator.results["forces"] = calculator.results["forces"] * (1 + 1e-5)

    racing.count = 0
    monkeypatch.setattr(KimgnnCalculator, "calculate", racing)
    before = torch.get_num_threads()
    with pytest.raises(ExportError, match="model.pt in Python, .*, forces: differs"):
        export(tmp_path)
    assert racing.count == gate.REPEATS * len(gate.gate_structures(small_checkpoint(["Si", "C"])))
    assert min(threads) >= 2
    assert torch.get_num_threads() == before


def test_a_table_with_nan_is_no_table_that_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose output is not a number do not agree with themselves."""

    def nan(network: Network, path: Path) -> None:
        network = deepcopy(network)
        with torch.no_grad():
            next(network.heads["energy"].mlp.parameters()).fill_(np.nan)
        write_right(network, path)

    write_instead(monkeypatch, nan)
    with pytest.raises(ExportError, match="energy: differs from PyTorch by nan eV"):
        export(tmp_path)


@pytest.mark.parametrize(
    ("absent", "told"),
    [
        ("kimpy", {"KIM in ASE and LAMMPS": "kimpy is missing (pip install kimgnn[kim])"}),
        ("lmp", {"LAMMPS": "lmp is missing"}),
        ("package", {"LAMMPS": "lmp was built without its KIM package"}),
        ("mpirun", {"LAMMPS on 2 ranks": "mpirun is missing"}),
        ("nothing", {}),
    ],
)
def test_what_is_not_installed_is_named(absent: str, told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, so that nothing seems to have been compared that was not."""
    monkeypatch.setattr(gate, "missing_tools", list)
    monkeypatch.setattr(gate, "find_spec", lambda name: None if name == absent else name)
    monkeypatch.setattr(gate.shutil, "which", lambda name: None if name == absent else name)
    monkeypatch.setattr(gate, "has_kim_package", lambda: absent != "package")
    assert gate.missing_runtimes() == told


def test_what_is_skipped_is_said() -> None:
    """Files, runtimes, quantities and structures."""
    text = gate.what_is_compared(small_checkpoint(["Si"]), ["torchscript", "onnx"])
    for phrase in ("forces and stress by model.pt and model.onnx", "in ASE", "LAMMPS on 1 and 2 ranks", "one Si atom"):
        assert phrase in text
