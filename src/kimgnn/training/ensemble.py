"""Ensembles: networks trained from one manifest and one division of the data by as many seeds, as one network.

Each member is an ordinary run in ``members/`` of the ensemble's run directory: it goes on where it was stopped, and one
that is finished is not trained again. Members are trained one after another on data and graphs that are read once, or
several at a time, each by a process of its own, as many as `training.devices` says: on a GPU each, or on the CPU.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from kliff.dataset import Configuration
from loguru import logger

from kimgnn.errors import TrainingError
from kimgnn.evaluation.run_report import Timing
from kimgnn.files import atomic_write
from kimgnn.models.checkpoint import ENTRY, load_checkpoint
from kimgnn.models.ensemble import Ensemble
from kimgnn.models.network import NetworkSpec
from kimgnn.training.checkpoint_io import AtomicCheckpointIO
from kimgnn.training.continuation import check_same_data, check_same_division, check_same_network
from kimgnn.training.lightning_run import choose_accelerator
from kimgnn.training.run_directory import MEMBERS, RunDirectory, newest_run, process_rank
from kimgnn.training.trainer import SPLITS, GNNLightningTrainer

TIMING: Final = "timing.json"
"""In a member's run directory: how long its training took."""

PATIENCE: Final = 60.0
"""Seconds that a process has to end after Ctrl-C, before it is killed."""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        index: From 0.
        manifest: Its own, plain.
    """

    index: int
    manifest: dict[str, Any]

    def __str__(self) -> str:
        return f"Network {self.index + 1} (seed {self.manifest['workspace']['seed']})"

    @property
    def folder(self) -> Path:
        """Where its run directory is."""
        return Path(self.manifest["workspace"]["name"])

    @property
    def name(self) -> str:
        """What its run is called."""
        return str(self.manifest["model"]["name"])

    @property
    def run(self) -> RunDirectory | None:
        """Its run, if it was begun."""
        return newest_run(self.folder, self.name)

    @property
    def finished(self) -> bool:
        """Whether its run came to its end."""
        return self.run is not None and self.run.finished


class MemberTrainer(GNNLightningTrainer):
    """Trains a member: an ordinary run, without a report.

    Args:
        manifest: The member's.
        member: Its index: which of the members of an ensemble its initial weights are, where they are one's.
        ensemble: Whose data and graphs it takes; it reads its own when absent.
    """

    def __init__(
        self, manifest: Mapping[str, Any], member: int = 0, ensemble: GNNLightningTrainer | None = None
    ) -> None:
        self.member = member
        self._ensemble = ensemble
        super().__init__(manifest)

    def _read_dataset(self) -> list[Configuration]:
        return super()._read_dataset() if self._ensemble is None else self._ensemble.dataset.configs

    def _read_separately(self, path: str | list[str], where: str) -> list[Configuration]:
        if self._ensemble is None:
            return super()._read_separately(path, where)
        return self._ensemble.splits[where.removeprefix("training.").removesuffix("_dataset")]

    def _make_graphs(self) -> dict[str, Any]:
        return super()._make_graphs() if self._ensemble is None else self._ensemble.graphs

    def _write_report(self) -> None:
        """Write how long it took, and no report: the ensemble's tells."""
        timing = self._timing()
        if timing is not None:
            with atomic_write(self.run.path / TIMING) as file:
                json.dump(asdict(timing), file)


def train_members(ensemble: GNNLightningTrainer) -> bool:
    """Train what is left of an ensemble's members, and put them together into its best checkpoint.

    Args:
        ensemble: The trainer of a manifest with `model.ensemble`; its run directory is locked.

    Returns:
        Whether all members came to their ends, and none was stopped by `training.max_time`.

    Raises:
        TrainingError: A member cannot be trained, or was begun with other data; this process is one of several.
        KeyboardInterrupt: Ctrl-C was pressed; members go on from their last epochs next time.
    """
    if process_rank() > 0 or int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise TrainingError(
            "an ensemble starts its processes itself",
            where="model.ensemble",
            remedy="Start one process, and say in training.devices how many networks are trained at a time.",
        )
    check_same_division({SPLITS[split]: indices for split, indices in ensemble.indices.items()}, ensemble.run.path)
    ensemble.run.checkpoints.mkdir(exist_ok=True)  # makes it a run that can be gone on with
    members = [Member(index, _manifest_of(ensemble, index)) for index in range(_size(ensemble))]
    left = [member for member in members if not member.finished]
    if len(left) < len(members):
        logger.info(f"{len(members) - len(left)} of {len(members)} networks are trained already.")
    places = _places(ensemble, len(left))
    chosen = isinstance(ensemble.training_manifest["devices"], list)  # this process would take the first that it sees
    try:
        if len(places) > 1 or (places and chosen):
            _train_in_processes(left, places, len(members))
        else:
            for member in left:
                logger.info(
                    f"Network {member.index + 1} of {len(members)}, seed {member.manifest['workspace']['seed']}"
                )
                MemberTrainer(member.manifest, member.index, ensemble).train()
    except KeyboardInterrupt:
        done = sum(member.finished for member in members)
        logger.warning(
            f"Interrupted, with {done} of {len(members)} networks trained. To go on, call train() again, or set "
            f"workspace.resume to true, or to {str(ensemble.run.path)!r}."
        )
        raise
    _assemble(ensemble, members)
    return all(member.finished for member in members)


