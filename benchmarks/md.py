"""Steps a second and peak memory of an exported SchNet in LAMMPS, against the number of atoms.

    python benchmarks/md.py --atoms 64 512 4096 --ranks 1

Silicon at 300 K, NVE, double precision, untrained weights scaled down so that the crystal keeps: the cost of a step
does not depend on them. The driver and the model go into a KIM collection of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from ase.build import bulk
from ase.io import write

from kimgnn.export.driver import install_driver, install_model, private_collection
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import NetworkSpec, build_network

MODEL = "benchmark__MO_000000000001_000"

DECK = """
units metal
atom_style atomic
boundary p p p
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


def install(folder: Path, options: dict) -> None:
    """Export the network and install it, with its driver, into a collection under ``folder``."""
    os.environ.update(private_collection(folder / "collection"))
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": {"Si": -4.6}, "scale": 0.01}
    network = build_network(NetworkSpec("schnet", options, [head], ["Si"])).eval()
    transform = {"name": "PeriodicGraph", "kwargs": {"cutoff": options["cutoff"]}}
    install_driver()
    install_model(export_portable_model(Checkpoint(network, transform, {}), MODEL, folder))


def run_lammps(folder: Path, cells: int, steps: int, ranks: int) -> tuple[float, int, float]:
    """Return seconds a step, ghosts of the first rank, and the peak memory of a rank in MiB."""
    data = folder / f"si_{cells}.data"
    write(data, bulk("Si", cubic=True).repeat(cells), format="lammps-data")
    deck = folder / "in.md"
    deck.write_text(DECK.format(model=MODEL, data=data, steps=steps, warm_up=max(2, steps // 5)))
    command = ["lmp", "-in", str(deck), "-log", "none"]
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), *command]
    # One time command for each rank would mix their outputs: the largest child of this one is a rank.
    wrapped = ["python3", "-c", MEASURE, *command]
    output = subprocess.run(wrapped, check=True, capture_output=True, text=True, cwd=folder).stdout
    loop = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps", output)[-1]
    ghosts = re.findall(r"Nghost:\s+(\S+) ave", output)[-1]
    memory = re.findall(r"peak KiB (\d+)", output)[-1]
    return float(loop[0]) / int(loop[1]), int(float(ghosts)), int(memory) / 1024


MEASURE = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
    "print('peak KiB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512, 4096], help="8 n³ for whole n")
    parser.add_argument("--layers", type=int, default=3, help="interactions")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--cutoff", type=float, default=4.0, help="Å")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="timed steps; chosen by size when 0")
    arguments = parser.parse_args()
    options = {
        "cutoff": arguments.cutoff,
        "num_interactions": arguments.layers,
        "hidden_channels": arguments.channels,
        "num_filters": arguments.channels,
    }
    print(f"SchNet, {arguments.layers} interactions, {arguments.channels} channels, {arguments.cutoff} Å, float64, "
          f"LAMMPS on {arguments.ranks} rank(s), {os.cpu_count()} cores")  # fmt: skip
    print(f"{'atoms':>8}{'ghosts':>9}{'s a step':>12}{'steps/s':>10}{'MiB':>9}{'KiB an atom':>14}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder, options)
        for atoms in arguments.atoms:
            steps = arguments.steps or max(5, 6400 // atoms)
            step, ghosts, memory = run_lammps(folder, round((atoms / 8) ** (1 / 3)), steps, arguments.ranks)
            row = f"{atoms:8d}{ghosts:9d}{step:12.4f}{1 / step:10.2f}{memory:9.0f}{1024 * memory / atoms:14.1f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
