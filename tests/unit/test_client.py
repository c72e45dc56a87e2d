"""The client of a service: what it sends, and what it makes of every answer. HTTP is real, the answers are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kimgnn.client import TOGETHER, Client
from kimgnn.errors import DataError, KimgnnError, ModelError, ServiceError
from kimgnn.evaluation.predict import Prediction
from kimgnn.evaluation.prediction_json import to_json
from kimgnn.models.tasks import Task

Answer = tuple[int, Any, dict[str, str]]
Command = Callable[..., tuple[int, str, str]]

GAPS = {
    "name": "gaps",
    "format": "onnx",
    "is_potential": False,
    "species": ["Si", "C"],
    "tasks": [{"name": "gap", "kind": "regression", "target": "gap", "unit": "eV", "classes": []}],
    "states": [{"name": "temperature", "classes": [], "mean": 300.0, "spread": 50.0}],
    "training_data": {"structures": 12},
    "level": 0.9,
}


class Script:
    """A server that gives the answers it was told, in turn, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[Answer] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                content = json.loads(body) if body else None
                script.asked.append((self.command, self.path, dict(self.headers), content))
                status, told, headers = script.answers.pop(0) if script.answers else predicted(content)
                if self.path == "/models" and status == 200:
                    told = {"models": told}
                text = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(text))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def say(self, status: int, told: Any, **headers: str) -> None:
        """Add an answer."""
        self.answers.append((status, told, headers))

    def stop(self) -> None:
        """Close everything."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def value_of(entry: dict[str, Any]) -> float:
    """What the server predicts: the sum of all coordinates, which an inexact number would change."""
    return float(np.sum(entry["data"]["positions"]))


def predicted(content: Any) -> Answer:
    """The answer to a request to predict."""
    found = [Prediction(properties={"gap": np.array([value_of(entry)])}) for entry in content["structures"]]
    return 200, {"model": content["model"], "results": [{"prediction": to_json(one)} for one in found]}, {}


def refusal(message: str, **told: Any) -> dict[str, Any]:
    """The body of an answer that refuses."""
    problem = {"where": "", "message": message, "value": None, "allowed": "", "remedy": ""} | told
    return {"error": problem | {"problems": [problem]}}


@pytest.fixture
def script() -> Iterator[Script]:
    """A server, and its answer to the first question: its models."""
    script = Script()
    script.say(200, [GAPS])
    yield script
    script.stop()


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    """A client of it, closed at the end: an open connection would be a warning, and so a failure."""
    with Client(script.url) as client:
        yield client


def rattled(count: int) -> list[Atoms]:
    """Crystals whose coordinates need all their digits."""
    found = []
    for seed in range(count):
        atoms = bulk("SiC", "zincblende", a=4.36)
        atoms.rattle(0.1, seed=seed)
        atoms.info["temperature"] = np.float64(290 + seed)
        found.append(atoms)
    return found


def test_every_digit_goes_and_comes_back(client: Client, script: Script) -> None:
    """In requests of 32, in order; the states of the model go along, and nothing else of `info`."""
    structures = rattled(TOGETHER + 5)
    structures[0].info["energy"] = -3.0
    structures[1] = molecule("C2H4")[:2]
    structures[1].info["temperature"] = [301.5]
    found = client.predict(structures)
    assert [one.properties["gap"].tolist() for one in found] == [
        [float(np.sum(atoms.positions))] for atoms in structures
    ]
    requests = [content for method, path, _, content in script.asked if path == "/predict"]
    assert [len(content["structures"]) for content in requests] == [TOGETHER, 5]
    first, second = requests[0]["structures"][:2]
    assert (first["id"], first["states"], requests[0]["model"]) == ("structure 0", {"temperature": 290.0}, "gaps")
    assert np.array_equal(first["data"]["cell"], structures[0].cell.array)
    assert first["data"]["pbc"] == [True] * 3
    assert (second["data"]["pbc"], second["states"]) == ([False] * 3, {"temperature": 301.5})


def test_no_structures_are_no_request(client: Client, script: Script) -> None:
    """And no prediction."""
    assert client.predict([]) == []
    assert [path for _, path, _, _ in script.asked] == ["/models"]


def test_the_key_goes_along(script: Script) -> None:
    """With every request."""
    with Client(f"{script.url}/", api_key="a long secret") as client:
        client.predict(rattled(1))
    assert [headers["Authorization"] for _, _, headers, _ in script.asked] == ["Bearer a long secret"] * 2


def test_a_busy_service_is_asked_again_when_it_says(client: Client, script: Script, pauses: list[float]) -> None:
    """Until it has time."""
    script.say(429, refusal("the queue is full"), **{"Retry-After": "3"})
    script.say(429, refusal("the queue is full"), **{"Retry-After": "1.5"})
    (found,) = client.predict(rattled(1))
    assert pauses == [3.0, 1.5]
    assert found.properties


def test_patience_ends(script: Script, pauses: list[float]) -> None:
    """What is too busy for too long says so, in its own words."""
    with Client(script.url, patience=10.0) as client:
        script.say(429, refusal("the queue is full", remedy="Send it again later."), **{"Retry-After": "11"})
        with pytest.raises(ServiceError, match=r"^the queue is full\. Send it again later\.$"):
            client.predict(rattled(1))
    assert pauses == []


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("kimgnn.client.time.sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("status", "kind"), [(422, DataError), (413, DataError), (401, ServiceError), (500, ServiceError)]
)
def test_what_is_refused_is_told_in_the_services_words(
    status: int, kind: type[KimgnnError], client: Client, script: Script
) -> None:
    """Every problem, as on the machine itself: where, what came, what is allowed, what to do."""
    problem = {
        "where": "a.cif",
        "message": "no such thing",
        "value": "Xe",
        "allowed": "Si, C",
        "remedy": "Take it out.",
    }
    other = {"where": "b.cif", "message": "nor this", "value": None, "allowed": "", "remedy": "", "newer": 1}
    script.say(status, {"error": problem | {"problems": [problem, other]}})
    with pytest.raises(KimgnnError) as raised:
        client.predict(rattled(1))
    assert type(raised.value) is kind
    assert str(raised.value) == "a.cif: no such thing (got 'Xe'). Allowed: Si, C. Take it out.\nb.cif: nor this."


@pytest.mark.parametrize(
    ("status", "told", "message"),
    [
        (200, b"<html>", "status 200"),
        (502, b"<html>Bad gateway</html>", "status 502"),
        (404, {"detail": "Not Found"}, "status 404"),
        (200, {"results": [{"prediction": {"properties": {}, "charge": 1.0}}]}, "Have the same version"),
        (200, {"answers": []}, "Have the same version"),
        (200, {"results": []}, "other structures than were sent"),
        (200, ["results"], "Have the same version"),
    ],
)
def test_what_is_no_answer_of_a_service_is_no_crash(
    status: int, told: Any, message: str, client: Client, script: Script
) -> None:
    """Some other server, a proxy, or another version."""
    script.say(status, told)
    with pytest.raises(ServiceError, match=message):
        client.predict(rattled(1))


def test_where_nobody_listens(script: Script) -> None:
    """The address, and what to look for."""
    script.stop()
    try:
        with Client(script.url) as client, pytest.raises(ServiceError, match="kimgnn serve") as raised:
            client.models()
        assert script.url in str(raised.value)
    finally:
        script.stop = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://[half", ""])
def test_what_is_no_address(url: str) -> None:
    """Is said to be none."""
    with pytest.raises(ServiceError, match="http://"), Client(url) as client:
        client.models()


def test_a_slow_service(script: Script) -> None:
    """Is not waited for for ever."""
    script.answers.clear()
    script.answers.append((200, [GAPS], {}))
    slow = threading.Event()
    script.server.RequestHandlerClass.do_POST = lambda handler: slow.wait(5)  # type: ignore[attr-defined]
    with Client(script.url, timeout=0.2) as client, pytest.raises(ServiceError, match="in time"):
        client.predict(rattled(1))
    slow.set()


def test_which_model(client: Client, script: Script) -> None:
    """One needs no name, several do, and a misspelt one gets a hint."""
    script.answers[0][1].append(GAPS | {"name": "perovskites"})
    with pytest.raises(ModelError, match=r"several models.*gaps, perovskites"):
        client.predict(rattled(1))
    with pytest.raises(ModelError, match="Did you mean 'perovskites'"):
        client.predict(rattled(1), "perovskite")
    client.predict(rattled(1), "perovskites")
    assert script.asked[-1][3]["model"] == "perovskites"


def test_numbers_that_json_does_not_have(client: Client, script: Script) -> None:
    """Are refused here, by name."""
    atoms = rattled(1)[0]
    atoms.positions[1, 2] = np.nan
    with pytest.raises(DataError, match=r"b\.cif: the lattice or a coordinate is NaN"):
        client.predict([*rattled(1), atoms], identifiers=["a.cif", "b.cif"])
    with pytest.raises(DataError, match="one for each structure"):
        client.predict(rattled(2), identifiers=["a.cif"])


def test_a_model_as_a_predictor(client: Client) -> None:
    """Like one of this machine, it knows its heads and refuses what it was not trained on before anything is sent."""
    predictor = client.predictor()
    assert predictor.tasks == [Task("gap", "regression", "gap", "eV")]
    assert (predictor.species, predictor.training_data) == (["Si", "C"], {"structures": 12})
    assert predictor.level == 0.9
    with pytest.raises(DataError, match=r"x\.cif: the structure has a species.*got 'Ge'.*Allowed: Si, C"):
        predictor.check([("x.cif", Atoms("Ge", info={"temperature": 300}))])
    with pytest.raises(DataError, match="temperature"):
        predictor.check([("x.cif", Atoms("Si"))])
    atoms = rattled(1)[0]
    (found,) = predictor.predict([("x.cif", atoms)])
    assert found.properties["gap"].tolist() == [float(np.sum(atoms.positions))]


def test_long_names_are_told_by_their_end(client: Client, script: Script) -> None:
    """A service takes names of 200 characters."""
    client.predict(rattled(1), identifiers=["folder/" * 50 + "last.cif"])
    (entry,) = script.asked[-1][3]["structures"]
    assert len(entry["id"]) == 200
    assert entry["id"].endswith("folder/last.cif")


def test_jobs(client: Client, script: Script, pauses: list[float]) -> None:
    """Handed over, asked after, waited for, forgotten; what could not be predicted stands in its place."""
    script.say(202, {"id": "a-b_c", "status": "queued", "done": 0, "total": 2})
    assert client.submit(rattled(2)) == "a-b_c"
    head = {"id": "a-b_c", "status": "running", "done": 1, "total": 2}
    result = {"prediction": to_json(Prediction(energy=-1.25))}
    script.say(200, head | {"results": [result]})
    job = client.job("a-b_c")
    assert (job.status, job.done, job.total, job.is_over) == ("running", 1, 2, False)
    assert [one.energy for one in job.results] == [-1.25]
    bad = {"id": "structure 1"} | refusal("no such element", where="structure 1")
    script.say(200, head)
    script.say(200, head | {"status": "done", "done": 2})
    script.say(200, head | {"status": "done", "done": 2, "results": [result, bad]})
    first, second = client.wait("a-b_c", every=0.25).results
    assert first.energy == -1.25
    assert isinstance(second, DataError)
    assert str(second) == "structure 1: no such element."
    assert pauses == [0.25]
    script.say(200, head | {"status": "cancelled"})
    client.cancel("../models?")
    assert script.asked[-1][:2] == ("DELETE", "/jobs/..%2Fmodels%3F")
    script.say(404, refusal("there is no such job"))
    with pytest.raises(ServiceError, match="no such job"):
        client.job("a-b_c")


def command(kimgnn: Command, url: str, *arguments: object) -> tuple[int, str, str]:
    """`kimgnn predict` with a service."""
    return kimgnn("predict", "--url", url, *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one with two files, to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIMGNN_API_KEY", raising=False)
    structures: Sequence[Atoms] = rattled(3)
    ase.io.write("a.extxyz", structures[:2])
    ase.io.write("b.extxyz", structures[2])
    return tmp_path


def test_the_command_predicts_by_a_service(kimgnn: Command, script: Script, folder: Path) -> None:
    """One request for small files; a key from the environment."""
    status, output, messages = command(kimgnn, script.url, "a.extxyz", "b.extxyz", "--model", "gaps")
    assert (status, output, messages) == (0, "3 structures in predictions.csv\n", "")
    header, *rows = Path("predictions.csv").read_text().splitlines()
    assert header == "id,formula,atoms,gap (eV)"
    right = [float(np.sum(atoms.positions)) for name in ("a.extxyz", "b.extxyz") for atoms in ase.io.read(name, ":")]
    assert [float(row.split(",")[3]) for row in rows] == right
    assert [path for _, path, _, _ in script.asked] == ["/models", "/predict"]
    assert "Authorization" not in script.asked[0][2]


def test_the_command_sends_its_key(
    kimgnn: Command, script: Script, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which stands in no command line, where others could read it."""
    monkeypatch.setenv("KIMGNN_API_KEY", "a long secret")
    assert command(kimgnn, script.url, "b.extxyz")[0] == 0
    assert {headers["Authorization"] for _, _, headers, _ in script.asked} == {"Bearer a long secret"}