def timing_of(ensemble: GNNLightningTrainer) -> Timing | None:
    """Return how long the networks of an ensemble took, added up; nothing if one does not tell."""
    runs = [Member(index, _manifest_of(ensemble, index)).run for index in range(_size(ensemble))]
    files = [run.path / TIMING for run in runs if run is not None and (run.path / TIMING).is_file()]
    if len(files) < len(runs):
        return None
    found = [Timing(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
    usual = float(np.median([one.seconds_per_epoch for one in found]))
    rate = float(np.median([one.structures_per_second for one in found]))
    devices = ", ".join(dict.fromkeys(one.device for one in found))
    return Timing(sum(one.seconds for one in found), sum(one.epochs for one in found), usual, rate, devices, len(found))


def _size(ensemble: GNNLightningTrainer) -> int:
    return int(ensemble.model_manifest["ensemble"])


def _manifest_of(ensemble: GNNLightningTrainer, index: int) -> dict[str, Any]:
    """Return a member's manifest: one network, a seed of its own, the ensemble's division of the data."""
    plain = deepcopy(ensemble.manifest.to_dict())
    seed = (plain["workspace"]["seed"] + index) % 2**32
    plain["workspace"] |= {"name": str(ensemble.run.path / MEMBERS), "seed": seed, "resume": True}
    plain["dataset"]["save"] = False
    plain["model"] |= {"name": f"member_{index + 1}", "ensemble": 1, "uncertainty": None}
    for split, name in SPLITS.items():
        block = f"{'training' if split == 'train' else split}_dataset"
        own = plain["training"][block].get("path")
        indices = {f"{name}_indices": str(ensemble.run.path / f"{name}_indices.txt")} if ensemble.indices[split] else {}
        plain["training"][block] = {"path": own} if own else indices
    plain["training"]["devices"] = 1
    return plain


def _places(ensemble: GNNLightningTrainer, n_left: int) -> list[dict[str, str]]:
    """Return the environment of each process that is to train; one where this process trains them all."""
    devices = ensemble.training_manifest["devices"]
    on_gpus = choose_accelerator(ensemble.training_manifest["accelerator"]) == "cuda"
    if not on_gpus:
        count = len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices
        threads = str(max(1, torch.get_num_threads() // count))
        return [{"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}] * min(count, n_left)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]
    if isinstance(devices, list):
        there = [there[index] for index in devices]
    elif devices != "auto":
        there = there[:devices]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in there[:n_left]]


def _train_in_processes(members: Sequence[Member], places: Sequence[Mapping[str, str]], size: int) -> None:
    """Train members, a process each, as many at a time as there are places.

    Raises:
        TrainingError: One could not be trained; the others are stopped, and go on next time.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    waiting, free = list(members), list(places)
    running: list[tuple[Member, Mapping[str, str], subprocess.Popen[bytes]]] = []
    with _stopped_in_the_end(running):
        while waiting or running:
            while waiting and free:
                member, place = waiting.pop(0), free.pop(0)
                running.append((member, place, _start(member, place)))
                logger.info(f"{member} of {size}: training begins; log in {_log(member)}")
            time.sleep(0.1)
            for entry in [entry for entry in running if entry[2].poll() is not None]:
                member, place, process = entry
                running.remove(entry)
                free.append(place)
                if process.returncode == 130:
                    raise KeyboardInterrupt
                if process.returncode:
                    raise _failure(member, process.returncode)
                logger.info(f"{member} of {size}: training ended.")


@contextmanager
def _stopped_in_the_end(running: Sequence[tuple[Any, Any, subprocess.Popen[bytes]]]) -> Iterator[None]:
    """Leave no process behind, whatever ends this one: each is asked to stop, and killed if it does not."""
    try:
        yield
    finally:
        for *_, process in running:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for *_, process in running:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _log(member: Member) -> Path:
    return member.folder / f"{member.name}.log"


def _start(member: Member, place: Mapping[str, str]) -> subprocess.Popen[bytes]:
    member.folder.mkdir(exist_ok=True)
    asked = member.folder / f"{member.name}.json"
    with atomic_write(asked) as file:
        json.dump({"manifest": member.manifest, "member": member.index}, file, indent=1)
    command = [sys.executable, "-m", "kimgnn.cli.one_member", str(asked)]
    environment = {name: value for name, value in os.environ.items() if name != "KIMGNN_RUN_DIR"}
    with open(_log(member), "ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env={**environment, **place}
        )


def _failure(member: Member, status: int) -> TrainingError:
    why = f"by signal {-status}" if status < 0 else f"with status {status}"
    lines = _log(member).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    return TrainingError(
        f"network {member.index + 1} could not be trained: its process ended {why}{said}",
        where=str(_log(member)),
        remedy="Correct it, and call train() again: what is trained is kept.",
    )


def _assemble(ensemble: GNNLightningTrainer, members: Sequence[Member]) -> None:
    """Write the best checkpoint of the ensemble, of its members' best weights.

    Raises:
        TrainingError: A member was trained on other data, or is another network.
    """
    description, networks = ensemble._description(), []
    spec: NetworkSpec = replace(ensemble.spec, members=1)  # type: ignore[type-var, assignment]
    for member in members:
        run = member.run
        if run is None:
            raise TrainingError("this network has no checkpoint", where=str(member.folder / member.name))
        trained = load_checkpoint(run.best)
        check_same_data(trained.data, description["data"])
        check_same_network(trained.spec.to_dict(), spec)
        if _same_but_for_rounding(trained.spec.to_dict(), spec.to_dict()):
            trained.network.spec = spec
        networks.append(trained.network)
    state = Ensemble(networks).state_dict()
    content = {
        ENTRY: description | {"metrics": {}},
        "state_dict": {f"potential.network.{name}": value for name, value in state.items()},
    }
    AtomicCheckpointIO().save_checkpoint(content, ensemble.run.best)


def _same_but_for_rounding(one: Any, other: Any) -> bool:
    """Return whether plain values are the same; numbers that are fitted end otherwise on another number of threads."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_but_for_rounding(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_but_for_rounding, one, other))
    return bool(one == other)
