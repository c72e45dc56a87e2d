"""Milliseconds to find the triplets of bonds of a 64-atom silicon cell, and its whole line graph.

OMP_NUM_THREADS=1 python benchmarks/triplets.py
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from ase.build import bulk

from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.fields import EDGE_INDEX, TRIPLETS
from kimgnn.nn.triplets import find_triplets
from kimgnn.transforms.crystal_graph import CrystalGraph
from kimgnn.transforms.line_graph import LineGraph

CUTOFF, REPEATS = 4.0, 200


def milliseconds(run: Callable[[], object]) -> str:
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return "{1:.2f} ({0:.2f} to {2:.2f})".format(*np.percentile(times, [25, 50, 75]))


def main() -> None:
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=0)
    configuration = configuration_from_atoms(atoms)
    graph = LineGraph(CUTOFF, None)(configuration)
    edges = graph[EDGE_INDEX]
    n_edges = edges.shape[1]
    every = torch.ones(n_edges, dtype=torch.bool)
    print(f"{len(atoms)} atoms, {n_edges} edges, {graph[TRIPLETS].shape[1]} triplets; median ms (quartiles)")
    print("triplets    ", milliseconds(lambda: find_triplets(edges, every, len(atoms), [n_edges, n_edges])))
    print("LineGraph   ", milliseconds(lambda: LineGraph(CUTOFF, None)(configuration)))
    print("CrystalGraph", milliseconds(lambda: CrystalGraph(CUTOFF, None)(configuration)))


if __name__ == "__main__":
    main()