def test_a_file_that_the_service_refuses_does_not_stop_the_others(
    kimgnn: Command, script: Script, folder: Path
) -> None:
    """As with a model on this machine: both together are refused, then each is sent alone."""
    bad = refusal("two atoms are at one place", where="a.extxyz:0")
    script.say(422, bad)
    script.say(422, bad)
    status, output, messages = command(kimgnn, script.url, "a.extxyz", "b.extxyz", "--output", "out.csv")
    assert (status, output) == (1, "1 structures in out.csv\n")
    assert messages == "DataError:\na.extxyz:0: two atoms are at one place.\n"
    assert len(Path("out.csv").read_text().splitlines()) == 2


def test_the_command_says_what_is_missing(kimgnn: Command, script: Script, folder: Path) -> None:
    """Files, a service, its models: and it leaves no half-written output."""
    status, _, messages = kimgnn("predict", "model.ckpt")
    assert (status, "files of structures" in messages) == (2, True)
    status, _, messages = kimgnn("predict", "model.ckpt", "a.extxyz", "--model", "gaps")
    assert (status, "--url" in messages) == (2, True)
    status, _, messages = command(kimgnn, script.url, "a.extxyz", "--model", "gasp")
    assert (status, "Did you mean 'gaps'" in messages) == (1, True)
    script.say(401, refusal("a key is needed"))
    assert command(kimgnn, script.url, "a.extxyz")[::2] == (1, "ServiceError:\na key is needed.\n")
    assert sorted(path.name for path in folder.iterdir()) == ["a.extxyz", "b.extxyz"]
