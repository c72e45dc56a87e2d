"""What a step must cost on this machine, beside what it costs: operations, bytes, and the time that they would take.

    OMP_NUM_THREADS=1 python benchmarks/floor.py

First the machine: multiply-adds a second of a matrix product in each precision, and bytes a second of a copy. Then, for
training steps (SchNet with forces, with and without tables; CGCNN) and for energies and forces of a crystal, on its
periodic graph and with ghost atoms: the multiply-adds and bytes of the formulas of docs/speed.md ("Mmadd", "MB"), those
that our code does when it runs ("counted", "touched"), the time of the former at the machine's rates ("floor ms"), and
the time that is measured.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from harness import Results, arguments_of, bars, in_turn, median
from kimgnn.calculator import periodic_graph
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.export.contract import ExportedPotential
from kimgnn.export.runtimes import RunnableModel, differentiated
from kimgnn.fields import DISTINCT_EDGES, DISTINCT_OF_LENGTH, EDGE_INDEX
from kimgnn.training.dry_run import count_ghosts
from made_up import schnet, silicon
from training import training_of, write_structures

COLUMNS = {"step": "s", "Mmadd": ".0f", "counted": ".0f", "MB": ".1f", "touched": ".0f", "floor ms": ".2f", "ms": ".1f",
           "times": ".1f"}  # fmt: skip
DTYPES = {"double": torch.float64, "single": torch.float32}
GEOMETRY = 40
"""Bytes that an edge must be read for: two indices and a vector."""

SPLINES = 6
"""Rows of a quintic spline's table that a distance needs."""


@dataclass
class Layer:
    """What one message-passing layer works on: atoms that send, atoms that receive, edges, distances among them."""

    senders: int
    receivers: int
    edges: int
    distances: int


TIMES = {
    "energy and forces": {"from basis": 2, "in filter": 2, "table": 2, "atoms": 2, "messages": 3},
    "training with forces": {"from basis": 5, "in filter": 6, "table": 4, "atoms": 6, "messages": 8},
    "training": {"from basis": 2, "atoms": 3, "messages": 3},
}
"""How often each product of an energy is done, by what is asked for; docs/speed.md says why."""


def schnet_layer(layer: Layer, channels: int, gaussians: int, table: bool) -> dict[str, int]:
    """Return the multiply-adds of a layer's energy."""
    if table:
        filters = {"table": SPLINES * channels * layer.distances}
    else:
        first, second = channels * gaussians * layer.distances, channels * channels * layer.distances
        filters = {"from basis": first, "in filter": second}
    dense = channels * channels * (layer.senders + 2 * layer.receivers)
    return filters | {"atoms": dense, "messages": channels * layer.edges}


def cgcnn_layer(layer: Layer, channels: int, gaussians: int) -> dict[str, int]:
    """Return those of a gated convolution, in which what depends on atoms alone is computed on atoms."""
    dense = 2 * channels * channels * (layer.senders + layer.receivers)
    return {
        "from basis": 2 * channels * gaussians * layer.distances,
        "atoms": dense,
        "messages": channels * layer.edges,
    }


def total(parts: dict[str, int], what: str) -> int:
    """Return the multiply-adds of all that is asked for."""
    return sum(TIMES[what][name] * madds for name, madds in parts.items())


def bytes_of(layer: Layer, channels: int, width: int) -> float:
    """Return the bytes that a layer's pass must move when nothing of an edge's size is kept.

    Each edge gathers its sender's features; each receiver's are read and written; edges are read.
    """
    return width * channels * (layer.edges + 2 * layer.receivers) + GEOMETRY * layer.edges


PASSES = {"energy and forces": 2, "training with forces": 6, "training": 3}
"""How often the edges are gone through."""


