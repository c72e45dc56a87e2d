"""What a committee costs against one network: energy and forces through KIM, in every format.

    OMP_NUM_THREADS=1 python benchmarks/committee.py --clock cpu

One network and a committee of the same networks compute the same silicon with its ghost atoms in turn, in this process,
by the drivers; neighbour lists are made before. "times one" is the ratio of a round; memory is the most that a process
of its own held. Untrained weights: the cost does not depend on them. Drivers and models go into a KIM collection of
their own, which is removed at the end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.kim import KIM

from harness import CLOCKS, Results, arguments_of, in_child, in_turn, median, spread, with_clock
from kimgnn.export.driver import install_driver, install_model, private_collection
from kimgnn.export.formats import FORMATS, model_names
from kimgnn.export.portable_model import export_portable_model
from kimgnn.models.build import build_network
from kimgnn.models.checkpoint import Checkpoint
from kimgnn.models.network import NetworkSpec
from kimgnn.verify.tabulation import tabulate

COLUMNS = {"network": "s", "format": "s", "atoms": "d", "ms": ".1f", "spread %": ".0f", "times one": ".2f",
           "MiB": ".0f"}  # fmt: skip


def install(members: int, folder: Path, formats: list[str], tables: bool) -> dict[str, str]:
    """Export and install networks; return the models' names by format."""
    torch.manual_seed(0)
    head = {"type": "energy", "reference_energies": {"Si": -4.6}, "scale": 0.01}
    spec = NetworkSpec("schnet", {"cutoff": 4.0}, [head], ["Si"], members=members)
    checkpoint = Checkpoint(build_network(spec).eval(), {"name": "PeriodicGraph", "kwargs": {"cutoff": 4.0}}, {})
    name = f"benchmark_{members}__MO_000000000001_000"
    export_portable_model(checkpoint, name, folder, formats=formats, tabulation=tabulate(checkpoint, tables))
    names = model_names(name, formats)
    for model in names.values():
        install_model(folder / model)
    return names


def step(model: str, atoms: Atoms) -> Callable[[], object]:
    """Return a function that computes energy and forces by the driver."""
    calculator = KIM(model)
    calculator.calculate(atoms, ["energy", "forces"], ["positions"])
    return lambda: calculator.kim_model.compute(calculator.compute_args, False)


def three_steps(model: str, atoms: Atoms) -> None:
    """Compute three times, for the memory that it takes."""
    compute = step(model, atoms)
    for _ in range(3):
        compute()


def main() -> None:
    """Measure."""
    parser = with_clock(arguments_of(__doc__))
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512], help="8 n³ for whole n")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--tabulate", action="store_true", help="tables in the place of filter networks")
    arguments = parser.parse_args()
    name = "committee_tables" if arguments.tabulate else "committee"
    title = f"SchNet, 3 interactions, 128 channels, 4 Å, double: a committee of {arguments.members} beside one network"
    results, output = Results(name, title, COLUMNS), arguments.output.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)  # KIM writes its log where it is
        os.environ.update(private_collection(folder / "collection"))
        for kind in {FORMATS[chosen].driver for chosen in arguments.formats}:
            install_driver(kind)
        one = install(1, folder, arguments.formats, arguments.tabulate)
        several = install(arguments.members, folder, arguments.formats, arguments.tabulate)
        for format_name in arguments.formats:
            for count in arguments.atoms:
                atoms = bulk("Si", cubic=True).repeat(round((count / 8) ** (1 / 3)))
                atoms.rattle(0.05, seed=0)
                models = {"one network": one[format_name], f"committee of {arguments.members}": several[format_name]}
                calls = {label: step(model, atoms) for label, model in models.items()}
                times = in_turn(calls, arguments.rounds, clock=CLOCKS[arguments.clock])
                calls.clear()  # KIM writes to its log when a model goes, and the folder is removed in the end
                for label, seconds in times.items():
                    results.add(
                        **{"network": label, "format": format_name, "atoms": count, "ms": 1e3 * median(seconds)},
                        **{"spread %": spread(seconds), "times one": median(seconds / times["one network"])},
                        **{"MiB": in_child(three_steps, models[label], atoms)[1], "seconds": seconds.tolist()},
                    )
    results.write(output)


if __name__ == "__main__":
    main()
