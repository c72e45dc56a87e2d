"""Runs with features of the composition: every fusion, late fusion's forests and weights, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from silicon_run import tiny_manifest

from kimgnn import GNNLightningTrainer, cli
from kimgnn.errors import DataError, ManifestError, ModelError
from kimgnn.evaluation.predict import predict
from kimgnn.export.property_runtimes import load_property_model
from kimgnn.models.checkpoint import load_checkpoint
from kimgnn.models.fusion import composition_modules, forests
from kimgnn.physics.potential import Potential

GAP = {"type": "property", "target": "gap", "unit": "eV", "hidden_channels": 8}
METAL = {"type": "classification", "target": "metal", "classes": ["no", "yes"], "hidden_channels": 8}
ELEMENTS = ["C", "Si", "Ge", "Sn"]


def alloys(n: int = 40) -> list[Atoms]:
    """Zincblende cells with a number and a class that follow from the composition; the class is missing on some."""
    rng = np.random.default_rng(0)
    frames = []
    for index in range(n):
        atoms = bulk("Si", cubic=True)
        atoms.symbols[:] = rng.choice(ELEMENTS, size=8)
        atoms.rattle(0.05, rng=rng)
        atoms.info["gap"] = float(np.mean(atoms.numbers) / 10)
        if index % 5:
            atoms.info["metal"] = "yes" if atoms.info["gap"] > 2.5 else "no"
        frames.append(atoms)
    return frames


@pytest.fixture
def manifest(tmp_path):
    write(tmp_path / "alloys.xyz", alloys(), format="extxyz")

    def make(fusion: str, changes: dict[str, Any] | None = None, **composition: Any):
        return tiny_manifest(
            tmp_path,
            {
                "dataset.path": str(tmp_path / "alloys.xyz"),
                "transforms.configuration.kwargs": {"cutoff": 3.5},
                "model.heads": [GAP, METAL],
                "model.composition": {"features": "fractions", "fusion": fusion, "n_trees": 20, **composition},
                "training.loss.weights": None,
                "training.training_dataset": {"train_size": 20},
                "training.validation_dataset": {"val_size": 10},
                "training.test_dataset": {"test_size": 10},
                "training.batch_size": 5,
                **(changes or {}),
            },
        )

    return make


def trained(manifest: dict[str, Any]) -> GNNLightningTrainer:
    trainer = GNNLightningTrainer(manifest)
    trainer.train()
    return trainer


@pytest.mark.filterwarnings("ignore:.*they are left out of that term of the loss")
class TestRuns:
    """Structures without the class are left out of its loss, and told."""

    @pytest.mark.parametrize("fusion", ["early", "attention", "intermediate"])
    def test_a_run_is_scaled_on_the_training_set_and_kept(self, manifest, fusion):
        trainer = trained(manifest(fusion, {"training.optimizer.ema": True}))
        network = load_checkpoint(trainer.run.path).network
        fractions = np.array(
            [[item.species.count(symbol) / 8 for symbol in network.spec.composition["species"]]
             for item in trainer.splits["train"]]
        )  # fmt: skip
        (features,) = composition_modules(network)
        np.testing.assert_allclose(features.mean, fractions.mean(0), rtol=1e-12)
        np.testing.assert_allclose(features.spread, fractions.std(0), rtol=1e-12)
        again = predict(Potential(network), trainer.splits["test"], trainer.graph_of)
        for one, other in zip(trainer._predict(trainer.splits["test"]), again, strict=True):
            # In batches of another size.
            np.testing.assert_allclose(one.properties["gap"], other.properties["gap"], rtol=1e-12)

    def test_a_magpie_run_needs_matminer_for_training_only(self, manifest, monkeypatch):
        pytest.importorskip("matminer")
        trainer = trained(manifest("early", features="magpie"))
        monkeypatch.setitem(sys.modules, "matminer.utils.data", None)
        network = load_checkpoint(trainer.run.path).network
        assert np.isfinite(predict(Potential(network), trainer.splits["test"], trainer.graph_of)[0].properties["gap"])

    def test_late_fusion_is_chosen_on_validation_data(self, manifest):
        """The weight is the best of all on the validation set, and what evaluate() says is said with it."""
        trainer = trained(manifest("late"))
        network = load_checkpoint(trainer.run.path).network
        late = forests(network)["gap"]
        assert late.forest.fitted
        assert 0 <= float(late.weight) < 1  # three epochs teach less than a forest knows
        structures = trainer.splits["validation"]
        labels = np.array([item.metadata["targets"]["gap"].item() for item in structures])

        def error(weight: float) -> float:
            late.weight.fill_(weight)
            found = predict(Potential(network), structures, trainer.graph_of)
            return float(np.mean((np.array([item.properties["gap"].item() for item in found]) - labels) ** 2))

        chosen = float(late.weight)
        best = error(chosen)
        assert best <= min(error(weight) for weight in np.linspace(0, 1, 11)) + 1e-12
        assert trainer.evaluate("validation")["gap_rmse"] ** 2 == pytest.approx(best, rel=1e-9)

    def test_the_network_of_late_fusion_is_the_network_alone(self, manifest):
        late = trained(manifest("late"))
        alone = trained(manifest("late", {"model.composition": None}))
        network = load_checkpoint(late.run.path).network
        for forest in forests(network).values():
            forest.weight.fill_(1.0)
        found = predict(Potential(network), late.splits["test"], late.graph_of)
        for one, other in zip(found, alone.predict(alone.splits["test"]), strict=True):
            np.testing.assert_allclose(one.properties["gap"], other.properties["gap"], rtol=1e-14)
            np.testing.assert_allclose(one.properties["metal"], other.properties["metal"], rtol=1e-12)

    def test_a_finished_run_of_late_fusion_is_opened_again(self, manifest):
        """And one that was stopped before the forests were there gets them."""
        first = trained(manifest("late"))
        expected = [item.properties["gap"] for item in first.predict(first.splits["test"])]
        (first.run.path / ".finished").unlink()
        for _ in range(2):
            again = GNNLightningTrainer(manifest("late", {"workspace.resume": str(first.run.path)}))
            again.train()
            found = [item.properties["gap"] for item in again.predict(again.splits["test"])]
            np.testing.assert_array_equal(found, expected)
        with pytest.raises(Exception, match="another composition"):
            GNNLightningTrainer(manifest("late", {"workspace.resume": str(first.run.path)}, n_trees=5)).evaluate()

    def test_heads_of_atoms_and_energies_get_no_forest(self, manifest):
        heads = [GAP, {"type": "property", "target": "born", "per_atom": True}, {"type": "energy"}]
        with pytest.raises(ManifestError, match="no forest beside a head of energies"):
            GNNLightningTrainer(manifest("late", {"model.heads": heads[1:]}))

    def test_what_late_fusion_cannot_do_is_told(self, manifest):
        with pytest.raises(ManifestError, match="chooses the weight of the forest on validation data"):
            GNNLightningTrainer(manifest("late", {"training.validation_dataset": None}))
        with pytest.raises(ManifestError, match="predicts its own error"):
            GNNLightningTrainer(manifest("late", {"model.heads": [GAP | {"loss": "nll"}]}))

    def test_a_head_without_validation_labels_is_told_before_training(self, manifest, tmp_path):
        frames = alloys(10)
        for atoms in frames:
            atoms.info.pop("metal", None)
        write(tmp_path / "validation.xyz", frames, format="extxyz")
        with pytest.raises(DataError, match="no structure has the target of 'metal'"):
            GNNLightningTrainer(
                manifest("late", {"training.validation_dataset": {"path": str(tmp_path / "validation.xyz")}})
            )

    def test_no_layers_to_enter_between(self, manifest):
        options = {"hidden_channels": 8, "num_filters": 8, "num_interactions": 1, "num_gaussians": 8}
        with pytest.raises(ModelError, match="two layers or more"):
            GNNLightningTrainer(manifest("intermediate", {"model.options": options}))

    def test_an_element_that_magpie_lacks(self, manifest, tmp_path):
        pytest.importorskip("matminer")
        frames = alloys()
        frames[0].symbols[0] = "Ar"
        write(tmp_path / "alloys.xyz", frames, format="extxyz")
        with pytest.raises(DataError, match="Electronegativity"):
            GNNLightningTrainer(manifest("early", features="magpie"))

    def test_an_element_of_the_test_set_alone_is_computed(self, manifest, tmp_path):
        """Nothing is learned of it, but predictions are numbers."""
        frames = alloys()
        frames[-1].symbols[0] = "Pb"
        write(tmp_path / "alloys.xyz", frames, format="extxyz")
        (tmp_path / "test.txt").write_text("39\n38\n")
        with pytest.warns(UserWarning, match="nothing is learned of them"):
            trainer = trained(
                manifest("early", {"training.test_dataset": {"test_indices": str(tmp_path / "test.txt")}})
            )
        assert np.isfinite(trainer.evaluate("test")["gap_mae"])

    def test_importance_of_a_run(self, manifest, monkeypatch, capsys):
        trainer = trained(manifest("attention"))
        written = (trainer.run.path / "manifest.yaml").read_text()

        def run(*arguments: str) -> int:
            monkeypatch.setattr(
                sys, "argv", ["kimgnn", "importance", str(trainer.run.path), "--repeats", "3", *arguments]
            )
            with pytest.raises(SystemExit) as left:
                cli.main()
            return left.value.code

        assert not run()
        told = capsys.readouterr().out
        assert "gap, MAE (eV)" in told
        assert (trainer.run.path / "manifest.yaml").read_text() == written
        assert "crystal system" in told
        folder = trainer.run.path / "importance"
        assert sorted(path.name for path in folder.iterdir()) == [
            "attention.csv", "attention.png", "importance.csv", "importance.png"
        ]  # fmt: skip
        assert run()  # nothing is overwritten in silence
        assert not run("--force", "--split", "validation")
        rows = (trainer.run.path / "report" / "test_results.csv").read_text().splitlines()
        assert rows[0].endswith(",attention (structure)")
        assert 0 < float(rows[1].rsplit(",", 1)[1]) < 1
        (trainer.run.path / ".finished").unlink()
        capsys.readouterr()
        assert run("--force")
        assert "is not finished" in capsys.readouterr().err

    @pytest.mark.parametrize("fusion", ["attention", "intermediate", "late"])
    def test_a_run_is_exported_with_all_that_it_knows(self, manifest, fusion, monkeypatch, tmp_path):
        """`kimgnn export` compares the ONNX file with PyTorch; from here it is read with nothing but structures."""
        pytest.importorskip("matminer")
        trainer = trained(manifest(fusion, features="magpie"))
        arguments = [
            "export",
            str(trainer.run.path),
            "--name",
            "alloys",
            "--directory",
            str(tmp_path),
            "--format",
            "onnx",
        ]
        monkeypatch.setattr(sys, "argv", ["kimgnn", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        (file,) = tmp_path.rglob("properties.onnx")
        frames = alloys(50)[40:]
        found = load_property_model(file).predict(frames)
        for one, right in zip(found, trainer.predict(frames), strict=True):
            for name, values in right.properties.items():
                # Sums in another order.
                np.testing.assert_allclose(one[name], values, rtol=1e-9, atol=1e-11, err_msg=name)
