"""Cross-validation of a manifest: trains on all folds but one, tests on that one, in turn.

    python benchmarks/folds.py manifests/cs182_cgcnn.yaml
    python benchmarks/folds.py manifests/mp_dfpt_cgcnn.yaml --column matbench_phonons_test_fold

With --column, a structure's value there names the fold that it is tested in; structures without one are always trained
on. Otherwise --folds parts are drawn by --seed. Run directories and `folds.json` go to --output.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.model_selection import KFold

from kimgnn.data.sources import read_configurations
from kimgnn.data.targets import TargetSpec
from kimgnn.manifest import load_manifest
from kimgnn.training.trainer import GNNLightningTrainer


def folds_of(dataset: dict, column: str | None, n_folds: int, seed: int) -> dict[str, tuple[list[int], list[int]]]:
    """Name of the fold -> indices to train on and to test on."""
    if column is None:
        size = len(read_configurations(dataset))
        parts = KFold(n_folds, shuffle=True, random_state=seed).split(np.arange(size))
        return {f"fold_{number}": (train.tolist(), test.tolist()) for number, (train, test) in enumerate(parts)}
    names = tuple(f"fold_{number}" for number in range(20))
    spec = TargetSpec("fold", "class", classes=names)
    configurations = read_configurations(dataset | {"targets": {"fold": column}}, targets=[spec])
    values = np.array([item.metadata["targets"]["fold"].item() for item in configurations])
    found = [name for number, name in enumerate(names) if (values == number).any()]
    members = {name: values == names.index(name) for name in found}
    return {name: (np.flatnonzero(~own).tolist(), np.flatnonzero(own).tolist()) for name, own in members.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--column")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("folds"))
    arguments = parser.parse_args()
    plain = load_manifest(arguments.manifest).to_dict()
    plain.pop("tuning", None)
    metrics = {}
    for name, (train, test) in folds_of(plain["dataset"], arguments.column, arguments.folds, arguments.seed).items():
        folder = arguments.output / name
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(arguments.seed)
        n_validation = round(0.1 * len(train))
        order = rng.permutation(train)
        parts = {"val": order[:n_validation], "train": order[n_validation:], "test": test}
        for part, indices in parts.items():
            (folder / f"{part}.txt").write_text("".join(f"{index}\n" for index in sorted(indices)))
        manifest = plain | {
            "workspace": plain["workspace"] | {"name": str(folder)},
            "training": plain["training"]
            | {
                "training_dataset": {"train_indices": str(folder / "train.txt")},
                "validation_dataset": {"val_indices": str(folder / "val.txt")},
                "test_dataset": {"test_indices": str(folder / "test.txt")},
            },
        }
        trainer = GNNLightningTrainer(manifest)
        trainer.train()
        metrics[name] = trainer.evaluate("test")
        print(name, {key: round(value, 4) for key, value in metrics[name].items()}, flush=True)
        (arguments.output / "folds.json").write_text(json.dumps(metrics, indent=2))
    print(f"mean of {len(metrics)} folds:")
    for key in next(iter(metrics.values())):
        values = [found[key] for found in metrics.values() if key in found]
        print(f"  {key:40} {np.mean(values):10.4g} ± {np.std(values):.2g}")


if __name__ == "__main__":
    main()
