"""Structures a second of a trained network and of each file exported of it, by batch size, with the memory of each.

    OMP_NUM_THREADS=2 python benchmarks/inference.py

SchNet gives energies and forces of 64-atom silicon cells (4 Å, three interactions, 128 channels), CGCNN a property of
5-atom perovskites (8 Å, 12 neighbours, three convolutions, 96 channels); "tables" is export.tabulate. A potential's
file takes a batch as one graph of several structures. Making graphs and joining them is not timed. Of one network,
batch size and precision everything runs in turn; "times eager" compares rounds. "difference" is the largest from eager,
of the largest value of energies or properties. Untrained weights.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import CLOCKS, Results, arguments_of, in_child, in_turn, lines, median, nothing, spread, with_clock
from kimgnn.calculator import KimgnnCalculator, periodic_graph
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.export.contract import StagedGraph
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.export.property_batches import joined
from kimgnn.export.property_package import PROPERTY_FORMATS, export_properties
from kimgnn.export.property_runtimes import load_property_model, property_graph
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS
from kimgnn.transforms.collate import collate
from kimgnn.verify.tabulation import tabulate
from made_up import perovskite, silicon

COLUMNS = {"runtime": "s", "batch": "d", "ms": ".2f", "spread %": ".0f", "structures/s": ".0f", "times eager": ".2f",
           "MiB": ".0f", "difference": ".0e"}  # fmt: skip
EAGER, NAME = "PyTorch eager", "benchmark__MO_000000000001_000"
WITH_TABLES = "benchmark_tables__MO_000000000002_000"

PEROVSKITES = ["O", "Ca", "Ti", "Mn", "Fe", "Sr", "Zr", "Ba", "La"]
HEADS = {
    "SchNet": {"type": "energy", "reference_energies": "none", "scale": 1.0},
    "CGCNN": {"type": "property", "target": "heat", "reference": "none", "mean": [0.0], "spread": [1.0]},
}


def export(network: str, precision: str, formats: list[str], folder: Path) -> dict[str, Path]:
    """Write a network and each file of it, and return the files by what runs them."""
    torch.manual_seed(0)
    if network == "SchNet":
        spec = NetworkSpec("schnet", {"cutoff": 4.0}, [HEADS[network]], ["Si"], precision)
        transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}
    else:
        options = {"cutoff": 8.0, "hidden_channels": 96, "num_convolutions": 3}
        spec = NetworkSpec("cgcnn", options, [HEADS[network]], PEROVSKITES, precision)
        transform = {"name": "CrystalGraph", "kwargs": {"cutoff": 8.0, "max_neighbors": 12}}
    checkpoint = Checkpoint(build_network(spec).eval(), transform, {})
    save_checkpoint(folder / "eager.ckpt", checkpoint)
    files = {EAGER: folder / "eager.ckpt"}
    if network == "SchNet":
        for model, suffix, tables in ((NAME, "", False), (WITH_TABLES, ", tables", True)):
            export_portable_model(checkpoint, model, folder, formats=formats, tabulation=tabulate(checkpoint, tables))
            written = model_names(model, formats)
            files |= {name + suffix: folder / of / FORMATS[name].file for name, of in written.items()}
        return files
    kinds = [name for name in formats if name in PROPERTY_FORMATS]
    into = export_properties(checkpoint, "properties", folder, formats=kinds)
    return files | {name: into / PROPERTY_FORMATS[name].file for name in kinds}


def call_of(network: str, path: Path, size: int) -> Callable[[], np.ndarray]:
    """Return what computes a batch with a file."""
    random = np.random.default_rng(0)
    if network == "SchNet":
        model = _calculator(path).model
        graph = union([periodic_graph(silicon(random), model) for _ in range(size)])
        return lambda: model.evaluate(graph)[0].reshape(size, -1).sum(axis=1)
    structures = [perovskite(random) for _ in range(size)]
    if path.suffix == ".ckpt":
        return _eager_properties(path, structures)
    file = _properties(path)
    graph = joined([property_graph(atoms, file.description) for atoms in structures])
    return lambda: file.evaluate(graph)["heat"][:, 0]


def union(graphs: list[StagedGraph]) -> StagedGraph:
    """Return the structures as one graph, which has no edges between them."""
    atoms = np.cumsum([0, *(len(graph.species_codes) for graph in graphs)])
    edges = np.cumsum([0, *(len(graph.edge_vectors) for graph in graphs)])
    layers = len(graphs[0].node_counts)
    return StagedGraph(
        torch.cat([graph.species_codes for graph in graphs]),
        torch.cat([graph.edge_index + int(first) for graph, first in zip(graphs, atoms, strict=False)], dim=1),
        torch.cat([graph.edge_vectors for graph in graphs]),
        [int(atoms[-1])] * layers,
        [int(edges[-1])] * layers,
        torch.cat([graph.reverse_edge + int(first) for graph, first in zip(graphs, edges, strict=False)]),
    )


def _eager_properties(path: Path, structures: list) -> Callable[[], np.ndarray]:
    checkpoint = load_checkpoint(path)
    transform = TRANSFORMS.get(checkpoint.transform["name"])(**checkpoint.transform["kwargs"])
    batch = collate([transform(configuration_from_atoms(atoms)) for atoms in structures])
    potential, head = Potential(checkpoint.network).eval(), checkpoint.network.heads["heat"]
    n_atoms = torch.tensor([len(atoms) for atoms in structures])

    def evaluate() -> np.ndarray:
        with torch.no_grad():
            return head.physical(potential(batch, forces=False, stress=False)["heat"], n_atoms)[:, 0].numpy()

    return evaluate


@cache
def _calculator(path: Path) -> KimgnnCalculator:
    return KimgnnCalculator(path)


@cache
def _properties(path: Path) -> Any:
    return load_property_model(path)


def run(network: str, path: Path, size: int) -> None:
    """Compute a batch three times, for the memory that it takes."""
    call = call_of(network, path, size)
    for _ in range(3):
        call()


def main() -> None:
    parser = with_clock(arguments_of(__doc__, rounds=5))
    parser.add_argument("--networks", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 64, 128])
    parser.add_argument("--precisions", nargs="+", choices=["double", "single"], default=["double", "single"])
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = Results("inference", "Inference: SchNet with forces on 64-atom Si, CGCNN on 5-atom crystals", COLUMNS)
    for network in options.networks:
        for precision in options.precisions:
            with tempfile.TemporaryDirectory() as folder:
                files = export(network, precision, options.formats, Path(folder))
                for size in options.batch_sizes:
                    calls = {name: call_of(network, path, size) for name, path in files.items()}
                    expected = calls[EAGER]()
                    times = in_turn(calls, options.rounds, clock=CLOCKS[options.clock])
                    for name, seconds in times.items():
                        off = np.abs(calls[name]() - expected).max() / np.abs(expected).max()
                        found = {"ms": 1e3 * median(seconds), "spread %": spread(seconds),
                                 "structures/s": size / median(seconds), "times eager": median(times[EAGER] / seconds),
                                 "MiB": in_child(run, network, files[name], size)[1],
                                 "difference": float(off)}  # fmt: skip
                        results.add(runtime=f"{network} {precision}, {name}", batch=size, network=network,
                                    precision=precision, **found, seconds=seconds.tolist())  # fmt: skip
    print(f"a process that has only imported: {in_child(nothing)[1]:.0f} MiB")
    results.write(options.output, partial(_draw, networks=options.networks))


def _draw(figure: Any, rows: list[dict[str, Any]], networks: list[str]) -> None:
    for axes, network in zip(np.atleast_1d(figure.subplots(1, len(networks))), networks, strict=True):
        lines(axes, [row for row in rows if row["network"] == network], "batch", "structures/s", "runtime")


if __name__ == "__main__":
    main()
