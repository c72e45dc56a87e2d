"""Trainings of several manifests on the same splits, with several seeds, and the file that keeps their results.

`begin` checks that they can be compared and opens the file or goes on with it; `Experiment.pending` says what is left
to train, `kimgnn.training.measured_training` trains one of them, and `Experiment.record` keeps what came out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from loguru import logger

from kimgnn.data.magpie import magpie_table
from kimgnn.data.statistics import species_of
from kimgnn.errors import ManifestError, TrainingError
from kimgnn.evaluation.comparison import RunRow
from kimgnn.files import atomic_write
from kimgnn.manifest import load_manifest, manifest_hash
from kimgnn.models.tasks import Task, tasks_of
from kimgnn.training.measured_training import RUNS, VALUES
from kimgnn.training.shared_data import (
    BLOCKS,
    Division,
    SharedData,
    check_same,
    divide,
    measured,
    read_shared,
    shortened,
)

RESULTS: Final = "results.json"

VERSION: Final = 1
"""Of the file of results."""

_MEANINGLESS: Final = {
    "dataset": ("path", "cache", "save", "save_path", "dynamic_loading", "shuffle"),
    "model": ("name", "ensemble"),
    "training": (*BLOCKS.values(), "verbose", "ckpt_interval"),
}
"""What changes neither the network nor what it is trained on (the data and splits are compared by content)."""

_SOURCE: Final = ("type", "path", "slices", "table", "colabfit_dataset", "materials_project", "on_error")
"""Where structures come from, in `dataset`."""


@dataclass(frozen=True)
class Member:
    """One manifest of those that are compared.

    Attributes:
        label: What it is called.
        manifest: Plain, every default filled.
    """

    label: str
    manifest: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """A hash of all that matters for its results, the same wherever the data lie."""
        kept = {block: dict(values) for block, values in self.manifest.items() if block not in ("workspace", "export")}
        for block, names in _MEANINGLESS.items():
            kept[block] = {key: value for key, value in kept[block].items() if key not in names}
        return manifest_hash(_said(kept))


@dataclass(frozen=True)
class Job:
    """A training that is left to do.

    Attributes:
        member: Whose.
        seed: Of its weights.
        manifest: What to train, with the splits and the seed.
        structures: Hash of the structures that it reads.
    """

    member: Member
    seed: int
    manifest: dict[str, Any]
    structures: str

    @property
    def name(self) -> str:
        """Names its files."""
        return str(self.manifest["model"]["name"])


def member_of(path: Path, label: str | None = None) -> Member:
    """Return the member that a manifest's file is, called as the file unless told otherwise.

    Raises:
        ManifestError: The manifest is wrong, or takes several devices.
    """
    manifest = load_manifest(path).to_dict()
    if manifest["training"]["devices"] not in ("auto", 1):
        raise ManifestError(
            "networks are compared on one device",
            where=f"{path}: training.devices",
            value=manifest["training"]["devices"],
            allowed="auto, 1",
        )
    if manifest["model"]["ensemble"] > 1:
        raise ManifestError(
            "networks are compared, and each of them with several seeds",
            where=f"{path}: model.ensemble",
            value=manifest["model"]["ensemble"],
            allowed="1",
        )
    return Member(label or path.stem, manifest)


class Experiment:
    """Members, seeds, and what is known of them; made by `begin`.

    Attributes:
        folder: Gets results, index files and run directories.
        members: Those that were asked for.
        seeds: Those that were asked for.
        data: The structures, as the first member reads them, without those that another one cannot use.
        division: Who is in which part.
    """

    def __init__(
        self,
        folder: Path,
        members: Sequence[Member],
        seeds: Sequence[int],
        data: SharedData,
        division: Division,
        content: dict[str, Any],
        own: Mapping[str, SharedData],
    ) -> None:
        self.folder = folder
        self.members = list(members)
        self.seeds = list(seeds)
        self.data = data
        self.division = division
        self._content = content
        self._hashes = {key: read.structures for key, read in own.items()}
        self._blocks = {}
        for key, read in own.items():
            # Who reads more than is divided has other indices.
            place = folder / "splits" / ("" if read.structures == data.structures else read.structures[:12])
            self._blocks[key] = division.within(read.positions(set(data.identifiers))).write_indices(place)

    def pending(self) -> list[Job]:
        """Return the trainings that have no result yet, seed by seed; one that failed is tried again."""
        done = {(run["member"], run["seed"]) for run in self._content["runs"] if "error" not in run}
        jobs = []
        for seed in self.seeds:
            for member in self.members:
                if (member.key, seed) not in done:
                    jobs.append(Job(member, seed, self._manifest(member, seed), self._hashes[member.key]))
        return jobs

    def record(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Keep what came out of a training, in the place of what came out of it before."""
        place = {"member": job.member.key, "seed": job.seed}
        runs = self._content["runs"]
        runs[:] = [run for run in runs if (run["member"], run["seed"]) != (job.member.key, job.seed)]
        runs.append(place | dict(outcome))
        self._content["members"][job.member.key] = asdict(job.member)
        write_results(self.folder / RESULTS, self._content)

    @property
    def tasks(self) -> list[Task]:
        """What the heads of all members predict, each head once, those of earlier calls included."""
        heads: dict[str, list[Task]] = {}
        for member in self._known():
            for task in tasks_of(member.manifest["model"]["heads"]):
                heads.setdefault(task.name, []).append(task)
        return [found[0] for found in heads.values()]

    def rows(self, asked_only: bool = False) -> list[RunRow]:
        """Return every training that is in the file, by member and seed.

        Args:
            asked_only: Leave out members and seeds of earlier calls.
        """
        keys = [member.key for member in self._known()]
        labels = self._labels()
        asked = {member.key for member in self.members}
        rows = []
        for run in sorted(self._content["runs"], key=lambda run: (keys.index(run["member"]), run["seed"])):
            if not asked_only or (run["member"] in asked and run["seed"] in self.seeds):
                rows.append(row_of(labels[run["member"]], run))
        return rows

    def runs_of(self, member: Member) -> list[dict[str, Any]]:
        """Return what was recorded of a member's trainings with the seeds that were asked for, without failures."""
        return [
            run
            for run in self._content["runs"]
            if run["member"] == member.key and run["seed"] in self.seeds and "error" not in run
        ]

    def values_of(self, member: Member) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Return name -> array of `VALUES` for each of a member's trainings whose directory is still there."""
        found = []
        for run in self.runs_of(member):
            path = self.folder / run["run"] / VALUES
            if path.is_file():
                with np.load(path) as arrays:
                    found.append({name: arrays[name] for name in arrays.files})
        return found

    def _known(self) -> list[Member]:
        """Return members with results, in the order in which they came, then those that have none yet."""
        stored = [Member(**entry) for entry in self._content["members"].values()]
        keys = {member.key for member in stored}
        return stored + [member for member in self.members if member.key not in keys]

    def _labels(self) -> dict[str, str]:
        """Return key -> label; where a manifest was changed, the version of an earlier call gets its hash beside it."""
        labels: dict[str, str] = {}
        for member in [*self.members, *reversed(self._known())]:
            taken = member.label in labels.values()
            labels.setdefault(member.key, f"{member.label} ({member.key[:6]})" if taken else member.label)
        return labels

    def _manifest(self, member: Member, seed: int) -> dict[str, Any]:
        manifest = deepcopy(member.manifest)
        slug = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in member.label)
        manifest["workspace"] = {"name": str(self.folder / RUNS), "seed": seed, "resume": False}
        manifest["model"]["name"] = f"{slug}_seed_{seed}"
        manifest["training"] |= deepcopy(self._blocks[member.key]) | {"devices": 1}
        manifest.pop("export", None)
        return manifest


