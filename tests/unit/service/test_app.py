"""The service's answers: to good requests, to bad ones, and what it tells of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ase.build import bulk

from kimgnn.evaluation.prediction_json import from_json
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.predictor import load_predictor
from kimgnn.service.formats import FORMATS
from kimgnn.service.messages import ASE, CIF, DATA, EXAMPLES, EXTXYZ, POSCAR
from kimgnn.service.service import Service

With = Callable[..., None]


def of_ase(*structures: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"structures": [{"format": "ase", "data": data} for data in structures], **more}


def test_a_potential_answers_energy_forces_and_stress(with_service: With, trained: Path) -> None:
    atoms = bulk("SiC", "zincblende", a=4.36)
    atoms.rattle(0.1, seed=1)
    data = {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")} | {
        "cell": atoms.cell.tolist()
    }

    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post("/predict", json=of_ase(data))
        assert answer.status_code == 200
        content = answer.json()
        assert content["model"] == "sic"
        (result,) = content["results"]
        assert (result["id"], result["formula"], result["atoms"]) == ("structure 0", "CSi", 2)
        (right,) = load_predictor(trained / "model.onnx").predict([("", atoms)])
        found = from_json(result["prediction"])
        assert found.energy == right.energy
        np.testing.assert_array_equal(found.forces, right.forces)
        np.testing.assert_array_equal(found.stress, right.stress)
        assert result["columns"]["energy (eV)"] == right.energy
        assert result["columns"]["forces (eV/Å)"] == right.forces.tolist()

    with_service(test)


def test_properties_classes_and_deviations_are_answered(with_service: With, crystals: tuple[Checkpoint, Path]) -> None:
    """An exported folder is served by its ONNX file, and says units."""
    checkpoint, folder = crystals
    symbols = checkpoint.spec.species[:2]
    atoms = bulk("".join(symbols), "zincblende", a=4.5)
    data = {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")} | {
        "cell": atoms.cell.tolist()
    }

    async def test(client: httpx.AsyncClient, _: Service) -> None:
        (told,) = (await client.get("/models")).json()["models"]
        assert (told["name"], told["format"], told["is_potential"]) == ("crystals", "onnx", False)
        (result,) = (await client.post("/predict", json=of_ase(data, model="crystals"))).json()["results"]
        (right,) = load_predictor(folder / "properties.onnx").predict([("", atoms)])
        found = from_json(result["prediction"])
        assert found.properties.keys() == {task["name"] for task in told["tasks"]} == right.properties.keys()
        for name, value in right.properties.items():
            np.testing.assert_allclose(found.properties[name], value, rtol=1e-12)
        assert found.deviations.keys() == right.deviations.keys()
        assert found.deviations
        units = {task["unit"] for task in told["tasks"] if task["unit"]}
        assert all(any(f"({unit})" in column for column in result["columns"]) for unit in units)

    with_service(test, {"crystals": folder})


def test_every_example_of_the_openapi_document_works(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        document = (await client.get("/openapi.json")).json()
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        assert set(document["paths"]) == {
            "/predict", "/structures", "/jobs", "/jobs/{id}", "/models", "/health", "/ready", "/metrics",
        }  # fmt: skip
        energies = []
        for name, example in content["application/json"]["examples"].items():
            answer = await client.post("/predict", json=example["value"])
            assert answer.status_code == 200, (name, answer.text)
            energies += [result["prediction"]["energy"] for result in answer.json()["results"]]
        assert len(energies) == 2 * len(FORMATS)
        for kind, format_name in (("chemical/x-cif", None), ("text/plain", "poscar")):
            parameters = {"format": format_name} if format_name else {}
            answer = await client.post(
                "/predict", content=content[kind]["example"], headers={"content-type": kind}, params=parameters
            )
            assert answer.status_code == 200, answer.text

    with_service(test)


def test_text_may_be_the_body(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post(
            "/predict?format=extxyz&id=md&model=sic",
            content=EXTXYZ * 2,
            headers={"content-type": "text/plain; charset=utf-8"},
        )
        assert [result["id"] for result in answer.json()["results"]] == ["md:0", "md:1"]

    with_service(test)


def test_structures_are_read_for_the_page(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        content = (await client.post("/structures", json=EXAMPLES["many"]["value"])).json()
        assert [one["id"] for one in content["structures"]] == [
            "from cif", "from poscar", "from extxyz:0", "from pymatgen", "from ase",
        ]  # fmt: skip
        assert content["structures"][-1]["structure"] == ASE
        assert content["elements"].keys() == {"Si", "C"}
        refused = await client.post("/structures", json=of_ase({"numbers": [14]}))
        assert refused.status_code == 422

    with_service(test)


COINCIDENT = ASE | {"positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]}
NAN = json.dumps(of_ase(ASE | {"positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 7777.5]]})).replace("7777.5", "NaN")
HUGE = {"numbers": [6] * 100_000, "positions": [[0.0, 0.0, 0.0]] * 100_000}

BAD: list[tuple[str, Any, int, str]] = [
    ("nothing", {}, 422, "structures"),
    ("no structures", {"structures": []}, 422, "structures"),
    ("no json", "{", 422, "not JSON"),
    ("nothing at all", "", 422, "not JSON"),
    ("a list", [], 422, ""),
    ("deep", "[" * 100_000, 422, "not JSON"),
    ("deeper", '{"structures":[{"format":"ase","data":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}]}", 422, ""),
    ("several formats", {"structures": [{"cif": CIF, "poscar": POSCAR}]}, 422, "one format"),
    ("one format, twice", {"structures": [{"format": "cif", "data": CIF, "cif": CIF}]}, 422, "one format"),
    ("unknown format", {"structures": [{"format": "pdb", "data": CIF}]}, 422, "cif, poscar"),
    ("unknown field", {"structure": CIF}, 422, "structures, model"),
    ("no text", {"structures": [{"format": "cif", "data": 3}]}, 422, "data"),
    ("long id", {"structures": [{"format": "cif", "data": CIF, "id": "x" * 201}]}, 422, "id"),
    ("malformed", {"structures": [{"format": "cif", "data": CIF[:200]}]}, 422, "does not parse"),
    ("NaN", NAN, 422, "NaN"),
    ("unknown element", of_ase(ASE | {"numbers": [14, 79]}), 422, "Si, C"),
    ("no element", of_ase(ASE | {"numbers": [0, 0]}), 422, "species"),
    ("overlap", of_ase(COINCIDENT), 422, "one place"),
    ("100,000 atoms", of_ase(HUGE), 413, "up to 2000 atoms"),
    ("many", of_ase(*[ASE] * 257), 413, "POST /jobs"),
    ("unknown model", of_ase(ASE, model="sis"), 404, "'sic'"),
    ("a path as model", of_ase(ASE, model="../../etc/passwd"), 404, "no such model"),
    ("a bomb", of_ase(ASE | {"cell": [[0.01, 0, 0], [0, 0.01, 0], [0, 0, 0.01]]}), 422, "too thin"),
]


@pytest.mark.parametrize(("body", "status", "part"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_requests_are_told_what_to_do(with_service: With, body: Any, status: int, part: str) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        for path in (
            ("/predict", "/jobs") if status != 413 and "ase" not in text and "cif" not in text else ("/predict",)
        ):
            answer = await client.post(path, content=text, headers={"content-type": "application/json"})
            assert answer.status_code == status, answer.text
            error = answer.json()["error"]
            assert error.keys() == {"message", "where", "value", "allowed", "remedy", "problems"}
            assert part in answer.text.replace("\\", "")
            assert error["message"]

    with_service(test)


@pytest.mark.parametrize(
    ("query", "kind", "body", "status", "part"),
    [
        ("", "text/plain", CIF, 422, "cif, poscar, extxyz"),
        ("?format=cif&format=poscar", "text/plain", CIF, 422, "one format"),
        ("?format=poscar", "chemical/x-cif", CIF, 422, "another format"),
        ("?format=cif&weights=/etc/passwd", "text/plain", CIF, 422, "format, model, id"),
        ("?format=cif", "text/plain", b"\xff\xfe", 422, "UTF-8"),
        ("?format=cif&model=nope", "text/plain", CIF, 404, "no such model"),
        ("", "multipart/form-data; boundary=x", "--x--", 415, "application/json"),
        ("", "application/x-python-pickle", b"\x80\x04", 415, "application/json"),
        ("", "", CIF, 415, "Content-Type"),
    ],
)
def test_bad_bodies_are_told(with_service: With, query: str, kind: str, body: Any, status: int, part: str) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        for path in ("/predict", "/jobs", "/structures"):
            if status == 404 and path == "/structures":
                continue  # it asks for no model
            answer = await client.post(path + query, content=body, headers={"content-type": kind} if kind else {})
            assert answer.status_code == status
            assert part in answer.text

    with_service(test)


def test_a_compressed_body_is_refused(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post("/predict", content=b"x", headers={"content-encoding": "gzip"})
        assert (answer.status_code, "compressed" in answer.text) == (415, True)

    with_service(test)


def test_all_problems_of_a_request_are_told_at_once(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post("/predict", json=of_ase(ASE, COINCIDENT, ASE | {"numbers": [14, 79]}))
        problems = answer.json()["error"]["problems"]
        assert [problem["where"] for problem in problems] == ["structure 1", "structure 2"]

    with_service(test)


def test_a_bad_structure_spoils_no_other_of_its_batch(with_service: With) -> None:
    """Eight clients at once, half of them with structures that no network can take: one batch."""

    async def test(client: httpx.AsyncClient, service: Service) -> None:
        bodies = [of_ase(ASE), of_ase(COINCIDENT)] * 4
        answers = await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))
        assert [answer.status_code for answer in answers] == [200, 422] * 4
        energies = {answer.json()["results"][0]["prediction"]["energy"] for answer in answers[::2]}
        assert np.ptp([*energies]) < 1e-12
        assert max(service._workers[0].batches) == 8

    with_service(test)


@pytest.mark.parametrize(
    "path", ["/jobs/../../etc/passwd", "/jobs/..%2F..%2Fetc%2Fpasswd", "/jobs/" + "a" * 32, "/jobs/'--", "/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_of_no_job_are_not_found(with_service: With, path: str, method: str) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["remedy"]

    with_service(test)


def test_bad_parameters_of_a_job_are_told(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.get("/jobs/x?offset=-1&limit=many")
        assert answer.status_code == 422
        assert [problem["where"] for problem in answer.json()["error"]["problems"]] == ["query.offset", "query.limit"]
        assert (await client.get("/predict")).status_code == 405
        job = (await client.post("/jobs", json=of_ase(ASE))).json()["id"]
        assert (await client.get(f"/jobs/{job}?offset={10**20}&limit={10**20}")).status_code == 422

    with_service(test)


async def finished(client: httpx.AsyncClient, identifier: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while (job := (await client.get(f"/jobs/{identifier}")).json())["status"] in ("queued", "running"):
            await asyncio.sleep(0.01)
    return job


def test_a_job_is_computed_and_a_bad_structure_is_told_in_its_place(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        bodies = of_ase(*[ASE] * 300, COINCIDENT)  # more than a request may have
        accepted = await client.post("/jobs", json=bodies)
        assert accepted.status_code == 202
        job = accepted.json()
        assert job == {"id": job["id"], "status": "queued", "total": 301, "done": 0}
        assert accepted.headers["location"] == f"/jobs/{job['id']}"
        found = await finished(client, job["id"])
        assert (found["status"], found["done"], len(found["results"])) == ("done", 301, 301)
        assert [result["id"] for result in found["results"]] == [f"structure {place}" for place in range(301)]
        assert "one place" in found["results"][-1]["error"]["message"]
        part = (await client.get(f"/jobs/{job['id']}?offset=299&limit=1")).json()
        assert part["results"] == found["results"][299:300]
        assert (await client.delete(f"/jobs/{job['id']}")).json()["status"] == "done"
        assert (await client.get(f"/jobs/{job['id']}")).status_code == 404

    with_service(test)


def test_too_many_structures_of_jobs_are_told_to_come_later(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post("/jobs", json=of_ase(*[ASE] * 4))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0

    with_service(test, max_job_structures=3)


def test_a_full_queue_is_told_to_come_later(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.post("/predict", json=of_ase(*[ASE] * 3))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0

    with_service(test, max_queue=2)


@pytest.mark.parametrize("path", ["/predict", "/structures"])
def test_what_nobody_expected_is_told_and_logged(
    with_service: With, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the path that is answered directly as by those of the framework; the error goes on to uvicorn's log."""

    async def test(client: httpx.AsyncClient, service: Service) -> None:
        monkeypatch.setattr(service.batcher, "submit", lambda given: 1 / 0)
        answer = await client.post(path, json=of_ase(ASE))
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "the service failed; its log says where"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert f'kimgnn_requests_total{{path="{path}",status="500"}} 1.0' in service.metrics.text().decode()
        client._transport.raise_app_exceptions = True  # type: ignore[attr-defined]
        with pytest.raises(ZeroDivisionError):
            await client.post(path, json=of_ase(ASE))

    with_service(test)


