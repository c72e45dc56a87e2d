"""What `kimgnn tasks` trains: every head alone, all together, and all together weighed or shared in other ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import numpy as np

from kimgnn.errors import ManifestError
from kimgnn.evaluation.tasks import ALONE, TOGETHER
from kimgnn.manifest import load_manifest
from kimgnn.models.tasks import head_name
from kimgnn.nn.states import state_inputs_of
from kimgnn.training.experiments import Experiment, Member

BALANCES: Final = ("fixed", "inverse_spread", "uncertainty")
SPLIT_DEPTH: Final = "split_depth="
VARIANTS: Final = f"{', '.join(BALANCES)}, {SPLIT_DEPTH}N"


def alone(manifest: Mapping[str, Any]) -> dict[str, Member]:
    """Return head -> the manifest with this head only, which counts 1.

    A learned balance has nothing to balance there, and is left out.

    Raises:
        ManifestError: There is one head or none, or a file weighs labels that a single head does not learn.
    """
    heads = manifest["model"]["heads"]
    if len(heads) < 2:
        raise ManifestError(
            "one head has nothing to share", where="model.heads", remedy="Name two or more, or use kimgnn train."
        )
    with_energy = any(head["type"] == "energy" for head in heads)
    files = [manifest["dataset"]["weights"], manifest["training"]["loss"]["weights"]]
    if with_energy and any(isinstance(weights, str) for weights in files):
        raise ManifestError(
            "a file of weights cannot be divided among the heads",
            where="training.loss.weights",
            value=next(weights for weights in files if isinstance(weights, str)),
            remedy="Give the weights in the manifest.",
        )
    return {head_name(head): _single(manifest, head) for head in heads}


def together(manifest: Mapping[str, Any], variants: Sequence[str]) -> list[Member]:
    """Return all heads together, as the manifest has them and then in each variant that is not the same.

    Raises:
        ManifestError: There is no such variant, or the manifest cannot be trained in it.
    """
    members = [Member(TOGETHER, dict(manifest))]
    for variant in variants:
        changed = deepcopy(dict(manifest))
        depth = variant.removeprefix(SPLIT_DEPTH)
        if variant in BALANCES:
            changed["training"]["loss"]["balance"] = variant
        elif depth != variant and depth.isdecimal():
            changed["model"]["split_depth"] = int(depth)
        else:
            raise ManifestError("there is no such variant", where="--variants", value=variant, allowed=VARIANTS)
        member = Member(f"{TOGETHER}, {variant}", load_manifest(changed).to_dict())
        if member.key not in {other.key for other in members}:
            members.append(member)
    return members


def losses_alone(experiment: Experiment, singles: Mapping[str, Member]) -> dict[str, float]:
    """Return head -> the lowest loss that it reaches alone, the mean over seeds; without those that have none."""
    losses = {name: [run["loss"] for run in experiment.runs_of(member)] for name, member in singles.items()}
    return {name: float(np.mean(found)) for name, found in losses.items() if found}


def learned_balance(experiment: Experiment, members: Sequence[Member]) -> dict[str, float]:
    """Return label or head -> what a learned balance multiplies its loss with, the geometric mean over seeds.

    Of the first member that has such a balance; empty where none has.
    """
    for member in members:
        found = [run["balance"] for run in experiment.runs_of(member) if run["balance"]]
        if found:
            return {name: float(np.exp(np.mean([np.log(balance[name]) for balance in found]))) for name in found[0]}
    return {}


def residuals(experiment: Experiment, member: Member) -> dict[str, np.ndarray[Any, Any]]:
    """Return head -> prediction minus label of the test structures ``(n,)``, the mean over seeds; NaN where missing."""
    found = experiment.values_of(member)
    names = [key.removesuffix(" label") for key in (found[0] if found else {}) if key.endswith(" label")]
    return {
        name: np.mean([arrays[f"{name} prediction"] - arrays[f"{name} label"] for arrays in found], axis=0)
        for name in names
    }


def _single(manifest: Mapping[str, Any], head: Mapping[str, Any]) -> Member:
    changed = deepcopy(dict(manifest))
    loss = changed["training"]["loss"]
    if loss["balance"] == "uncertainty":
        loss["balance"] = "fixed"
    if head["type"] != "energy":
        head = dict(head) | {"weight": 1.0}
        if not isinstance(loss["weights"], str):
            loss["weights"] = {"config": loss["weights"]["config"]}
        if changed["dataset"]["weights"] is not None and not isinstance(changed["dataset"]["weights"], str):
            changed["dataset"]["weights"] = {"config": changed["dataset"]["weights"]["config"]}
        changed["transforms"]["property"] = []  # of energy, forces and stress
    composition = changed["model"]["composition"]
    if composition and composition["fusion"] == "late" and (head["type"] == "energy" or head.get("per_atom")):
        changed["model"]["composition"] = None  # it has no forest beside it among the others either
    read = {head.get("target"), *(state.name for state in state_inputs_of(changed["model"]["options"]))}
    targets = changed["dataset"]["targets"]
    changed["dataset"]["targets"] = {name: column for name, column in targets.items() if name in read}
    changed["model"]["heads"] = [dict(head)]
    changed["model"]["split_depth"] = 0
    return Member(f"{ALONE}: {head_name(head)}", load_manifest(changed).to_dict())
