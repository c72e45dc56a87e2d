"""`kimgnn predict --url`, with a service in a process of its own: the same files, byte for byte, as from the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from properties import property_checkpoint, property_network
from serving import serving
from structures import small_checkpoint

from kimgnn.client import Client
from kimgnn.errors import DataError
from kimgnn.evaluation.predict import Prediction
from kimgnn.models.checkpoint import save_checkpoint
from kimgnn.predictor import load_predictor

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of a potential, and of heads of every kind in single precision."""
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / "potential.ckpt", small_checkpoint(["Si", "C"]))
    network = property_network("cgcnn", precision="single")
    save_checkpoint(folder / "properties.ckpt", property_checkpoint(network, max_neighbors=6, ties="break"))
    return folder


@pytest.fixture(scope="module")
def url(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of both."""
    named = [f"{path.stem}={path}" for path in sorted(models.iterdir())]
    with serving(tmp_path_factory.mktemp("serving"), *named) as url:
        yield url


def structures() -> list[Atoms]:
    """Rattled crystals, whose coordinates need all their digits, and a molecule without a cell."""
    found = []
    for seed in range(4):
        atoms = bulk("SiC", "zincblende", a=4.36) * (1, 1, 1 + seed % 2)
        atoms.rattle(0.1, seed=seed)
        found.append(atoms)
    return [*found, molecule("C2H4")[:2]]


@pytest.mark.parametrize("model", ["potential", "properties"])
def test_files_are_the_same_byte_for_byte(
    model: str, models: Path, url: str, kimgnn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every format of the output, from several formats of the input, files and folders."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("crystals")
    ase.io.write("in.extxyz", structures())
    ase.io.write("crystals/a.cif", structures()[0])
    ase.io.write("crystals/b.vasp", structures()[1])
    for suffix in ("csv", "json", "jsonl", "extxyz"):
        inputs = ["in.extxyz", "crystals"]
        if model == "properties":
            inputs = ["crystals"]  # a molecule of two atoms has not six neighbours
        here = kimgnn("predict", models / f"{model}.ckpt", *inputs, "--output", f"here.{suffix}")
        there = kimgnn("predict", "--url", url, "--model", model, *inputs, "--output", f"there.{suffix}")
        assert here[0] == there[0] == 0, (here, there)
        assert here[1].replace("here", "there") == there[1]
        assert Path(f"here.{suffix}").read_bytes() == Path(f"there.{suffix}").read_bytes()


def test_what_cannot_be_predicted_is_told_alike(
    models: Path, url: str, kimgnn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An element of no training, and a file that does not parse: the same words, and the others are predicted."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("good.cif", structures()[0])
    ase.io.write("foreign.cif", bulk("Ge"))
    Path("broken.cif").write_text("data_x\n_cell_length_a 3\n")
    files = ["foreign.cif", "broken.cif", "good.cif"]
    here = kimgnn("predict", models / "potential.ckpt", *files, "--output", "here.csv")
    there = kimgnn("predict", "--url", url, "--model", "potential", *files, "--output", "there.csv")
    assert here[0] == there[0] == 1
    assert here[2] == there[2]
    assert Path("here.csv").read_bytes() == Path("there.csv").read_bytes()


def test_the_client_gives_what_the_model_gives(models: Path, url: str) -> None:
    """All of it, bit by bit; also as a job, in which what cannot be predicted has its place."""
    crystals = structures()[:4]
    named = [(f"structure {place}", atoms) for place, atoms in enumerate(crystals)]
    for model in ("potential", "properties"):
        right = load_predictor(models / f"{model}.ckpt").predict(named)
        with Client(url) as client:
            found = client.predict(crystals, model)
            job = client.wait(client.submit([*crystals, bulk("Ge")], model), every=0.05)
        assert (job.status, job.done, job.total) == ("done", 5, 5)
        *by_job, refused = job.results
        assert isinstance(refused, DataError)
        assert "structure 4: the structure has a species" in str(refused)
        assert all(isinstance(one, Prediction) for one in by_job)
        for one, other, third in zip(right, found, by_job, strict=True):
            for name, value in vars(one).items():
                np.testing.assert_equal(getattr(other, name), value, err_msg=name)
            # A job may be computed in other batches: the same sums in another order, in single precision.
            assert third.energy == (one.energy and pytest.approx(one.energy, rel=1e-6))
            for name, value in one.properties.items():
                np.testing.assert_allclose(third.properties[name], value, rtol=1e-5, err_msg=name)