class Counter(TorchDispatchMode):
    """Counts multiply-adds of dense products, and bytes that operations read and write; views do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.madds = self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        tensors = [leaf for leaf in tree_flatten((args, kwargs, result))[0] if isinstance(leaf, torch.Tensor)]
        if function.is_view:
            return result
        if all(tensor.layout == torch.strided for tensor in tensors) and function.overloadpacket in flop_registry:
            self.madds += flop_registry[function.overloadpacket](*args, **kwargs, out_val=result) // 2
        self.bytes += sum(tensor.nbytes for tensor in tensors if tensor.layout == torch.strided)
        return result


def counted(call: Callable[[], object]) -> Counter:
    """Return what a call does, once it has been called."""
    call()
    with Counter() as counter:
        call()
    return counter


def rates(rounds: int) -> dict[str, float]:
    """Return multiply-adds a second by precision, and bytes a second of a copy that fits no cache."""
    calls: dict[str, Callable[[], object]] = {}
    for name, dtype in DTYPES.items():
        left, right = (torch.rand(1024, 1024, dtype=dtype) for _ in range(2))
        calls[name] = partial(torch.mm, left, right)
    source, target = torch.rand(2**25), torch.empty(2**25)
    calls["copy"] = partial(target.copy_, source)
    seconds = {name: median(found) for name, found in in_turn(calls, rounds).items()}
    return {"double": 1024**3 / seconds["double"], "single": 1024**3 / seconds["single"],
            "copy": 2 * source.numel() * source.element_size() / seconds["copy"]}  # fmt: skip


def staged(atoms: Any, cutoff: float, layers: int) -> list[Layer]:
    """Return the layers of a crystal with ghost atoms: each works on the atoms that the next one needs."""
    configuration = configuration_from_atoms(atoms)
    degree = periodic_edges(atoms, cutoff) / len(atoms)
    reached = [len(atoms) + (count_ghosts(configuration, hops * cutoff) if hops else 0) for hops in range(layers + 1)]
    found = []
    for hops in reversed(range(layers)):
        # Within the atoms that send, nearly every pair is there in both directions.
        edges = round(reached[hops] * degree)
        found.append(Layer(reached[hops + 1], reached[hops], edges, edges // 2))
    return found


def periodic_edges(atoms: Any, cutoff: float) -> int:
    """Return the number of edges of a periodic graph."""
    model = RunnableModel(lambda graph: None, ["Si"], cutoff, 1)
    return periodic_graph(atoms, model).edge_vectors.shape[0]


def trainings(precision: str, size: int, folder: Path) -> dict[str, tuple[Callable[[], object], float, float]]:
    """Return name -> a training step, its multiply-adds and bytes."""
    found = {}
    for network in ("SchNet", "SchNet tables", "CGCNN"):
        data = write_structures(network, size, folder)
        training = training_of(network, data, size, precision)
        batch = next(iter(training.loader))
        atoms, edges = len(batch.z), batch[EDGE_INDEX].shape[1]
        trunk = training.module.potential.network.trunk
        channels, layers = trunk.out_channels, trunk.num_layers
        gaussians = trunk.basis.centres.numel()
        width = DTYPES[precision].itemsize
        if network == "CGCNN":
            # Edges that are equal are computed once, and what depends on a length once for each length.
            edges, lengths = len(batch[DISTINCT_EDGES]), len(batch[DISTINCT_OF_LENGTH])
            layer, what = Layer(atoms, atoms, edges, lengths), "training"
            madds = layers * total(cgcnn_layer(layer, channels, gaussians), what)
        else:
            layer, what = Layer(atoms, atoms, edges, edges // 2), "training with forces"
            madds = layers * total(schnet_layer(layer, channels, gaussians, "tables" in network), what)
        moved = layers * bytes_of(layer, channels, width) * PASSES[what]
        found[f"train {network}, {size} structures"] = (training.step, madds, moved)
    return found


def energies(precision: str) -> dict[str, tuple[Callable[[], object] | None, float, float]]:
    """Return name -> energies and forces of a crystal, with and without ghosts, their multiply-adds and bytes."""
    cutoff, layers, channels, gaussians = 4.0, 3, 128, 50
    exported = ExportedPotential(schnet(cutoff, precision).eval())
    model = RunnableModel(differentiated(exported), ["Si"], cutoff, layers)
    atoms = silicon(np.random.default_rng(0))
    graph = periodic_graph(atoms, model)
    edges, width = graph.edge_vectors.shape[0], DTYPES[precision].itemsize
    plain = [Layer(len(atoms), len(atoms), edges, edges // 2)] * layers
    found: dict[str, tuple[Callable[[], object] | None, float, float]] = {}
    for where, works_on in (("periodic", plain), ("with ghosts", staged(atoms, cutoff, layers))):
        for table in (False, True):
            what = "energy and forces"
            madds = sum(total(schnet_layer(layer, channels, gaussians, table), what) for layer in works_on)
            moved = sum(bytes_of(layer, channels, width) for layer in works_on)
            call = (lambda: model.evaluate(graph)) if where == "periodic" and not table else None
            name = f"MD, {where}{', tables' if table else ''}"
            found[name] = (call, madds, moved * PASSES[what])
    return found


def main() -> None:
    parser = arguments_of(__doc__, rounds=5)
    parser.add_argument("--batch-size", type=int, default=16, help="structures of a training step")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = Results("floor", "What a step must cost, and what it costs", COLUMNS)
    speed = rates(options.rounds)
    results.machine["rates"] = speed
    with tempfile.TemporaryDirectory() as name:
        for precision in options.precisions:
            steps = {**trainings(precision, options.batch_size, Path(name)), **energies(precision)}
            times = in_turn({name: step[0] for name, step in steps.items() if step[0]}, options.rounds)
            for name_, (call, madds, moved) in steps.items():
                floor = 1e3 * max(madds / speed[precision], moved / speed["copy"])
                row = {"Mmadd": madds / 1e6, "MB": moved / 1e6, "floor ms": floor}
                if call is not None:
                    measured, code = 1e3 * median(times[name_]), counted(call)
                    row |= {"counted": code.madds / 1e6, "touched": code.bytes / 1e6, "ms": measured,
                            "times": measured / floor}  # fmt: skip
                results.add(step=f"{name_}, {precision}", **row)
    print(f"matrix products: {speed['double'] / 1e9:.1f} (double), {speed['single'] / 1e9:.1f} (single) Gmadd/s; "
          f"copy: {speed['copy'] / 1e9:.1f} GB/s")  # fmt: skip
    results.write(options.output, lambda figure, rows: bars(figure.subplots(), rows, "step", "times"))


if __name__ == "__main__":
    main()
