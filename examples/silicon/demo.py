"""From one manifest to molecular dynamics: what `make demo` runs.

Checks the manifest, trains SchNet on silicon, writes a report, exports a KIM portable model, installs it with its
driver, compares PyTorch with ASE and LAMMPS, and runs molecular dynamics in LAMMPS. Everything it makes is in `demo/`,
except driver and model, which go into the user's KIM collection.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kimgnn import GNNLightningTrainer
from kimgnn.data.from_atoms import configuration_from_atoms
from kimgnn.evaluation.predict import predict
from kimgnn.export.driver import install_driver, install_model
from kimgnn.export.lammps import DATA_FILE, run_lammps
from kimgnn.export.lammps_data import write_data
from kimgnn.export.portable_model import export_portable_model
from kimgnn.files import atomic_write
from kimgnn.manifest import load_manifest
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.physics.potential import Potential
from kimgnn.training.dry_run import dry_run
from kimgnn.transforms.periodic_graph import PeriodicGraph
from kimgnn.verify.parity import check_parity
from kimgnn.verify.simulators import ase_prediction, lammps_prediction

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "manifests" / "silicon_schnet.yaml"
FOLDER = ROOT / "demo"
REFERENCE = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
STEPS = 2000


def heading(text: str) -> None:
    """Print what comes next, and how long it has been."""
    print(f"\n=== {text}  [{time.perf_counter() - START:.0f} s]", flush=True)


def choose_structures() -> dict[str, Atoms]:
    """Return one structure of each kind that training has seen the like of."""
    frames = ase.io.read(ROOT / "examples" / "silicon" / "silicon.extxyz", index=":")
    last = {frame.info["config_type"]: frame for frame in frames}
    crystal = bulk("Si", cubic=True)
    return {"perfect crystal": crystal} | {
        name: last[name] for name in ("strained", "rattled", "vacancy", "surface", "md")
    }


def compare_runtimes(structures: dict[str, Atoms], model: str, network) -> None:
    """Print the table of the same structures in every runtime, beside the reference potential."""
    configurations = [configuration_from_atoms(Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc))
                      for a in structures.values()]  # fmt: skip
    ours = predict(Potential(network), configurations, PeriodicGraph(network.cutoff))
    header = f"{'':16}{'':6}{'energy (eV)':>20}{'force on atom 1, x (eV/Å)':>28}{'stress xx (GPa)':>18}"
    print(header)
    for (name, atoms), torch_result in zip(structures.items(), ours, strict=True):
        rows = {
            "torch": torch_result,
            "ASE": ase_prediction(atoms, model),
            "LAMMPS": lammps_prediction(atoms, model, ["Si"]),
            "SW": ase_prediction(atoms, REFERENCE),
        }
        for runtime, row in rows.items():
            values = f"{row.energy:20.10f}{row.forces[0, 0]:28.10f}{row.stress[0] / ase.units.GPa:18.8f}"
            print(f"{name if runtime == 'torch' else '':16}{runtime:6}{values}")
    print()
    print(check_parity(network, model, list(structures.values()), ranks=(1, 2)))


def run_dynamics(package: Path) -> None:
    """Run the decks of the exported model on 64 atoms, and draw what they printed."""
    folder = FOLDER / "dynamics"
    folder.mkdir(exist_ok=True)
    for deck in ("in.nve", "in.npt"):
        shutil.copy(package / deck, folder)
    write_data(folder / DATA_FILE, bulk("Si", cubic=True).repeat(2), ["Si"])
    heading(f"LAMMPS, NVE: 64 atoms, {STEPS} steps of 1 fs")
    # Half of the kinetic energy goes into the springs: 600 K of velocities settle at 300 K.
    nve = run_lammps(folder / "in.nve", variables={"temperature": 600, "steps": STEPS})
    energy = 1000 * nve["TotEng"] / 64
    # The run starts with all its energy in the velocities; after 0.1 ps half of it is in the springs.
    settled = nve["Step"] > 100
    drift = np.polyfit(nve["Step"][settled], energy[settled], 1)[0] * STEPS
    energy -= energy[settled].mean()
    print(
        f"temperature {nve['Temp'][settled].mean():.0f} K; energy drifts by {drift:.4f} meV/atom in {STEPS} steps "
        f"(linear fit) and stays within {np.abs(energy[settled]).max():.4f} meV/atom of its mean"
    )
    heading(f"LAMMPS, NPT: 300 K, 0 bar, {STEPS} steps")
    npt = run_lammps(folder / "in.npt", variables={"temperature": 300, "steps": STEPS})
    lattice = np.cbrt(npt["Volume"] / 8)
    settled = slice(len(lattice) // 2, None)
    print(f"lattice constant {lattice[settled].mean():.3f} Å at {npt['Temp'][settled].mean():.0f} K")
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(nve["Step"] / 1000, energy, color="#0072B2")
    left.set(xlabel="time (ps)", ylabel="total energy off its mean (meV/atom)", title="NVE, 300 K")
    right.plot(npt["Step"] / 1000, lattice, color="#D55E00")
    right.axhline(5.431, color="#888888", linewidth=0.8, linestyle=":")
    right.set(xlabel="time (ps)", ylabel="lattice constant (Å)", title="NPT, 300 K, 0 bar (dotted: reference at 0 K)")
    with atomic_write(folder / "dynamics.png", "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=150)
    print(f"picture: {(FOLDER / 'dynamics.png').relative_to(ROOT)}")


def main() -> None:
    """Run the whole way."""
    FOLDER.mkdir(exist_ok=True)
    heading(f"the manifest, {MANIFEST.relative_to(ROOT)}")
    plain = load_manifest(MANIFEST).to_dict()
    plain["workspace"]["name"] = str(FOLDER / "runs")
    print(dry_run(plain))

    heading("training")
    trainer = GNNLightningTrainer(plain)
    trainer.train()
    run = Path(trainer.current["run_dir"])
    print((run / "report" / "report.md").read_text(encoding="utf-8").partition("## Parity")[0].strip())
    print(f"pictures: {run.relative_to(ROOT) / 'report'}")

    heading("export and installation")
    checkpoint = load_checkpoint(run / "checkpoints" / "best.ckpt")
    model = plain["export"]["model_name"]
    package = export_portable_model(checkpoint, model, FOLDER / "kim-models", force=True)
    install_driver()
    install_model(package, force=True)
    print(f"KIM portable model {package.relative_to(ROOT)}, installed for this user")

    heading("the same structures in PyTorch, ASE and LAMMPS, beside the reference potential (SW)")
    compare_runtimes(choose_structures(), model, checkpoint.network)
    run_dynamics(package)
    heading("done")


if __name__ == "__main__":
    START = time.perf_counter()
    main()