def begin(folder: Path, members: Sequence[Member], n_seeds: int) -> Experiment:
    """Return the experiment, new or going on with the results that are in the folder.

    The splits are those of the first member, by its own seed; the seeds of the weights count on from that.

    Args:
        folder: Where results are kept; made if missing.
        members: What to train, with labels that differ.
        n_seeds: How often to train each.

    Raises:
        DataError: A structure or a label cannot be used.
        ManifestError: Two members are the same, or not of the same data, or nothing is kept for the test.
        TrainingError: The folder has results of other data or another division of them.
    """
    _check_names(members)
    first = members[0]
    read = {_what_is_read(first): read_shared(first.manifest, first.label)}
    logger.disable("kimgnn.data")  # has told of these files what there is to tell
    try:
        for member in members[1:]:
            key = _what_is_read(member)
            if key not in read:
                # Files of their own are those of the first one.
                read[key] = read_shared(member.manifest | {"training": first.manifest["training"]}, member.label)
    finally:
        logger.enable("kimgnn.data")
    own = {member.label: read[_what_is_read(member)] for member in members}
    used = _used_by_all(members, own)
    _check_all_same(used)
    _check_contents(members)
    data = used[first.label]
    division = divide(data, first.manifest, first.label)
    labels = {name: digest for part in used.values() for name, digest in part.labels.items()}
    summary = {"structures": data.structures, "split": division.digest, "sizes": division.sizes, "labels": labels}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    content: dict[str, Any] = {"version": VERSION, "data": summary, "members": {}, "runs": []}
    if path.is_file():
        content = read_results(path)
    _check_data(content["data"], summary, path)
    _check_measured(content, members, path)
    content["data"]["labels"] |= summary["labels"]
    seed = int(first.manifest["workspace"]["seed"])
    of_member = {member.key: own[member.label] for member in members}
    experiment = Experiment(folder, members, range(seed, seed + n_seeds), data, division, content, of_member)
    if any((job.manifest["model"]["composition"] or {}).get("features") == "magpie" for job in experiment.pending()):
        magpie_table(species_of(data.configurations))  # says what is missing before anything is trained
    return experiment


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a file of results.

    Raises:
        TrainingError: It is none, or one of another version.
    """
    remedy = "Name another folder in --output, or move the file away."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("cannot be read as results of kimgnn", where=str(path), remedy=remedy) from error
    if version != VERSION:
        raise TrainingError(
            "has results in another form", where=str(path), value=version, allowed=f"version {VERSION}", remedy=remedy
        )
    return dict(content)


def write_results(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file of results, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)


def row_of(label: str, run: Mapping[str, Any]) -> RunRow:
    """Return what was recorded of a training as the tables take it."""
    if "error" in run:
        return RunRow(label, run["seed"], error=run["error"])
    names = ("metrics", "seconds", "epochs", "parameters", "memory", "gpu_memory", "device")
    return RunRow(label, run["seed"], **{name: run[name] for name in names})


def _what_is_read(member: Member) -> str:
    """Return the same for members that read the same: labels depend on the heads, and so may what is skipped."""
    model = member.manifest["model"]
    table = model["options"].get("element_features")
    states = model["options"].get("state_inputs")
    return json.dumps([member.manifest["dataset"], model["heads"], table, states], sort_keys=True)


def _used_by_all(members: Sequence[Member], own: Mapping[str, SharedData]) -> dict[str, SharedData]:
    """Return label -> what is read, without what ``on_error: skip`` leaves out of another one's.

    A head that is trained alone reads no other head's labels, and does not know which of those are bad. Members that
    name other files are returned as they are.
    """
    sources = [[member.manifest["dataset"].get(name) for name in _SOURCE] for member in members]
    if members[0].manifest["dataset"]["on_error"] != "skip" or any(source != sources[0] for source in sources):
        return dict(own)
    identifiers = [set(data.identifiers) for data in own.values()]
    common = set.intersection(*identifiers)
    left_out = set.union(*identifiers) - common
    if not left_out:
        return dict(own)
    logger.warning(
        f"{len(left_out)} structures are left out of all trainings, as not all can use them: {shortened(left_out)}."
    )
    restricted = {id(data): data.only(common) for data in own.values()}
    return {label: restricted[id(data)] for label, data in own.items()}


def _check_all_same(used: Mapping[str, SharedData]) -> None:
    """Compare each with all before it: two may have a head that the first has not."""
    before: list[tuple[str, SharedData]] = []
    for label, data in used.items():
        for earlier, other in before:
            if other is not data:
                check_same(other, data, (earlier, label))
        before.append((label, data))


def _said(node: Any) -> Any:
    """Leave out what is absent, so that a key that kimgnn learns later does not change the hash."""
    if isinstance(node, dict):
        return {key: _said(value) for key, value in node.items() if value is not None}
    return [_said(value) for value in node] if isinstance(node, list) else node


def _check_names(members: Sequence[Member]) -> None:
    labels = [member.label for member in members]
    for label in labels:
        if labels.count(label) > 1:
            raise ManifestError("two manifests have this name", value=label, remedy="Rename one of the files.")


def _check_contents(members: Sequence[Member]) -> None:
    labels: dict[str, str] = {}
    for member in members:
        if member.key in labels:
            raise ManifestError(
                f"is the same manifest as {labels[member.key]}, but for names and paths", where=member.label
            )
        labels[member.key] = member.label


def _check_data(stored: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to add to results of other data, other labels or another division of them."""
    what = None
    if stored["structures"] != now["structures"]:
        what = "other structures"
    elif stored["split"] != now["split"]:
        sizes = ["train {train}, validate {val}, test {test}".format(**data["sizes"]) for data in (stored, now)]
        what = f"other splits ({sizes[0]}; those of the first manifest are {sizes[1]})"
        if sizes[0] == sizes[1]:
            what = "other splits, though of the same sizes"
    else:
        heads = [name for name, digest in now["labels"].items() if stored["labels"].get(name, digest) != digest]
        if heads:
            what = f"other labels of {', '.join(heads)}"
    if what:
        raise TrainingError(
            f"has results of {what}",
            where=str(path),
            remedy="Name first the manifest that they were begun with, with its seed, or another folder in --output.",
        )


def _check_measured(content: Mapping[str, Any], members: Sequence[Member], path: Path) -> None:
    """Refuse to add to results of a head of this name that predicts something else, in another unit for one."""
    done = {run["member"] for run in content["runs"] if "error" not in run}
    stored = [entry["manifest"]["model"]["heads"] for key, entry in content["members"].items() if key in done]
    before = {task.name: measured(task) for heads in stored for task in tasks_of(heads)}
    for member in members:
        for task in tasks_of(member.manifest["model"]["heads"]):
            if before.get(task.name, measured(task)) != measured(task):
                raise TrainingError(
                    f"has results of a head {task.name!r} that predicts something else than that of {member.label}",
                    where=str(path),
                    value=before[task.name],
                    allowed=str(measured(task)),
                    remedy="Give the head another name, or name another folder in --output.",
                )
