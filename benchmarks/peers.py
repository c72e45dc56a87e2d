"""Other packages beside kimgnn, in one run: potentials as they are evaluated and trained, trainers, property networks.

    pip install 'kimgnn[bench]'
    OMP_NUM_THREADS=1 python benchmarks/peers.py
    OMP_NUM_THREADS=1 python benchmarks/peers.py --rounds 1 --batch-sizes 1 --precisions double --structures 200

Three parts, each of which can be run alone (`--parts`):

- potentials: energies and forces ("evaluate"), and the loss, its gradient and Adam's step ("train"), of one batch of
  rattled 64-atom silicon cells with neighbours found beforehand, the same cutoff and loss for all. PyG's SchNet and
  SchNetPack's are the same network as ours with the same weights, which is checked; MACE and M3GNet are others, of
  their usual sizes, more costly and, for as many structures to learn from, often more accurate.
- trainers: a step in KLIFF's own trainer beside ours, the same network: train_vs_kliff.py.
- properties: a step of CGCNN beside the same network of PyG's CGConv: cgcnn_vs_pyg.py, with more to choose.

What is compared takes turns, round after round; "times ours" and "times tables" (`training.tabulate`) are ratios of
rounds. A package that is not there, or that cannot be imported, has a row with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import nn

import cgcnn_vs_pyg
import train_vs_kliff
from harness import (
    BESIDE,
    CLOCKS,
    Results,
    arguments_of,
    bars_beside,
    in_child,
    in_turn,
    installed,
    nothing,
    with_clock,
)
from kimgnn.training.lightning_run import keep_freed_memory
from peer_networks import DTYPES, MACE, M3GNet, Ours, PyG, SchNetPack, WithTables, batch_of, cells, step_of

OURS, TABLES = "kimgnn SchNet", "kimgnn SchNet, tables"
PEERS: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    OURS: ("kimgnn", Ours),
    TABLES: ("kimgnn", WithTables),
    "PyG SchNet": ("torch_geometric", PyG),
    "SchNetPack SchNet": ("schnetpack", SchNetPack),
    "MACE": ("mace-torch", MACE),
    "MatGL M3GNet": ("matgl", M3GNet),
}
"""Name -> its package, and what makes it."""

SAME = (OURS, TABLES, "PyG SchNet", "SchNetPack SchNet")
"""Those that are the same function."""

LIMITS = {"double": 1e-9, "single": 1e-3}
"""How far apart energies and forces of the same function may be, of the largest."""

PARTS = ("potentials", "trainers", "properties")


def call_of(name: str, module: nn.Module, graph: Any, training: bool) -> Callable[[], object]:
    """Return a function that takes a training step, or computes energies and forces."""
    module.train(training)
    return step_of(module, graph) if training else lambda: module(graph)


def three_times(name: str, precision: str, size: int, cutoff: float, training: bool) -> None:
    """Do it three times, for the memory that it takes."""
    quietly()
    structures = cells(size)
    call = call_of(name, PEERS[name][1](precision, structures, cutoff), batch_of(structures, cutoff), training)
    for _ in range(3):
        call()


def quietly() -> None:
    """Do without messages, also of what peers are compiled from, and keep freed memory as a training does."""
    logger.remove()
    warnings.simplefilter("ignore")
    keep_freed_memory()


def main() -> None:
    parser = with_clock(arguments_of(__doc__, rounds=5))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], help="of potentials and trainers")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--cutoff", type=float, default=5.0, help="of potentials and trainers, Å")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS)[2:], default=list(PEERS)[2:])
    parser.add_argument("--table", type=Path, help="of the property: perov_5_train.csv.gz; without it, made up")
    parser.add_argument("--structures", type=int, default=2000, help="of the property")
    options = parser.parse_args()
    quietly()
    results = Results("peers", f"Peers beside kimgnn: 64-atom Si, {options.cutoff} Å; 5-atom perovskites", BESIDE)
    results.machine["packages"] |= {package: installed(package) for package, _ in PEERS.values()}
    if "potentials" in options.parts:
        reasons = {name: unavailable(name) for name in options.peers}
        names = [OURS, TABLES, *(name for name, reason in reasons.items() if not reason)]
        for precision in options.precisions:
            for size in options.batch_sizes:
                potentials(results, names, precision, size, options.cutoff, options.rounds, options.clock)
        for name, reason in reasons.items():
            if reason:
                results.add(network=f"{name}: not measured: {reason}")
    if "trainers" in options.parts:
        for size in options.batch_sizes:
            train_vs_kliff.measure(results, options.precisions, size, options.cutoff, options.rounds, options.clock)
    if "properties" in options.parts:
        cgcnn_vs_pyg.measure(results, options.table, options.structures, 64, options.rounds, options.clock)
    print(f"a process that has only imported: {in_child(nothing)[1]:.0f} MiB")
    results.write(options.output, bars_beside)


def unavailable(name: str) -> str:
    """Return why a peer cannot be measured; nothing where it can."""
    package, make = PEERS[name]
    try:
        make("double", cells(1), 3.0)  # which imports it
    except ImportError as error:
        return f"{package} {installed(package) or 'is not installed'} ({error})"
    return ""


def potentials(
    results: Results, names: Sequence[str], precision: str, size: int, cutoff: float, rounds: int, clock: str
) -> None:
    """Add rows of energies and forces, and of training steps."""
    structures = cells(size)
    graph = batch_of(structures, cutoff)
    torch.manual_seed(0)
    made = {name: PEERS[name][1](precision, structures, cutoff) for name in names}
    require_same(made, graph, precision)
    for training, what in ((False, "evaluate"), (True, "train")):
        calls = {name: call_of(name, module, graph, training) for name, module in made.items()}
        if not training:
            calls.pop(TABLES)  # which are there in training steps only
        times = in_turn(calls, rounds, clock=CLOCKS[clock])
        memory = {name: in_child(three_times, name, precision, size, cutoff, training)[1] for name in calls}
        results.add_beside(times, memory, what=what, precision=precision, batch=size)


def require_same(made: dict[str, nn.Module], graph: Any, precision: str) -> None:
    """Refuse to compare networks that should be the same function, and are not."""
    found = {name: made[name].eval()(graph) for name in SAME if name in made}
    for name, theirs in found.items():
        off = max(
            float((one - other).detach().abs().max() / one.detach().abs().max())
            for one, other in zip(found[OURS], theirs, strict=True)
        )
        if not off < LIMITS[precision]:
            raise SystemExit(f"{name} is another function by {off:.0e} of its results: its time says nothing")


if __name__ == "__main__":
    main()
