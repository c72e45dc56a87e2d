"""Seconds a step and peak memory of an exported SchNet, for every format, against the number of atoms.

    python benchmarks/md.py
    python benchmarks/md.py --tabulate
    python benchmarks/md.py --only-files --atoms 64 512

LAMMPS, on one rank and on two, and ASE run each format through KIM, every rank on ``--threads`` threads; of LAMMPS's
runs, ``--rounds`` after one to warm up, the median counts. "cost" is the time an atom takes against the
same at 4,096 atoms; "times 1 rank" what more ranks bring. Then energy and forces of the periodic graph of each size are
computed in this process by eager PyTorch and by each exported file in turn, round after round, so that their ratio is
of one run; making the graph is not timed. Silicon at 300 K, NVE, untrained weights scaled down so that the crystal
keeps: the cost of a step does not depend on them. Drivers and models go into a KIM collection of their own, which is
removed at the end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from numpy.typing import NDArray

from harness import Results, Row, arguments_of, lines, median
from kimgnn.calculator import KimgnnCalculator, periodic_graph
from kimgnn.export.driver import install_driver, install_model, private_collection
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint, save_checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.physics.derivatives import forces_from_edges
from kimgnn.verify.tabulation import tabulate

BLOCK = 12
"""Graphs that a file computes one after the other; the first quarter is not timed."""

MODEL = "benchmark__MO_000000000001_000"

COLUMNS = {"runtime": "s", "atoms": "d", "ranks": "d", "s/step": ".4f", "steps/s": ".2f", "us/atom": ".1f",
           "cost": ".2f", "times 1 rank": ".2f", "times eager": ".2f", "MiB": ".0f"}  # fmt: skip

REFERENCE = 4096
"""Atoms to which the cost of an atom is compared."""

LARGEST_WHOLE = 4096
"""Atoms whose periodic graph is evaluated at once, as files do outside the driver, which divides larger systems."""

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
{runs}
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


def install(folder: Path, options: dict, formats: list[str], precision: str, with_tables: bool) -> dict[str, Path]:
    """Export the network and install it, with its drivers, into a collection under ``folder``; return its files."""
    os.environ.update(private_collection(folder / "collection"))
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": {"Si": -4.6}, "scale": 0.01}
    network = build_network(NetworkSpec("schnet", options, [head], ["Si"], precision)).eval()
    checkpoint = Checkpoint(network, {"name": "PeriodicGraph", "kwargs": {"cutoff": options["cutoff"]}}, {})
    tabulation = tabulate(checkpoint, with_tables)
    if tabulation is not None:
        print(tabulation)
    export_portable_model(checkpoint, MODEL, folder, formats=formats, tabulation=tabulation)
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


def run_lammps(folder: Path, model: str, data: Path, steps: int, ranks: int, rounds: int) -> tuple[float, float]:
    """Return seconds a step, the median of so many runs, and peak memory of a rank in MiB."""
    deck = folder / "in.md"
    runs = "\n".join([f"run {steps}"] * rounds)
    deck.write_text(DECK.format(model=model, data=data, steps=steps, warm_up=max(2, steps // 5), runs=runs))
    command = ["lmp", "-in", str(deck), "-log", "none"]
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), *command]
    output, memory = measured(command, folder)
    loops = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps", output)[-rounds:]
    return float(np.median([float(seconds) / int(count) for seconds, count in loops])), memory


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


def through_kim(
    folder: Path, results: Results, formats: list[str], counts: list[int], ranks: list[int], rounds: int
) -> None:
    """Add seconds a step and memory in LAMMPS and ASE."""
    for kind, model in model_names(MODEL, formats).items():
        for count in counts:
            atoms = silicon(count)
            data, file, steps = folder / "si.data", folder / "si.extxyz", max(1, 3200 // count)
            write(data, atoms, format="lammps-data")
            write(file, atoms)
            for n_ranks in ranks:
                measured_run = run_lammps(folder, model, data, steps, n_ranks, rounds)
                add(results, f"LAMMPS, {kind}", count, n_ranks, *measured_run)
            add(results, f"ASE, {kind}", count, 1, *run_ase(folder, model, file, steps))


def add(results: Results, runtime: str, atoms: int, ranks: int, step: float, memory: float) -> None:
    """Add a row, with its ratios to the rows that were before."""
    row = {"runtime": runtime, "atoms": atoms, "ranks": ranks, "s/step": step, "steps/s": 1 / step,
           "us/atom": 1e6 * step / atoms, "MiB": memory}  # fmt: skip
    if reference := found(results, runtime, REFERENCE, ranks):
        row["cost"] = row["us/atom"] / reference["us/atom"]
    if ranks > 1 and (one := found(results, runtime, atoms, 1)):
        row["times 1 rank"] = one["s/step"] / step
    label = f"{runtime}, {ranks} rank{'s' if ranks > 1 else ''}"
    results.add(**row, series=label)


def found(results: Results, runtime: str, atoms: int, ranks: int) -> Row | None:
    """Return the row of a measurement, if it was made."""
    wanted = (runtime, atoms, ranks)
    return next((row for row in results.rows if (row["runtime"], row["atoms"], row.get("ranks")) == wanted), None)


def of_files(files: dict[str, Path], results: Results, counts: list[int]) -> None:
    """Add seconds of energy and forces in this process, and the times that eager PyTorch takes as long."""
    for count in counts:
        times = compare_files(files, silicon(count), rounds=max(3, 1600 // count))
        for name, seconds in times.items():
            step = median(seconds)
            row = {"runtime": f"in Python, {name}", "atoms": count, "s/step": step, "steps/s": 1 / step,
                   "us/atom": 1e6 * step / count}  # fmt: skip
            # Of the same round, so that what else the machine does slows both.
            results.add(**row, **{"times eager": median(times["eager"] / seconds)}, series=row["runtime"])


def silicon(count: int) -> Atoms:
    """Return a cube of so many atoms, 8 n³."""
    return bulk("Si", cubic=True).repeat(round((count / 8) ** (1 / 3)))


def main() -> None:
    """Measure."""
    parser = arguments_of(__doc__, rounds=5)
    parser.add_argument("--only-files", action="store_true", help="skip what runs through KIM")
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512, 4096, 13824, 32768], help="8 n³ for whole n")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--precision", choices=["double", "single"], default="double")
    parser.add_argument("--tabulate", action="store_true", help="tables in the place of filter networks")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of a rank, and of this process")
    arguments = parser.parse_args()
    options = {
        "cutoff": arguments.cutoff,
        "num_interactions": arguments.layers,
        "hidden_channels": arguments.channels,
        "num_filters": arguments.channels,
    }
    torch.set_num_threads(arguments.threads)
    os.environ.update({name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "KIMGNN_NUM_THREADS")})
    tables = "with" if arguments.tabulate else "no"
    title = (f"SchNet, {arguments.layers} interactions, {arguments.channels} channels, {arguments.cutoff} Å, "
             f"{arguments.precision}, {tables} tables, {arguments.threads} thread(s) a rank")  # fmt: skip
    results = Results("md_tables" if arguments.tabulate else "md", title, COLUMNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = install(folder, options, arguments.formats, arguments.precision, arguments.tabulate)
        # So that each row can be compared with one before.
        counts = sorted(arguments.atoms, key=lambda count: (count != REFERENCE, count))
        if not arguments.only_files:
            through_kim(folder, results, arguments.formats, counts, sorted(arguments.ranks), arguments.rounds)
        of_files(files, results, [count for count in sorted(arguments.atoms) if count <= LARGEST_WHOLE])
    results.write(arguments.output, _draw)


def _draw(figure: Any, rows: list[Row]) -> None:
    lines(figure.subplots(), rows, "atoms", "us/atom", "series")


if __name__ == "__main__":
    main()
