"""The Materials Project as a source, against a server on this machine that answers in its schema."""

from __future__ import annotations

import csv
import gzip
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mp_api", reason="mp-api is an optional extra")

import materials_project_stub as stub
import numpy as np
from materials_project_stub import KEY, Server, material

from kimgnn.data import materials_project, materials_project_client
from kimgnn.data.materials_project import read_materials_project
from kimgnn.data.parsing import parse_structure
from kimgnn.data.records import Entry
from kimgnn.data.sources import read_configurations
from kimgnn.data.targets import TargetSpec
from kimgnn.errors import DataError, Problem


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with 30 materials, of which mp-5 has taken in two tasks; batches of 4; no waiting."""
    materials = [material(number, (905, 906) if number == 5 else ()) for number in range(1, 31)]
    monkeypatch.setattr(materials_project, "BATCH", 4)
    monkeypatch.setattr(materials_project_client, "BACKOFF", 0.001)
    monkeypatch.setattr(materials_project_client, "PER_SECOND", 1e6)
    with stub.running(Server(materials)) as running:
        monkeypatch.setenv("MP_API_ENDPOINT", running.url)
        monkeypatch.setenv("MP_API_KEY", KEY)
        yield running


def read(folder: Path, **options: Any) -> tuple[list[Entry], list[Problem]]:
    """Return the entries and the problems of a download."""
    results = list(read_materials_project({"folder": str(folder), **options}))
    return (
        [result for result in results if isinstance(result, Entry)],
        [result for result in results if isinstance(result, Problem)],
    )


def no_key_in(folder: Path) -> bool:
    """Whether no file of the folder holds the key, packed or not."""
    contents = []
    for path in folder.rglob("*"):
        if path.is_file():
            contents += [path.read_bytes()]
            contents += [gzip.decompress(contents[-1])] if path.suffix == ".gz" else []
    return bool(contents) and not any(KEY.encode() in content for content in contents)


def test_materials_by_id_with_several_properties(server: Server, tmp_path: Path) -> None:
    ids = [f"mp-{number}" for number in (3, 1, 2, 9, 8, 7)]
    fields = ["band_gap", "formation_energy_per_atom", "bulk_modulus.vrh"]
    entries, problems = read(tmp_path, ids=ids, fields=fields)
    assert not problems
    assert [entry.identifier for entry in entries] == ids
    assert entries[0].values == {
        "band_gap": pytest.approx(0.3), "formation_energy_per_atom": -4.0, "bulk_modulus.vrh": 30.0,
    }  # fmt: skip
    atoms = parse_structure(entries[0].source)
    assert sorted(atoms.get_chemical_symbols()) == ["Cl", "Na"]
    np.testing.assert_allclose(atoms.get_volume(), 4.03**3 / 4, rtol=1e-10)
    assert server.count() == {"/materials/summary/": 2}  # two batches, and nothing else
    assert all(headers["X-API-KEY"] == KEY for headers in server.headers)


def test_materials_by_criteria_in_the_order_of_their_numbers(server: Server, tmp_path: Path) -> None:
    server.materials.reverse()
    criteria = {
        "elements": ["Na"], "num_elements": [1, 2], "energy_above_hull": [None, 0.2], "band_gap": [0.45, None],
    }  # fmt: skip
    entries, problems = read(tmp_path, criteria=criteria, fields=["is_metal"])
    assert not problems
    assert [entry.identifier for entry in entries] == [f"mp-{number}" for number in range(5, 21, 2)]
    assert all(entry.values == {"is_metal": False} for entry in entries)
    _, asked = server.requests[0]
    assert asked["nelements_max"] == "2"
    assert asked["energy_above_hull_max"] == "0.2"
    assert "energy_above_hull_min" not in asked


def test_a_long_list_of_ids_comes_in_pages(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials_project, "BATCH", 2000)
    one = material(1)
    server.materials = [one | {"material_id": f"mp-{number}"} for number in range(1, 2302)]
    entries, _ = read(tmp_path, criteria={"elements": ["Na"]})
    assert [entry.identifier for entry in entries] == [f"mp-{number}" for number in range(1, 2302)]
    assert [asked.get("_skip", "0") for _, asked in server.requests[:3]] == ["0", "1000", "2000"]


def test_criteria_that_nothing_meets(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset.materials_project.criteria: no material meets them"):
        read(tmp_path, criteria={"elements": ["Uuo"]})


def test_tasks_become_materials_and_duplicates_and_unknown_ids_are_told(server: Server, tmp_path: Path) -> None:
    # mp-906 comes before its material, in another batch; mp-7 is asked for twice.
    ids = ["mp-906", "mp-1", "mp-777", "mp-7", "mp-905", "mp-5", "mp-7", "mp-778", "mp-aaaaaaai"]
    with pytest.warns(UserWarning, match="of 9 ids 7 are of 4 different materials: 3 duplicates are left out, 2 mat"):
        entries, problems = read(tmp_path, ids=ids)
    assert [entry.identifier for entry in entries] == ["mp-5", "mp-1", "mp-7", "mp-8"]
    assert [problem.where for problem in problems] == ["mp-777", "mp-778"]
    (table,) = tmp_path.rglob("ids.csv")
    assert list(csv.reader(table.read_text().splitlines())) == [
        ["id", "material_id", "outcome"],
        ["mp-906", "mp-5", "moved"],
        ["mp-1", "mp-1", "kept"],
        ["mp-777", "", "not found"],
        ["mp-7", "mp-7", "kept"],
        ["mp-905", "mp-5", "duplicate"],
        ["mp-5", "mp-5", "duplicate"],
        ["mp-7", "mp-7", "duplicate"],
        ["mp-778", "", "not found"],
        ["mp-aaaaaaai", "mp-8", "moved"],  # its number in letters, as newer ids are written
    ]


def test_ids_of_a_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "ids.csv"
    file.write_text("mp-3,1.2\n\nmp-4,1.3\n")
    entries, _ = read(tmp_path / "downloads", ids=str(file))
    assert [entry.identifier for entry in entries] == ["mp-3", "mp-4"]
    file.write_text("material_id\nmp-3\n149\n")
    with pytest.raises(DataError) as told:
        read(tmp_path / "downloads", ids=str(file))
    assert [problem.where for problem in told.value.problems] == [f"{file}:1", f"{file}:3"]
    file.write_text("\n")
    with pytest.raises(DataError, match="the file has no ids"):
        read(tmp_path / "downloads", ids=str(file))


def test_a_finished_download_needs_neither_server_nor_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = read(tmp_path, criteria={"elements": ["Mg"]}, fields=["band_gap"])
    asked = len(server.requests)
    monkeypatch.delenv("MP_API_KEY")
    after, _ = read(tmp_path, criteria={"elements": ["Mg"]}, fields=["band_gap"])
    assert after == before
    assert len(server.requests) == asked
    with pytest.raises(DataError, match="MP_API_KEY"):  # another question is another download
        read(tmp_path, criteria={"elements": ["Mg"]}, fields=["band_gap", "is_metal"])


def test_as_the_data_set_of_a_manifest(server: Server, tmp_path: Path) -> None:
    dataset = {
        "type": "materials_project",
        "materials_project": {"ids": ["mp-3", "mp-777", "mp-2"], "folder": str(tmp_path)},
        "targets": {"gap": "band_gap", "vrh": "bulk_modulus.vrh"},
    }
    targets = [TargetSpec("gap", "number"), TargetSpec("vrh", "number")]
    with (
        pytest.warns(UserWarning, match="1 ids were not found"),
        pytest.raises(DataError, match="mp-777: the Materials Project has no such material"),
    ):
        read_configurations(dataset, targets=targets)
    with pytest.warns(UserWarning, match="1 ids were not found"), pytest.warns(UserWarning, match="mp-777"):
        configurations = read_configurations(dataset | {"on_error": "skip"}, targets=targets)
    assert [configuration.metadata["identifier"] for configuration in configurations] == ["mp-3", "mp-2"]
    assert configurations[0].metadata["targets"] == {"gap": pytest.approx(0.3), "vrh": pytest.approx(30.0)}
    assert server.count()["/materials/summary/"] == 1  # the second reading took what the first one kept


def test_no_key_is_told_at_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY")
    with pytest.raises(DataError, match="MP_API_KEY: the Materials Project wants a key"):
        read(tmp_path, ids=["mp-1"])
    assert not server.requests


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_told_at_once_and_never_shown(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    wrong = KEY[::-1]
    monkeypatch.setenv("MP_API_KEY", wrong)
    server.faults = lambda number, handler: stub.reply(handler, status, {"detail": f"key {wrong}"}) or True
    with pytest.raises(DataError, match=f"MP_API_KEY: the server refuses the key .status {status}") as told:
        read(tmp_path, ids=["mp-1"])
    assert wrong not in str(told.value)
    assert len(server.requests) == 1  # not asked again and again


def test_a_key_of_the_wrong_length_never_leaves(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MP_API_KEY", "secret-and-short")
    with pytest.raises(DataError, match="32 characters") as told:
        read(tmp_path, ids=["mp-1"])
    assert "secret-and-short" not in str(told.value)
    assert not server.requests


def test_an_error_that_quotes_the_key_is_shown_without_it(server: Server, tmp_path: Path) -> None:
    server.faults = lambda number, handler: stub.reply(handler, 418, {"detail": f"no tea for {KEY}"}) or True
    with pytest.raises(DataError, match="no tea for <key>") as told:
        read(tmp_path, ids=["mp-1"])
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


def test_the_key_is_in_no_file(server: Server, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not found"):
        read(tmp_path, ids=["mp-1", "mp-777"], fields=["band_gap"])
    read(tmp_path, criteria={"elements": ["Mg"]})
    assert no_key_in(tmp_path)


def test_a_busy_server_is_asked_again_when_it_says(server: Server, tmp_path: Path) -> None:
    def busy_once(number: int, handler: Any) -> bool:
        if number == 0:
            stub.reply(handler, 429, {"detail": "slow down"}, {"Retry-After": "1"})
        return number == 0

    server.faults = busy_once
    start = time.monotonic()
    entries, _ = read(tmp_path, ids=["mp-1"])
    assert [entry.identifier for entry in entries] == ["mp-1"]
    assert len(server.requests) == 2
    assert time.monotonic() - start > 1.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_that_fails_for_a_moment(server: Server, tmp_path: Path, status: int) -> None:
    server.faults = lambda number, handler: number < 3 and (stub.reply(handler, status, {}) or True)
    entries, _ = read(tmp_path, ids=["mp-1"])
    assert len(entries) == 1
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_is_given_up(server: Server, tmp_path: Path) -> None:
    server.faults = lambda number, handler: stub.reply(handler, 429, {}) or True
    with pytest.raises(DataError, match="too many requests, 7 times .status 429.*run the same again"):
        read(tmp_path, ids=["mp-1"])
    assert len(server.requests) == 7


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.faults = lambda number, handler: number == 1 and (stub.die(handler) or True)
    entries, _ = read(tmp_path, ids=[f"mp-{number}" for number in range(1, 11)])
    assert len(entries) == 10
    assert len(server.requests) == 4  # three batches, one of them twice


def test_a_server_that_dies_half_way_and_the_download_that_goes_on(server: Server, tmp_path: Path) -> None:
    ids = [f"mp-{number}" for number in range(1, 21)]
    server.faults = lambda number, handler: number >= 2 and (stub.die(handler) or True)
    with pytest.raises(DataError, match="the connection fails or breaks off, 7 times.*kept"):
        read(tmp_path, ids=ids, fields=["band_gap"])
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch_00000.json.gz", "batch_00001.json.gz", "query.json",
    ]  # fmt: skip
    server.requests.clear()
    server.faults = lambda number, handler: False
    entries, _ = read(tmp_path, ids=ids, fields=["band_gap"])
    assert [entry.identifier for entry in entries] == ids
    assert [asked["material_ids"] for _, asked in server.requests] == [
        ",".join(sorted(ids[start : start + 4])) for start in (8, 12, 16)
    ]


def test_a_damaged_batch_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    ids = [f"mp-{number}" for number in range(1, 9)]
    read(tmp_path, ids=ids)
    (path,) = tmp_path.rglob("batch_00001.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    server.requests.clear()
    with pytest.warns(UserWarning, match="is damaged"):
        entries, _ = read(tmp_path, ids=ids)
    assert len(entries) == 8
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_ENDPOINT", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match="the connection fails or breaks off"):
        read(tmp_path, ids=["mp-1"])


def test_the_key_goes_to_no_insecure_address_and_follows_no_redirect(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = lambda number, handler: stub.reply(handler, 302, {}, {"Location": server.url + "elsewhere"}) or True
    with pytest.raises(DataError, match="status code 302"):
        read(tmp_path, ids=["mp-1"])
    assert len(server.requests) == 1
    monkeypatch.setenv("MP_API_ENDPOINT", "http://example.org/")
    with pytest.raises(DataError, match="MP_API_ENDPOINT: is not an address that a key may be sent to"):
        read(tmp_path, ids=["mp-1"])


def test_an_answer_that_is_no_answer(server: Server, tmp_path: Path) -> None:
    server.faults = lambda number, handler: stub.reply(handler, 200, {"surprise": 1}) or True
    with pytest.raises(DataError, match="Materials Project: the server's answer cannot be used"):
        read(tmp_path, ids=["mp-1"])


def test_a_field_that_does_not_exist(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset.materials_project.fields: .*'bandgap'.*Did you mean 'band_gap'"):
        read(tmp_path, ids=["mp-1"], fields=["bandgap"])
    assert not server.requests


def test_a_property_that_a_material_has_not_is_missing(server: Server, tmp_path: Path) -> None:
    server.materials[0]["bulk_modulus"] = None
    del server.materials[1]["band_gap"]
    server.materials[0].pop("structure")
    entries, _ = read(tmp_path, ids=["mp-1", "mp-2"], fields=["band_gap", "bulk_modulus"])
    assert [entry.values for entry in entries] == [
        {"band_gap": pytest.approx(0.1), "bulk_modulus": None},
        {"band_gap": None, "bulk_modulus": {"vrh": 20.0}},
    ]
    with pytest.raises(DataError, match="there is no structure"):
        parse_structure(entries[0].source)


def test_requests_keep_their_distance(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials_project_client, "PER_SECOND", 20.0)
    start = time.monotonic()
    read(tmp_path, ids=[f"mp-{number}" for number in range(1, 21)])
    assert len(server.requests) == 5
    assert time.monotonic() - start >= 4 / 20


def test_without_mp_api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mp_api.client.routes.materials.summary", None)
    with pytest.raises(DataError, match=r"mp-api cannot be imported.*pip install 'kimgnn\[materials-project\]'"):
        read(tmp_path, ids=["mp-1"])


def test_what_was_asked_is_written_for_a_reader(server: Server, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, criteria={"elements": ["Na"], "band_gap": None}, fields=["is_metal"])
    (query,) = tmp_path.rglob("query.json")
    assert json.loads(query.read_text()) == {
        "batch": 4, "criteria": {"elements": ["Na"]}, "endpoint": server.url, "fields": ["is_metal"], "ids": None,
    }  # fmt: skip


def test_a_heads_target_is_downloaded_under_its_own_name(server: Server, tmp_path: Path) -> None:
    """Nothing but the head has to name it."""
    options = {"ids": ["mp-1", "mp-2"], "folder": str(tmp_path)}
    dataset = {"type": "materials_project", "materials_project": options}
    configurations = read_configurations(dataset, targets=[TargetSpec("band_gap", "number")])
    assert all(np.isfinite(item.metadata["targets"]["band_gap"]).all() for item in configurations)
