"""Milliseconds to find the triplets of bonds of a 64-atom silicon cell, beside its graphs without and with them.

OMP_NUM_THREADS=1 python benchmarks/triplets.py
"""

from __future__ import annotations

import torch
from ase.build import bulk

from harness import Results, arguments_of, bars, in_turn, median, spread
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.fields import EDGE_INDEX, TRIPLETS
from kimgnn.nn.triplets import find_triplets
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.line_graph import LineGraph

CUTOFF = 4.0


def main() -> None:
    options = arguments_of(__doc__).parse_args()
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=0)
    configuration = configuration_from_atoms(atoms)
    graph = LineGraph(CUTOFF, None)(configuration)
    edges = graph[EDGE_INDEX]
    n_edges = edges.shape[1]
    every = torch.ones(n_edges, dtype=torch.bool)
    title = f"{len(atoms)} atoms, {n_edges} edges, {graph[TRIPLETS].shape[1]} triplets"
    results = Results("triplets", title, {"what": "s", "ms": ".2f", "spread %": ".0f"})
    calls = {
        "triplets alone": lambda: find_triplets(edges, every, len(atoms), [n_edges, n_edges]),
        "LineGraph": lambda: LineGraph(CUTOFF, None)(configuration),
        "CrystalGraph": lambda: CrystalGraph(CUTOFF, None)(configuration),
    }
    for name, seconds in in_turn(calls, options.rounds).items():
        results.add(what=name, ms=1e3 * median(seconds), **{"spread %": spread(seconds)}, seconds=seconds.tolist())
    results.write(options.output, lambda figure, rows: bars(figure.subplots(), rows, "what", "ms"))


if __name__ == "__main__":
    main()
