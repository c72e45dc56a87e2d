"""Structures and properties of the Materials Project, downloaded once, kept on disk."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

from kimgnn.data.records import Entry
from kimgnn.errors import DataError, Problem
from kimgnn.files import atomic_write

if TYPE_CHECKING:
    from kimgnn.data.materials_project_client import Client

KEY: Final = "MP_API_KEY"
"""The environment variable that holds the key, which is written nowhere."""

ENDPOINT: Final = "https://api.materialsproject.org/"
"""Where the server is, unless the environment variable MP_API_ENDPOINT says otherwise."""

BATCH: Final = 200
"""Materials in a request, and in a file; their ids must fit into an address."""

_NOT_FOUND: Final = "the Materials Project has no such material, and no material with such a task"


def read_materials_project(
    options: Mapping[str, Any], where: str = "dataset.materials_project"
) -> Iterator[Entry | Problem]:
    """Yield the materials that a manifest's ``dataset.materials_project`` block names, or what is wrong with an id.

    They are downloaded in batches, each written to ``folder`` as a whole: a download that broke off goes on from
    there, and a finished one needs neither key nor connection. A task's id stands for the material that the task
    belongs to now; a material that several ids stand for is yielded once. ``ids.csv`` in the folder of the download
    says what became of each id.

    Args:
        options: ``ids`` (a list or a file) or ``criteria``, ``fields`` and ``folder``, as in the manifest.
        where: Dotted path of the block, for messages.

    Raises:
        DataError: The key is missing or refused, a field does not exist, the server cannot be reached or fails, mp-api
            is not installed, or nothing was found.

    Warns:
        UserWarning: Ids stand for another material than of old, or for one that is there already; how many.
    """
    download = _Download(options, where)
    asked = download.asked()
    batches = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
    material_of: dict[str, str] = {}
    for number, batch in enumerate(tqdm(batches, desc="Materials Project", unit="batch", disable=None)):
        material_of |= download.batch(number, batch)["material_of"]
    outcomes = _outcomes(asked, material_of)
    download.write_outcomes(outcomes)
    # Read again batch by batch: all of them together may be larger than memory.
    for number, batch in enumerate(batches):
        documents = download.batch(number, batch)["documents"]
        for identifier, material, outcome in outcomes[number * BATCH : (number + 1) * BATCH]:
            if outcome == "not found":
                yield Problem(identifier, _NOT_FOUND, remedy="It was withdrawn, or never was: leave it out.")
            elif outcome != "duplicate":
                document = documents[material]
                values = {name: _value(document, name) for name in download.fields}
                yield Entry(material, document.get("structure") or "", values)


def _outcomes(asked: Sequence[str], material_of: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return asked id, current material id and what becomes of it: kept, moved, duplicate, not found."""
    outcomes, seen = [], set()
    for identifier in asked:
        material = material_of.get(identifier, "")
        if not material:
            outcome = "not found"
        elif material in seen:
            outcome = "duplicate"
        else:
            outcome = "kept" if material == identifier else "moved"
        seen.add(material)
        outcomes.append((identifier, material, outcome))
    return outcomes


def _value(document: Mapping[str, Any], field: str) -> Any:
    """Return a field, or the part of it that its dotted name says; ``None`` where it is missing."""
    value: Any = document
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


