"""Steps a second and peak memory of an exported SchNet, for every format, against the number of atoms.

    python benchmarks/md.py --atoms 64 512 4096

LAMMPS and ASE run each format through KIM; then energy and forces of the periodic graph of each size are computed in
this process by eager PyTorch and by each exported file in turn, round after round, so that their ratio is of one run;
making the graph is not timed. Silicon at 300 K, NVE,
untrained weights scaled down so that the crystal keeps: the cost of a step does not depend on them. Drivers and models
go into a KIM collection of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from numpy.typing import NDArray

from kimgnn.calculator import KimgnnCalculator, periodic_graph
from kimgnn.export.driver import install_driver, install_model, private_collection
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec, build_network
from kimgnn.physics.derivatives import forces_from_edges

BLOCK = 12
"""Graphs that a file computes one after the other; the first quarter is not timed."""

MODEL = "benchmark__MO_000000000001_000"

DECK = """
kim init {model} metal
read_data {data}
kim interactions Si
mass 1 28.0855
velocity all create 300 1 loop geom
fix 1 all nve
timestep 0.001
thermo {steps}
run {warm_up}
run {steps}
"""

ASE_STEPS = """
import sys, time
from ase import units
from ase.calculators.kim import KIM
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
model, file, steps, warm_up = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
atoms = read(file)
atoms.calc = KIM(model)
MaxwellBoltzmannDistribution(atoms, temperature_K=300)
dynamics = VelocityVerlet(atoms, units.fs)
dynamics.run(warm_up)
start = time.perf_counter()
dynamics.run(steps)
print("seconds a step", (time.perf_counter() - start) / steps)
"""

MEASURE = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
    "print('peak KiB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def install(folder: Path, options: dict, formats: list[str], precision: str) -> dict[str, Path]:
    """Export the network and install it, with its drivers, into a collection under ``folder``; return its files."""
    os.environ.update(private_collection(folder / "collection"))
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": {"Si": -4.6}, "scale": 0.01}
    network = build_network(NetworkSpec("schnet", options, [head], ["Si"], precision)).eval()
    checkpoint = Checkpoint(network, {"name": "PeriodicGraph", "kwargs": {"cutoff": options["cutoff"]}}, {})
    export_portable_model(checkpoint, MODEL, folder, formats=formats)
    for kind in {FORMATS[name].driver for name in formats}:
        install_driver(kind)
    names = model_names(MODEL, formats)
    for model in names.values():
        install_model(folder / model)
    save_checkpoint(folder / "eager.ckpt", checkpoint)
    files = {name: folder / model / FORMATS[name].file for name, model in names.items()}
    return {"eager": folder / "eager.ckpt"} | files


def measured(command: list[str], folder: Path) -> tuple[str, float]:
    """Return what a command prints, and the peak memory of its largest process in MiB."""
    # Wrapped in Python, whose largest child is the process that computes, or a rank.
    wrapped = [sys.executable, "-c", MEASURE, *command]
    output = subprocess.run(wrapped, check=True, capture_output=True, text=True, cwd=folder).stdout
    return output, int(re.findall(r"peak KiB (\d+)", output)[-1]) / 1024


def run_lammps(folder: Path, model: str, data: Path, steps: int, ranks: int) -> tuple[float, float]:
    """Return seconds a step and peak memory of a rank in MiB."""
    deck = folder / "in.md"
    deck.write_text(DECK.format(model=model, data=data, steps=steps, warm_up=max(2, steps // 5)))
    command = ["lmp", "-in", str(deck), "-log", "none"]
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), *command]
    output, memory = measured(command, folder)
    loop = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps", output)[-1]
    return float(loop[0]) / int(loop[1]), memory


def run_ase(folder: Path, model: str, file: Path, steps: int) -> tuple[float, float]:
    """Return seconds a step and peak memory in MiB."""
    arguments = [model, str(file), str(steps), str(max(2, steps // 5))]
    output, memory = measured([sys.executable, "-c", ASE_STEPS, *arguments], folder)
    return float(re.findall(r"seconds a step (\S+)", output)[-1]), memory


def compare_files(files: dict[str, Path], atoms: Atoms, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Return the seconds that each file takes for energy and forces of a graph, its median in each round.

    In a round every file computes the same `BLOCK` graphs of moved atoms, as a simulation would: another file in
    between would find the cores taken by threads of the one before, which wait awake for more to do.
    """
    models = {name: KimgnnCalculator(path).model for name, path in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    random = np.random.default_rng(0)
    any_model = next(iter(models.values()))
    for _ in range(rounds + 1):
        graphs = []
        for _ in range(BLOCK):
            moved = atoms.copy()
            moved.positions += random.normal(0, 0.05, moved.positions.shape)
            graphs.append(periodic_graph(moved, any_model))
        for name, model in models.items():
            seconds = []
            for graph in graphs:
                start = time.perf_counter()
                _, gradient = model.evaluate(graph)
                forces_from_edges(torch.from_numpy(gradient), graph.edge_index, len(atoms))
                seconds.append(time.perf_counter() - start)
            times[name].append(float(np.median(seconds[BLOCK // 4 :])))
    return {name: np.array(found[1:]) for name, found in times.items()}


def print_through_kim(folder: Path, formats: list[str], counts: list[int], ranks: int) -> None:
    """Print seconds a step and memory in LAMMPS and ASE."""
    print(f"{'through KIM':24}{'atoms':>8}{'s a step':>12}{'steps/s':>10}{'MiB':>9}")
    for count in counts:
        atoms = bulk("Si", cubic=True).repeat(round((count / 8) ** (1 / 3)))
        data, file, steps = folder / "si.data", folder / "si.extxyz", max(5, 6400 // count)
        write(data, atoms, format="lammps-data")
        write(file, atoms)
        for kind, model in model_names(MODEL, formats).items():
            rows = {
                f"LAMMPS, {kind}": run_lammps(folder, model, data, steps, ranks),
                f"ASE, {kind}": run_ase(folder, model, file, steps),
            }
            for title, (step, memory) in rows.items():
                print(f"{title:24}{count:8d}{step:12.4f}{1 / step:10.2f}{memory:9.0f}", flush=True)


def print_files(files: dict[str, Path], counts: list[int]) -> None:
    """Print milliseconds of energy and forces in this process, and the times that eager PyTorch takes as long."""
    print(f"\n{'on the periodic graph':24}{'atoms':>8}{'ms':>12}{'times eager':>14}{'quarter to quarter':>24}")
    for count in counts:
        atoms = bulk("Si", cubic=True).repeat(round((count / 8) ** (1 / 3)))
        found = compare_files(files, atoms, rounds=max(3, 1600 // count))
        for title, seconds in found.items():
            # Of the same round, so that what else the machine does slows both.
            low, ratio, high = np.quantile(found["eager"] / seconds, [0.25, 0.5, 0.75])
            spread = f"{low:.2f} to {high:.2f}"
            print(f"{title:24}{count:8d}{1000 * np.median(seconds):12.2f}{ratio:14.2f}{spread:>24}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-files", action="store_true", help="skip what runs through KIM")
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512, 4096], help="8 n³ for whole n")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--precision", choices=["double", "single"], default="double")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--ranks", type=int, default=1)
    arguments = parser.parse_args()
    options = {
        "cutoff": arguments.cutoff,
        "num_interactions": arguments.layers,
        "hidden_channels": arguments.channels,
        "num_filters": arguments.channels,
    }
    print(f"SchNet, {arguments.layers} interactions, {arguments.channels} channels, {arguments.cutoff} Å, "
          f"{arguments.precision}, {os.cpu_count()} cores, LAMMPS on {arguments.ranks} rank(s)")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = install(folder, options, arguments.formats, arguments.precision)
        if not arguments.only_files:
            print_through_kim(folder, arguments.formats, arguments.atoms, arguments.ranks)
        print_files(files, arguments.atoms)


if __name__ == "__main__":
    main()
