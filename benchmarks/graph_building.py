"""Time to build a graph: ours beside KLIFF's RadialGraph, on a rattled 64-atom silicon cell.

python benchmarks/graph_building.py --cutoff 4.0
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from ase.build import bulk
from kliff.dataset import Configuration
from kliff.transforms.configuration_transforms.graphs import RadialGraph

from kimgnn.transforms.periodic_graph import PeriodicGraph


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--layers", type=int, default=3, help="layers of KLIFF's staged graph")
    options = parser.parse_args()
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    configuration = Configuration(
        np.array(atoms.cell),
        atoms.get_chemical_symbols(),
        atoms.get_positions(),
        [True] * 3,
        energy=0.0,
        forces=np.zeros((len(atoms), 3)),
    )
    staged = RadialGraph(species=["Si"], cutoff=options.cutoff, n_layers=options.layers)
    periodic = PeriodicGraph(cutoff=options.cutoff, species=["Si"])
    theirs = median_ms(lambda: staged(configuration), 10)
    ours = median_ms(lambda: periodic(configuration), 200)
    print(f"RadialGraph, {options.layers} layers  {theirs:8.2f} ms  {int(staged(configuration).num_nodes)} nodes")
    print(f"PeriodicGraph          {ours:8.2f} ms  {len(atoms)} nodes")
    print(f"ratio {theirs / ours:.0f}")


if __name__ == "__main__":
    main()
