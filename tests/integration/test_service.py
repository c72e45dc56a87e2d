"""``kimgnn serve`` in a process of its own, over loopback: as its users have it, and as those who would break it."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.io
import httpx
import numpy as np
import pytest
from ase import Atoms
from exported import CUTOFF, silicon_carbide_structures, small_network
from properties import property_checkpoint, property_network

from kimgnn.export.documents import file_metadata
from kimgnn.export.onnx_model import write_onnx
from kimgnn.export.parameter_file import PARAMETER_FILE, Parameters
from kimgnn.export.property_package import export_properties
from kimgnn.export.torchscript import write_torchscript
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.service.messages import ASE, CIF

TIMEOUT = 120.0
"""Seconds that a client waits: for ever, but for a test."""

KEY = "correct horse battery staple"


class Serving:
    """A service that runs, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], port: int, headers: dict[str, str]) -> None:
        self.process = process
        self.port = port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, headers=headers)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def predict(self, *structures: Any, **more: Any) -> httpx.Response:
        return self.client.post("/predict", json=body(*structures, **more))

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def serving(folder: Path, *arguments: object, key: str | None = None) -> Iterator[Serving]:
    """Serve with its files in a folder; at the end it is asked to end, and has to."""
    kimgnn = Path(sys.executable).with_name("kimgnn")
    command = [kimgnn, "serve", *arguments, "--port", 0]
    environment = {name: value for name, value in os.environ.items() if name != "KIMGNN_API_KEY"}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"KIMGNN_API_KEY": key} if key else {})
    with (
        (folder / "log.txt").open("a") as log,
        subprocess.Popen(
            [*map(str, command)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        told = process.stdout.readline()
        assert told.startswith("serving"), (folder / "log.txt").read_text()
        port = int(re.findall(r":(\d+)$", told.strip())[0])
        service = Serving(process, port, {"Authorization": f"Bearer {key}"} if key else {})
        try:
            yield service
        finally:
            service.client.close()
            if process.poll() is None:
                process.terminate()
                assert process.wait(30) == 0


def plain(atoms: Atoms) -> dict[str, Any]:
    lists = {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")}
    return {"format": "ase", "data": lists | {"cell": atoms.cell.array.tolist()}}


def body(*structures: Any, **more: Any) -> dict[str, Any]:
    entries = [plain(item) if isinstance(item, Atoms) else item for item in structures]
    return {"structures": entries, **more}


SILICON_CARBIDE = {"format": "ase", "data": ASE}
COINCIDENT = Atoms("SiC", [[0, 0, 0], [0, 0, 1e-5]], cell=[5, 5, 5], pbc=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A potential as checkpoint, ONNX and TorchScript, and a folder with files of properties."""
    folder = tmp_path_factory.mktemp("models")
    network = small_network(2)
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": CUTOFF, "species": ["Si", "C"]}}
    checkpoint = Checkpoint(network, transform, {})
    save_checkpoint(folder / "sic.ckpt", checkpoint)
    write_onnx(network, folder / "model.onnx", file_metadata(network, {}))
    write_torchscript(network, folder / "model.pt")
    (folder / PARAMETER_FILE).write_text(str(Parameters("torchscript", "model.pt", CUTOFF, 2, ["Si", "C"])))
    crystals = property_checkpoint(property_network("cgcnn"), max_neighbors=6, ties="break")
    properties = export_properties(crystals, "crystals", folder, formats=["torchscript", "onnx"])
    return {
        "checkpoint": folder / "sic.ckpt",
        "onnx": folder / "model.onnx",
        "torchscript": folder / "model.pt",
        "crystals": properties,
    }


@pytest.fixture(scope="module")
def service(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One service of all the models, for the tests that leave it as it is; patient for a second only."""
    named = [f"{name}={path}" for name, path in models.items()]
    with serving(tmp_path_factory.mktemp("service"), *named, "--client-seconds", 1) as started:
        yield started


@pytest.fixture(scope="module")
def guarded(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service with a key, that takes a MiB at most."""
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, f"sic={models['onnx']}", "--max-body", 1, key=KEY) as started:
        yield started


def numbers(result: dict[str, Any]) -> list[float]:
    """All numbers of a result; its lists flat."""
    cells = [np.ravel(np.array(value, dtype=np.float64)) for value in result.values() if not isinstance(value, str)]
    return np.concatenate(cells).tolist()


@pytest.mark.parametrize("name", ["checkpoint", "onnx", "torchscript", "crystals"])
def test_answers_are_those_of_kimgnn_predict_whatever_the_batch(
    name: str,
    service: Serving,
    models: dict[str, Path],
    tmp_path: Path,
    kimgnn: Callable[..., tuple[int, str, str]],
) -> None:
    """To 1e-6 relative, of numbers of the order of one: alone, all together, and by eight clients at once."""
    structures = [*silicon_carbide_structures().values()] * 2
    path = tmp_path / "in.extxyz"
    ase.io.write(path, structures)
    file = models[name] / "properties.onnx" if name == "crystals" else models[name]
    status, _, messages = kimgnn("predict", file, path, "--output", tmp_path / "out.json")
    assert status == 0, messages
    keys = {"id", "formula", "atoms"}
    right = [
        {key: value for key, value in row.items() if key not in keys}
        for row in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    ]
    structures = ase.io.read(path, index=":")  # as written

    def alone(atoms: Atoms) -> dict[str, Any]:
        answer = service.predict(atoms, model=name)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"][0]

    together = service.predict(*structures, model=name).json()["results"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(alone, structures))
    for found in (map(alone, structures[:3]), together, at_once):
        for result, row, atoms in zip(found, right, structures, strict=False):
            assert result["formula"] == atoms.get_chemical_formula()
            assert result["columns"].keys() == row.keys()
            np.testing.assert_allclose(numbers(result["columns"]), numbers(row), rtol=1e-6, atol=1e-9)


def test_a_bad_structure_spoils_no_other_and_nobody_gets_anothers_answer(service: Serving) -> None:
    """Sixteen clients, each with its own distance of two atoms, or with a structure that cannot be."""

    def ask(number: int) -> tuple[int, str]:
        if number % 4 == 3:
            return service.predict(COINCIDENT, model="onnx").status_code, ""
        atoms = Atoms("SiC", [[0, 0, 0], [0, 0, 1.5 + 0.01 * number]])
        answer = service.client.post("/predict", json=body(plain(atoms) | {"id": f"mine {number}"}, model="onnx"))
        (result,) = answer.json()["results"]
        assert result["id"] == f"mine {number}"
        return answer.status_code, json.dumps(result["columns"]["energy (eV)"])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(160)))
    assert [status for status, _ in answers] == [200, 200, 200, 422] * 40
    alone = [json.loads(ask(number)[1]) for number in (0, 1, 2, 80, 81)]
    np.testing.assert_allclose([json.loads(answers[n][1]) for n in (0, 1, 2, 80, 81)], alone, rtol=1e-12)


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def answer_on(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    parts = []
    with connection:
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_fifty_megabytes_are_refused_before_they_are_sent(service: Serving) -> None:
    connection = service.connect()
    connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 52428800\r\n\r\n{")
    answer = answer_on(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"up to 33554432 bytes" in answer


def chunks() -> Iterator[bytes]:
    for _ in range(50):
        yield b" " * 2**20


@pytest.mark.parametrize("content", [b" " * 50 * 2**20, chunks()], ids=["announced", "in chunks"])
def test_a_client_that_sends_fifty_megabytes_before_it_reads_is_told(guarded: Serving, content: Any) -> None:
    answer = guarded.client.post("/predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "up to 1048576 bytes" in answer.text


@pytest.mark.parametrize(
    "sent",
    [b"POST /pred", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
)
def test_a_slow_client_is_told_and_let_go(service: Serving, sent: bytes) -> None:
    connection = service.connect()
    connection.sendall(sent)
    answer = answer_on(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"remedy"' in answer


def test_clients_that_leave_cost_nobody_their_answer(service: Serving) -> None:
    content = json.dumps(body(*[SILICON_CARBIDE] * 200, model="onnx")).encode()
    for _ in range(10):
        with service.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    assert service.predict(SILICON_CARBIDE, model="onnx").status_code == 200
    until = time.monotonic() + TIMEOUT
    while 'path="/predict",status="499"' not in service.client.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_no_http_at_all_is_refused(service: Serving) -> None:
    connection = service.connect()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100) + b"\r\n\r\n")
    assert answer_on(connection).startswith(b"HTTP/1.1 400")


def test_it_listens_on_loopback_only(service: Serving) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[1].endswith(f":{service.port:04X}") and row[3] == "0A"]
    assert listening == [f"0100007F:{service.port:04X}"]


def test_a_page_of_another_host_that_means_this_machine_is_refused(service: Serving) -> None:
    assert service.client.get("/models", headers={"host": "evil.example"}).status_code == 421


def test_the_worker_may_die_and_who_asks_then_is_answered(guarded: Serving) -> None:
    (worker,) = guarded.workers()
    os.kill(worker, signal.SIGKILL)
    answer = guarded.predict(SILICON_CARBIDE)
    assert answer.status_code == 200, answer.text
    (again,) = guarded.workers()
    assert again != worker
    assert guarded.client.get("/ready").status_code == 200


def test_what_takes_too_long_is_refused_and_others_are_answered(models: dict[str, Path], tmp_path: Path) -> None:
    """Symmetry makes 192 atoms of each line of the CIF, which pymatgen compares for minutes."""
    lines = "".join(f"Si{n} Si {n * 0.0017:.4f} {n * 0.0031 % 1:.4f} {n * 0.0047 % 1:.4f}\n" for n in range(500))
    slow = CIF.replace("'P 1'", "'F m -3 m'").replace("60\n", "90\n").replace("3.08", "99.0") + lines
    with serving(tmp_path, f"sic={models['onnx']}", "--compute-seconds", 6, "--max-atoms", 100_000) as service:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            hangs = pool.submit(service.predict, {"format": "cif", "data": slow, "id": "slow"})
            others = [pool.submit(service.predict, SILICON_CARBIDE) for _ in range(3)]
            assert [other.result().status_code for other in others] == [200] * 3
        refused = hangs.result()
        assert refused.status_code == 422
        assert refused.json()["error"]["where"] == "slow"
        assert "too long" in refused.json()["error"]["message"]


def test_a_kill_in_the_middle_of_a_batch_loses_no_job(models: dict[str, Path], tmp_path: Path) -> None:
    """Killed thrice, in different moments; each accepted job is computed to its end, each structure once and right."""
    structures = [Atoms("SiC", [[0, 0, 0], [0, 0, 1.5 + 0.001 * n]]) for n in range(400)]
    arguments = f"sic={models['onnx']}", "--jobs", tmp_path / "jobs.sqlite"
    accepted = []
    for pause in (0.0, 0.2, 0.5):
        with serving(tmp_path, *arguments) as service:
            answer = service.client.post("/jobs", json=body(*structures))
            assert answer.status_code == 202
            accepted.append(answer.json()["id"])
            time.sleep(pause)
            workers = service.workers()
            service.process.kill()
            service.process.wait()
            until = time.monotonic() + TIMEOUT
            while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they end with it
                assert time.monotonic() < until
                time.sleep(0.05)
    with serving(tmp_path, *arguments) as service:
        right = [result["columns"] for result in service.predict(*structures[:200]).json()["results"]]
        for identifier in accepted:
            until = time.monotonic() + TIMEOUT
            while (job := service.client.get(f"/jobs/{identifier}").json())["status"] != "done":
                assert job["status"] in ("queued", "running")
                assert time.monotonic() < until
                time.sleep(0.1)
            assert [result["id"] for result in job["results"]] == [f"structure {n}" for n in range(400)]
            for result, row in zip(job["results"], right, strict=False):
                np.testing.assert_allclose(numbers(result["columns"]), numbers(row), rtol=1e-9, atol=1e-12)
        removed = service.client.delete(f"/jobs/{accepted[0]}")
        assert removed.status_code == 200
        assert service.client.get(f"/jobs/{accepted[0]}").status_code == 404


def test_a_key_is_asked_for(guarded: Serving) -> None:
    assert guarded.predict(SILICON_CARBIDE).status_code == 200
    stranger = httpx.post(f"http://127.0.0.1:{guarded.port}/predict", json=body(SILICON_CARBIDE), timeout=TIMEOUT)
    assert stranger.status_code == 401
    assert KEY not in Path(f"/proc/{guarded.process.pid}/cmdline").read_text()


def test_a_second_service_of_the_same_jobs_is_refused(guarded: Serving, models: dict[str, Path]) -> None:
    folder = Path(f"/proc/{guarded.process.pid}/cwd").resolve()
    command = [Path(sys.executable).with_name("kimgnn"), "serve", models["onnx"], "--port", "0"]
    second = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)
    assert second.returncode == 1
    assert "--jobs" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_model_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    command = [Path(sys.executable).with_name("kimgnn"), "serve", "model.onnx", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert done.stderr.startswith("ModelError:\n")
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr
