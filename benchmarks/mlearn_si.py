"""Errors on the published silicon test set (Zuo et al. 2020): a trained model beside SNAP, in one harness.

    kimgnn train manifests/mlearn_si_schnet.yaml
    python benchmarks/mlearn_si.py runs/schnet_mlearn_si_<time> mlearn_Si_test.extxyz

SNAP is the published SNAP_ZuoChenLi_2019_Si of Debian's openkim-models, run through the KIM API.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase import Atoms
from ase.calculators.kim import KIM
from kliff.dataset import Configuration

from kimgnn.data.sources import read_configurations
from kimgnn.evaluation.metrics import compare, error_metrics, metrics_table
from kimgnn.evaluation.predict import Prediction, predict
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.physics.potential import Potential
from kimgnn.registry import TRANSFORMS

SNAP = "SNAP_ZuoChenLi_2019_Si__MO_869330304805_000"


def predict_with_kim(model: str, configurations: list[Configuration]) -> list[Prediction]:
    """Return what an installed KIM model says about each structure."""
    calculator = KIM(model)
    predictions = []
    for configuration in configurations:
        atoms = Atoms(configuration.species, configuration.coords, cell=configuration.cell, pbc=configuration.PBC)
        atoms.calc = calculator
        predictions.append(Prediction(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    return predictions


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint or run directory")
    parser.add_argument("test_file", type=Path)
    options = parser.parse_args()
    path = options.checkpoint
    trained = load_checkpoint(path / "checkpoints" / "best.ckpt" if path.is_dir() else path)
    configurations = read_configurations(
        trained.manifest["dataset"] | {"path": str(options.test_file), "slices": None, "weights": None}
    )
    transform = TRANSFORMS.get(trained.transform["name"])(**trained.transform["kwargs"])
    ours = predict(Potential(trained.network).eval(), configurations, transform)
    rows = {"kimgnn": ours, SNAP.partition("__")[0]: predict_with_kim(SNAP, configurations)}
    print(f"{len(configurations)} structures, {sum(len(c.species) for c in configurations)} atoms")
    print(metrics_table({name: error_metrics(compare(found, configurations)) for name, found in rows.items()}))


if __name__ == "__main__":
    main()
