"""Milliseconds to make a graph: each of ours, and KLIFF's RadialGraph, of a rattled 64-atom silicon cell.

    OMP_NUM_THREADS=1 python benchmarks/graph_building.py --cutoff 4.0

KLIFF's graph is staged, an edge list for each of three layers, as its networks take it; ours serve any number of them.
"""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from kliff.transforms.configuration_transforms.graphs import RadialGraph

from harness import Results, arguments_of, bars, in_child, in_turn, median, spread
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.fields import EDGE_INDEX
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.line_graph import LineGraph
from kimgnn.transforms.periodic_graph import PeriodicGraph

COLUMNS = {"graph": "s", "ms": ".3f", "spread %": ".0f", "nodes": "d", "edges": "d", "KLIFF's over it": ".1f",
           "MiB": ".0f"}  # fmt: skip
KLIFF = "KLIFF RadialGraph"


def rattled_silicon():
    """Return the structure, with the labels that RadialGraph wants to see."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    configuration = configuration_from_atoms(atoms)
    configuration.energy, configuration.forces = 0.0, np.zeros((len(atoms), 3))
    return configuration


def transforms(cutoff: float, layers: int) -> dict:
    """Return what makes each graph, by its name."""
    return {
        KLIFF: RadialGraph(species=["Si"], cutoff=cutoff, n_layers=layers),
        "PeriodicGraph": PeriodicGraph(cutoff, ["Si"]),
        "CrystalGraph, 12 nearest": CrystalGraph(cutoff, 12),
        "LineGraph, all bonds": LineGraph(cutoff, None),
    }


def make(name: str, cutoff: float, layers: int) -> tuple[int, int]:
    """Make a graph twice, and return its nodes and edges."""
    transform, configuration = transforms(cutoff, layers)[name], rattled_silicon()
    transform(configuration)
    graph = transform(configuration)
    edges = graph.edge_index0 if name == KLIFF else graph[EDGE_INDEX]
    return int(graph.num_nodes), edges.shape[1]


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--layers", type=int, default=3, help="layers of KLIFF's staged graph")
    options = parser.parse_args()
    configuration = rattled_silicon()
    calls = {name: lambda made=made: made(configuration)
             for name, made in transforms(options.cutoff, options.layers).items()}  # fmt: skip
    results = Results("graph_building", f"Graphs of 64 atoms of silicon, {options.cutoff} Å", COLUMNS)
    times = in_turn(calls, options.rounds)
    for name, seconds in times.items():
        (nodes, edges), memory = in_child(make, name, options.cutoff, options.layers)
        found = {"ms": 1e3 * median(seconds), "spread %": spread(seconds), "nodes": nodes, "edges": edges,
                 "KLIFF's over it": median(times[KLIFF] / seconds), "MiB": memory}  # fmt: skip
        results.add(graph=name, **found, seconds=seconds.tolist())
    results.write(options.output, lambda figure, rows: bars(figure.subplots(), rows, "graph", "ms"))


if __name__ == "__main__":
    main()
