"""Active learning, round after round: train, explore, choose, label.

Whatever is done is in a file before the next thing begins, so that it may be stopped at any time, and goes on:

    <model.name>_active/
        state.json           what is done
        data/                the data set's parts
        round_00/data/<arm>  what the round trains on
        round_00/explored/   a file for each trajectory
        round_00/pool.extxyz the structures to choose from
        round_00/labels/     a file for each label
        runs/                run directories
        active.csv, .md, .png
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from loguru import logger

from kimgnn.active.committee import judge
from kimgnn.active.exchange import take_results, write_selected
from kimgnn.active.explore import explore
from kimgnn.active.frames import NAME, bare, read_frames, write_frames
from kimgnn.active.label import FAILED, SUFFIX, calculator_factory, label_all
from kimgnn.active.select import select
from kimgnn.active.state import ACTIVE, RANDOM, Round, State, load_state, save_state
from kimgnn.active.training import divide, train, training_manifest, validation_share, write_data
from kimgnn.data.sources import read_structures
from kimgnn.errors import ManifestError
from kimgnn.evaluation.active import ArmRow, write_curves
from kimgnn.manifest import load_manifest, manifest_hash
from kimgnn.manifest.active import Active
from kimgnn.manifest.schema import Manifest
from kimgnn.manifest.source import read_yaml
from kimgnn.manifest.trial import with_values
from kimgnn.models.checkpoint import load_checkpoint

MAY_CHANGE: Final = {"rounds", "labels", "threshold", "label"}
"""Of the `active` block, from one call to the next."""


@dataclass(frozen=True)
class Project:
    """What is asked, and where it is.

    Attributes:
        manifest: The manifest.
        folder: Of everything.
        asked: Hash of what may not change.
    """

    manifest: Manifest
    folder: Path
    asked: str

    @property
    def active(self) -> Active:
        """The manifest's block."""
        return self.manifest.active

    @property
    def seed(self) -> int:
        """Of all random numbers."""
        return self.manifest.workspace.seed

    @property
    def arms(self) -> list[str]:
        """What is trained."""
        return [ACTIVE] if self.active.baseline == "none" else [ACTIVE, RANDOM]

    def round_folder(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.folder / f"round_{number:02d}"


def prepare(path: Path) -> Project:
    """Return what a manifest asks for.

    Raises:
        ManifestError: The manifest is wrong, or has no ``active`` block.
    """
    manifest = load_manifest(path)
    if manifest.active == Active():
        raise ManifestError("is missing", where="active", remedy="Say how to explore and who labels.")
    load_manifest(with_values(manifest.to_dict(), manifest.active.retraining))  # now, not after the first round
    # As it is written: where a manifest is called from, files beside it are found by other paths.
    written = load_manifest(read_yaml(path))
    asked = {name: written.to_dict()[name] for name in ("dataset", "transforms", "model", "training")}
    active = written.active.model_dump(mode="json", exclude=MAY_CHANGE)
    asked |= {"active": active, "seed": manifest.workspace.seed, "data": _content(manifest.dataset.path)}
    folder = Path(manifest.workspace.name) / f"{manifest.model.name}_active"
    return Project(manifest, folder, manifest_hash(asked))


def _content(paths: str | list[str] | None) -> list[str]:
    """Return the SHA-256 of each data file; of what is no file, nothing."""
    found = []
    for path in map(Path, [paths] if isinstance(paths, str) else paths or []):
        if path.is_file():
            with open(path, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


def go_on(project: Project, retry_failed: bool = False) -> State:
    """Do what is left to do, until a limit is reached or labels are waited for.

    Args:
        project: What is asked.
        retry_failed: Have structures labelled whose labels failed before, of all rounds.

    Raises:
        ManifestError: Labels that are to be tried again come from a folder.
        DataError: Labels cannot be computed, or results from elsewhere are missing or wrong.
        TrainingError: The folder belongs to something else, or a training failed.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    state = load_state(project.folder, project.asked)
    divide(project.manifest, project.folder / "data")
    state.stopped = ""  # a limit may have been raised
    if retry_failed:
        _retry(project, state)
    while not state.stopped:
        _train(project, state)
        write_curves(project.folder, curve_rows(state), project.active.threshold)
        state.stopped = _limit(project.active, state) or _choose(project, state)
        save_state(project.folder, state)
        if not state.stopped and not _label(project, state, retry_failed):
            break
    return state


def curve_rows(state: State) -> list[ArmRow]:
    """Return a row for each training."""
    return [
        ArmRow(arm, number, state.labels(arm, number), one.n_train[arm], one.metrics[arm], one.pool, one.unsure,
               one.largest, one.median, len(one.chosen.get(arm, ())))
        for number, one in enumerate(state.rounds) for arm in one.runs
    ]  # fmt: skip


def _train(project: Project, state: State) -> None:
    number, one = len(state.rounds) - 1, state.rounds[-1]
    for arm in project.arms:
        if arm in one.runs:
            continue
        if number == 0 and one.runs:  # nothing was chosen yet: all arms begin with one training
            one.runs[arm], one.metrics[arm], one.n_train[arm] = (
                one.runs[ACTIVE], one.metrics[ACTIVE], one.n_train[ACTIVE])  # fmt: skip
            continue
        data = project.round_folder(number) / "data" / arm
        labelled = [_labelled(project, before.new_labels(arm)) for before in state.rounds if before.labelled]
        n_train = write_data(project.folder / "data", data, labelled, validation_share(project.manifest))
        last = state.rounds[-2].runs[arm] if number else None
        name = f"round_{number:02d}_{arm}"
        test = project.folder / "data" / "test.extxyz"
        plain = training_manifest(project.manifest, name, project.folder / "runs", data, last, test)
        logger.info(f"round {number}: training on {n_train} structures ({arm})")
        with _quiet():
            one.runs[arm], one.metrics[arm] = train(plain)
        one.n_train[arm] = n_train
        save_state(project.folder, state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what a single run logs: a training is told in a line."""
    talk = ("kliff", "kimgnn.training.trainer")
    for name in talk:
        logger.disable(name)
    try:
        yield
    finally:
        for name in talk:
            logger.enable(name)


def _limit(active: Active, state: State) -> str:
    """Return which limit is reached, or an empty text."""
    if len(state.rounds) > active.rounds:
        return f"active.rounds: {active.rounds}"
    if active.labels is not None and state.labels() >= active.labels:
        return f"active.labels: {active.labels}"
    return ""


def _choose(project: Project, state: State) -> str:
    """Explore and choose, if that is not done yet; return why there is nothing to choose, or an empty text."""
    active, number, one = project.active, len(state.rounds) - 1, state.rounds[-1]
    if one.chosen:
        return ""
    folder = project.round_folder(number)
    run = Path(one.runs[ACTIVE])
    logger.info(f"round {number}: exploring")
    found = explore(active, _seeds(project), run, folder / "explored", number, project.seed)
    committee = load_checkpoint(run)
    judged = judge(committee, found)
    deviations = judged.of_structures(active.select.by)
    within = judged.of_structures("max") <= active.guards.deviation
    pool = [atoms for atoms, is_within in zip(found, within, strict=True) if is_within]
    deviations = deviations[within]
    features = [found for found, is_within in zip(judged.features, within, strict=True) if is_within]
    write_frames(folder / "pool.extxyz", pool)
    one.pool, one.unsure = len(pool), int((deviations > active.threshold).sum())
    if len(pool):
        one.largest, one.median = float(deviations.max()), float(np.median(deviations))
    labelled = [atoms for path in sorted((folder / "data" / ACTIVE).glob("*.extxyz")) for atoms in read_frames(path)]
    labelled += _labelled(project, one.late.get(ACTIVE, ()))
    known = np.concatenate(judge(committee, labelled).features)
    count = active.select.count if active.labels is None else min(active.select.count, active.labels - state.labels())
    chosen = select(deviations, features, known, count, active.threshold, active.select.apart)
    _tell(number, one, len(found), len(chosen), active.threshold)
    if not chosen:
        return (
            f"active.threshold: no structure of {len(pool)} is new and has a deviation above {active.threshold:g} eV/Å"
        )
    one.chosen = {ACTIVE: [pool[index].info[NAME] for index in chosen]}
    if RANDOM in project.arms:
        drawn = np.random.default_rng([project.seed, number, 3]).choice(len(pool), len(chosen), replace=False)
        one.chosen[RANDOM] = [pool[index].info[NAME] for index in drawn]
    return ""


def _tell(number: int, one: Round, n_found: int, n_chosen: int, threshold: float) -> None:
    deviation = "" if one.largest is None else f", deviations up to {one.largest:.3g} eV/Å (median {one.median:.3g})"
    logger.info(
        f"round {number}: {n_found} structures, {one.pool} within the guards{deviation}; {one.unsure} above "
        f"{threshold:g} eV/Å, {n_chosen} chosen"
    )


def _retry(project: Project, state: State) -> None:
    """Have labelled what failed in earlier rounds; the last round comes to its own, see `_label`."""
    label, last = project.active.label, state.rounds[-1]
    if label.calculator is None:
        remedy = "Put results into the folder's 'results', and leave it out."
        raise ManifestError("is of labels by a calculator", where="--retry-failed", value=label.folder, remedy=remedy)
    make, found = calculator_factory(label.calculator, label.arguments), 0
    for number, one in enumerate(state.rounds[:-1]):
        folder = project.round_folder(number)
        failed = {path.stem for path in (folder / "labels").glob(f"*{FAILED}")}
        # Those that were tried again and came, but were not noted before it was killed, are in neither list.
        pool = [atoms for atoms in read_frames(folder / "pool.extxyz") if atoms.info[NAME] in failed]
        if pool:
            logger.info(f"round {number}: labelling {len(pool)} structures that failed")
            label_all(pool, make, folder / "labels", label.on_error == "skip", retry=True)
        for arm, chosen in one.chosen.items():
            known = {name for before in state.rounds for name in before.new_labels(arm)}
            new = [name for name in chosen if name not in known and _label_file(project, name).exists()]
            last.late[arm] = [*last.late.get(arm, ()), *new]
            found += len(new) if arm == ACTIVE else 0
        save_state(project.folder, state)
    logger.info(f"{found} labels that had failed are there now; the next round trains on them")


def _label(project: Project, state: State, retry: bool) -> bool:
    """Have the chosen structures labelled; return whether they are, so that the next round may begin."""
    number, one, label = len(state.rounds) - 1, state.rounds[-1], project.active.label
    folder = project.round_folder(number)
    names = list(dict.fromkeys(name for chosen in one.chosen.values() for name in chosen))
    pool = {atoms.info[NAME]: atoms for atoms in read_frames(folder / "pool.extxyz")}
    structures, labels = [pool[name] for name in names], folder / "labels"
    labels.mkdir(exist_ok=True)
    if label.calculator is not None:
        logger.info(f"round {number}: labelling {len(structures)} structures")
        make, skip = calculator_factory(label.calculator, label.arguments), label.on_error == "skip"
        label_all(structures, make, labels, skip, retry)
    else:
        exchange = Path(str(label.folder)) / folder.name
        is_new = not exchange.exists()
        write_selected(exchange, structures)
        if is_new:
            logger.info(f"{len(structures)} structures to compute are in {exchange}")
            return False
        take_results(exchange, structures, labels)
    there = {name for name in names if (labels / f"{name}{SUFFIX}").exists()}
    one.labelled = {arm: [name for name in chosen if name in there] for arm, chosen in one.chosen.items()}
    state.rounds.append(Round())
    save_state(project.folder, state)
    return True


def _labelled(project: Project, names: Sequence[str]) -> list[Atoms]:
    return [read_frames(_label_file(project, name))[0] for name in names]


def _label_file(project: Project, name: str) -> Path:
    """Return the file of a label, in the folder of the round in which it was chosen, which the name begins with."""
    return project.round_folder(int(name[1:].partition("_")[0])) / "labels" / f"{name}{SUFFIX}"


def _seeds(project: Project) -> list[Atoms]:
    if project.active.seeds is None:
        return [bare(atoms) for atoms in read_frames(project.folder / "data" / "train.extxyz")]
    return [bare(atoms) for _, atoms in read_structures(project.active.seeds, "active.seeds")]