class _Download:
    """The folder of one download: what was asked in ``query.json``, ``ids.json``, and a file for each batch."""

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        self.where = where
        self.fields = list(dict.fromkeys(options.get("fields") or []))
        self.endpoint = os.environ.get("MP_API_ENDPOINT") or ENDPOINT
        self.criteria = {name: value for name, value in (options.get("criteria") or {}).items() if value is not None}
        self.ids = None if self.criteria else _read_ids(options.get("ids"), f"{where}.ids")
        query = {
            "endpoint": self.endpoint,
            "criteria": self.criteria,
            "ids": self.ids,
            "fields": sorted(self.fields),
            "batch": BATCH,
        }
        text = json.dumps(query, indent=1, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = Path(options.get("folder") or "materials_project") / name
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "query.json").exists():
            with atomic_write(self.folder / "query.json") as file:
                file.write(text)
        self._client: Client | None = None

    def asked(self) -> list[str]:
        """Return the ids of the user, or those that meet the criteria: found once, so that they stay the same."""
        if self.ids is not None:
            return self.ids
        path = self.folder / "ids.json"
        if path.exists():
            return list(json.loads(path.read_text(encoding="utf-8")))
        found = self.client.find(self.criteria)
        if not found:
            raise DataError("no material meets them", where=f"{self.where}.criteria", value=self.criteria)
        with atomic_write(path) as file:
            json.dump(found, file)
        return found

    def batch(self, number: int, asked: Sequence[str]) -> dict[str, Any]:
        """Return asked id -> material id, and material id -> document, of a batch; read where it is there."""
        path = self.folder / f"batch_{number:05d}.json.gz"
        return _read(path) or self._fetch(asked, path)

    def write_outcomes(self, outcomes: Sequence[tuple[str, str, str]]) -> None:
        """Write what became of each id into ``ids.csv``, and warn of what a user may not expect."""
        path = self.folder / "ids.csv"
        with atomic_write(path) as file:
            writer = csv.writer(file)
            writer.writerow(["id", "material_id", "outcome"])
            writer.writerows(outcomes)
        counts = Counter(outcome for *_, outcome in outcomes)
        if set(counts) == {"kept"}:
            return
        found = len(outcomes) - counts["not found"]
        warnings.warn(
            f"{self.where}: of {len(outcomes)} ids {found} are of {found - counts['duplicate']} different materials: "
            f"{counts['duplicate']} duplicates are left out, {counts['moved']} materials have another id now, "
            f"{counts['not found']} ids were not found; {path} lists them",
            stacklevel=3,
        )

    @property
    def client(self) -> Client:
        """The server, which a finished download does not need."""
        if self._client is None:
            key = os.environ.get(KEY, "").strip()
            if not key:
                raise DataError(
                    "the Materials Project wants a key, and this environment variable is not set",
                    where=KEY,
                    remedy="Get one at https://next-gen.materialsproject.org/api, and run: export MP_API_KEY=<key>.",
                )
            try:
                from kimgnn.data.materials_project_client import Client
            except ImportError as error:
                raise DataError(
                    f"needs the package mp-api ({error})",
                    where="dataset.type",
                    value="materials_project",
                    remedy="Run: pip install 'kimgnn[materials-project]'.",
                ) from error
            self._client = Client(key, self.endpoint)
            self._client.check_fields(self.fields, f"{self.where}.fields")
        return self._client

    def _fetch(self, asked: Sequence[str], path: Path) -> dict[str, Any]:
        """Download a batch: ids of materials first, then what is left as ids of tasks."""
        current = {identifier: self.client.current_id(identifier) for identifier in asked}
        documents = self.client.documents(sorted(set(current.values())), self.fields)
        rest = sorted(set(current.values()) - documents.keys())
        moved = self.client.materials_of(rest) if rest else {}
        missing = sorted(set(moved.values()) - documents.keys())
        documents |= self.client.documents(missing, self.fields) if missing else {}
        # A material that has tasks but no summary cannot be used.
        materials = {identifier: moved.get(now, now) for identifier, now in current.items()}
        material_of = {identifier: material for identifier, material in materials.items() if material in documents}
        batch = {"material_of": material_of, "documents": documents}
        with atomic_write(path, "wb") as file:
            file.write(gzip.compress(json.dumps(batch).encode(), mtime=0))
        return batch


def _read(path: Path) -> dict[str, Any] | None:
    """Return a batch, or ``None`` if it is not there, or damaged."""
    try:
        return dict(json.loads(gzip.decompress(path.read_bytes())))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError) as error:
        warnings.warn(f"{path}: is damaged ({error}), and downloaded anew", stacklevel=2)
        return None


def _read_ids(ids: str | Sequence[str] | None, where: str) -> list[str]:
    """Return ids from a list, or from the first column of a file without a header."""
    if not ids:
        raise DataError("ids or criteria are needed", where=where)
    listed: dict[str, str] = {}
    if isinstance(ids, str):
        lines = Path(ids).read_text(encoding="utf-8").splitlines()
        listed = {
            f"{ids}:{n}": line.split(",")[0].strip().strip('"') for n, line in enumerate(lines, 1) if line.strip()
        }
    else:
        listed = {f"{where}.{index}": identifier for index, identifier in enumerate(ids)}
    if not listed:
        raise DataError("the file has no ids", where=where, value=ids)
    problems = [
        Problem(place, "is not an id of the Materials Project", identifier, "such as mp-149")
        for place, identifier in listed.items()
        if not re.fullmatch("[A-Za-z]+-[0-9A-Za-z]+", identifier)
    ]
    if problems:
        raise DataError(problems=problems)
    return list(listed.values())