def test_too_many_requests_at_once_are_told_to_come_later(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answers = await asyncio.gather(*(client.post("/predict", json=of_ase(ASE)) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] * 4 + [429] * 2

    with_service(test, max_requests=4)


def test_a_large_body_is_refused_before_it_is_read(with_service: With) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1000
            yield b" " * 1000

    async def test(client: httpx.AsyncClient, _: Service) -> None:
        for content, headers in ((b" " * 20_000, {}), (endless(), {}), (b"", {"content-length": str(10**30)})):
            answer = await client.post("/predict", content=content, headers=headers)
            assert answer.status_code == 413
            assert "up to 10000 bytes" in answer.text
        assert sent <= 11_000

    with_service(test, max_body=10_000)


def test_without_the_key_only_what_shows_nothing_is_answered(with_service: With) -> None:
    key = "correct horse battery staple"

    async def test(client: httpx.AsyncClient, _: Service) -> None:
        for path in ("/models", "/metrics", "/jobs/x", "/nothing"):
            for headers in (
                {},
                {"x-api-key": "wrong"},
                {"authorization": f"Basic {key}"},
                {"authorization": "Bearer ünïcode".encode()},
            ):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert "Authorization: Bearer KEY" in answer.json()["error"]["remedy"]
        assert (await client.post("/predict", json=of_ase(ASE))).status_code == 401
        for path in ("/health", "/ready", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert (await client.get("/models", headers=headers)).status_code == 200

    with_service(test, key=key)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_a_service_is_called_by_its_own_names(with_service: With, host: str, status: int) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        answer = await client.get("/models", headers={"host": host})
        assert answer.status_code == status

    with_service(test, hosts=("localhost", "127.0.0.1", "::1"))


def test_what_it_tells_of_itself(with_service: With, trained: Path) -> None:
    async def test(client: httpx.AsyncClient, service: Service) -> None:
        models = (await client.get("/models")).json()
        assert [model["name"] for model in models["models"]] == ["a", "b"]
        assert models["limits"]["max_atoms"] == 2000
        assert models["models"][0]["species"] == ["Si", "C"]
        several = await client.post("/predict", json=of_ase(ASE))
        assert (several.status_code, several.json()["error"]["allowed"]) == (422, "a, b")
        assert (await client.post("/predict", json=of_ase(ASE, model="b"))).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        service._workers[0].ready = False
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).json() == {"status": "ok"}
        text = (await client.get("/metrics")).text
        assert 'kimgnn_requests_total{path="/predict",status="200"} 1.0' in text
        assert 'kimgnn_structures_total{model="b",outcome="predicted"} 1.0' in text
        assert "kimgnn_batch_structures_count 1.0" in text

    with_service(test, {"a": trained / "model.onnx", "b": trained})


def test_every_answer_keeps_browsers_at_home(with_service: With) -> None:
    async def test(client: httpx.AsyncClient, _: Service) -> None:
        for path in ("/", "/models", "/nothing"):
            headers = (await client.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"

    with_service(test)


def test_the_formats_are_those_of_the_examples() -> None:
    assert DATA.keys() == set(FORMATS)
