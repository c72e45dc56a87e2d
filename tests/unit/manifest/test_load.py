"""A manifest goes in as YAML or a dict and comes out plain, filled and stable."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest, manifest_hash

ROOT = Path(__file__).resolve().parents[3]

KLIFF_TUTORIAL = {
    "workspace": {"name": "GNN_train_example", "random_seed": 12345},
    "model": {"name": "SchNet1", "input_args": ["z", "coords", "edge_index0", "contributions"]},
    "dataset": {"type": "path", "path": "Si_training_set_4_configs", "shuffle": True},
    "transforms": {
        "configuration": {"name": "RadialGraph", "kwargs": {"cutoff": 4.0, "species": ["Si"], "n_layers": 1}}
    },
    "training": {
        "loss": {"function": "MSE", "weights": {"config": 1.0, "energy": 1.0, "forces": 10.0}},
        "optimizer": {"name": "Adam", "learning_rate": 1e-3},
        "training_dataset": {"train_size": 3},
        "validation_dataset": {"val_size": 1},
        "batch_size": 1,
        "epochs": 10,
        "strategy": "ddp_notebook",
        "accelerator": "cpu",
    },
    "export": {"model_path": "./", "model_name": "SchNet1__MO_111111111111_000"},
}


def schnet(**blocks: object) -> dict[str, object]:
    """The shortest manifest there is."""
    return {
        "dataset": {"path": "data.xyz"},
        "model": {"architecture": "schnet", "options": {"cutoff": 4.0}},
    } | blocks


def test_kliffs_documented_manifest_loads_unchanged():
    """The GNN tutorial's manifest, with the module passed as `model=`, keeps every value by KLIFF's key names."""
    plain = load_manifest(KLIFF_TUTORIAL, model_given=True).to_dict()
    assert plain["workspace"] == {"name": "GNN_train_example", "seed": 12345, "resume": False}
    assert plain["model"]["input_args"] == KLIFF_TUTORIAL["model"]["input_args"]
    assert plain["transforms"]["configuration"]["kwargs"]["cutoff"] == 4.0
    assert plain["training"]["loss"]["function"] == "mse"
    assert plain["training"]["loss"]["weights"] == {"config": 1.0, "energy": 1.0, "forces": 10.0, "stress": 0.0}
    assert plain["training"]["strategy"] == "ddp_notebook"
    assert plain["dataset"]["shuffle"] is True
    assert plain["export"]["driver"] == "torchml"


def test_kliffs_manifest_needs_a_model():
    """Without `model=`, KLIFF's tutorial names no network, and the message says both ways out."""
    with pytest.raises(ManifestError, match=r"model\.architecture: is missing\. Name one, such as 'schnet', or give"):
        load_manifest(KLIFF_TUTORIAL)


@pytest.mark.parametrize(
    ("source", "model_given"),
    [(schnet(), False), (KLIFF_TUTORIAL, True), (ROOT / "manifests/silicon_schnet.yaml", False)],
)
def test_loading_is_idempotent_and_json_safe(source, model_given):
    """What comes out goes in again unchanged, and KLIFF can hash it with json."""
    plain = load_manifest(source, model_given=model_given).to_dict()
    assert load_manifest(json.loads(json.dumps(plain)), model_given=model_given).to_dict() == plain


def test_defaults_of_absent_blocks():
    """Where KLIFF crashes on an absent block, the documented defaults hold: MSE of energy and forces, Adam, 1e-3."""
    training = load_manifest(schnet()).to_dict()["training"]
    assert training["loss"]["function"] == "mse"
    assert training["loss"]["weights"] == {"config": 1.0, "energy": 1.0, "forces": 1.0, "stress": 0.0}
    assert training["optimizer"]["name"] == "Adam"
    assert training["optimizer"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    "block", ["loss", "optimizer", "training_dataset", "batch_size", "num_workers", "early_stopping"]
)
def test_null_is_absent(block):
    """KLIFF's optional values may be null."""
    assert load_manifest(schnet(training={block: None})) == load_manifest(schnet())


def test_only_named_labels_are_fitted():
    """Weights that name the energy alone leave forces and stress out; null is the same as leaving out."""
    for weights in ({"energy": 1}, {"energy": 1, "forces": None, "stress": 0}):
        plain = load_manifest(schnet(training={"loss": {"weights": weights}})).to_dict()
        assert plain["training"]["loss"]["weights"] == {"config": 1.0, "energy": 1.0, "forces": 0.0, "stress": 0.0}


def test_the_cutoff_is_said_once():
    """The transform's cutoff becomes the architecture's, and the other way round."""
    of_transform = schnet(
        model={"architecture": "schnet"}, transforms={"configuration": {"kwargs": {"cutoff": 5, "species": ["Si"]}}}
    )
    for manifest, cutoff in ((schnet(), 4.0), (of_transform, 5.0)):
        plain = load_manifest(manifest).to_dict()
        assert plain["model"]["options"]["cutoff"] == cutoff
        assert plain["transforms"]["configuration"]["kwargs"]["cutoff"] == cutoff
        assert plain["transforms"]["configuration"]["name"] == "PeriodicGraph"


def test_the_cutoff_of_angles_is_said_once():
    """A network of angles finds the bonds that its graph has found; two that differ are told."""
    graph = {"name": "LineGraph", "kwargs": {"cutoff": 5.0, "max_neighbors": None, "angle_cutoff": 3.5}}
    manifest = schnet(model={"architecture": "alignn"}, transforms={"configuration": graph})
    assert load_manifest(manifest).to_dict()["model"]["options"]["angle_cutoff"] == 3.5
    manifest["model"] = {"architecture": "alignn", "options": {"angle_cutoff": 3.0}}
    with pytest.raises(ManifestError, match=r"model.options.angle_cutoff.*differs"):
        load_manifest(manifest)
    graph["kwargs"]["angle_cutoff"] = None
    assert load_manifest(manifest).to_dict()["transforms"]["configuration"]["kwargs"]["angle_cutoff"] == 3.0


def test_a_network_of_angles_takes_a_line_graph():
    """Triplets are counted before memory is taken for them, and equal distances are not cut by rounding."""
    manifest = schnet(model={"architecture": "alignn", "options": {"cutoff": 4.0}})
    with pytest.raises(ManifestError, match=r"is not the graph that alignn takes.*LineGraph"):
        load_manifest(manifest)


def test_options_and_heads_are_filled():
    """Every default of the architecture and of the energy head is in the dict."""
    model = load_manifest(schnet()).to_dict()["model"]
    assert model["options"]["num_interactions"] == 3
    assert model["heads"][0]["type"] == "energy"
    assert model["heads"][0]["reference_energies"] == "fit"
    assert model["name"] == "schnet"


def test_exponents_that_pyyaml_reads_as_text(tmp_path):
    """`1e-3` is text to PyYAML; it is a number here, in typed keys and in options that torch gets."""
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "dataset: {path: data.xyz}\n"
        "model: {architecture: schnet, options: {cutoff: 4e0}}\n"
        "training: {optimizer: {name: AdamW, learning_rate: 1e-3, kwargs: {weight_decay: 1e-6}}}\n"
    )
    plain = load_manifest(path).to_dict()
    assert plain["training"]["optimizer"]["learning_rate"] == 1e-3
    assert plain["training"]["optimizer"]["kwargs"] == {"weight_decay": 1e-6}
    assert plain["model"]["options"]["cutoff"] == 4.0


def test_paths_and_numpy_values_become_plain():
    """Values on which KLIFF's json.dumps crashes: Path, numpy scalar, array, tuple."""
    manifest = schnet(
        dataset={"path": (Path("a.xyz"), Path("b.xyz"))},
        workspace={"seed": np.int64(7)},
        transforms={"configuration": {"kwargs": {"cutoff": np.float32(4), "species": np.array(["Si", "C"])}}},
    )
    plain = load_manifest(manifest).to_dict()
    assert plain["dataset"]["path"] == ["a.xyz", "b.xyz"]
    assert plain["workspace"]["seed"] == 7
    assert plain["transforms"]["configuration"]["kwargs"]["species"] == ["Si", "C"]
    json.dumps(plain)


def test_index_files_and_device_as_kliff_documents_them():
    """`indices_files` and `device` are other spellings of the index files and the accelerator."""
    training = {"indices_files": {"train": "train.txt", "val": "val.txt"}, "device": "cpu"}
    plain = load_manifest(schnet(training=training)).to_dict()["training"]
    assert plain["training_dataset"]["train_indices"] == "train.txt"
    assert plain["validation_dataset"]["val_indices"] == "val.txt"
    assert plain["accelerator"] == "cpu"


@pytest.mark.parametrize(("given", "kept"), [(True, {"patience": 10, "delta": 1e-3}), (False, None)])
def test_early_stopping_may_be_a_switch(given, kept):
    """`true` takes KLIFF's defaults, `false` switches it off."""
    assert load_manifest(schnet(training={"early_stopping": given})).to_dict()["training"]["early_stopping"] == kept


@pytest.mark.parametrize("given", [True, False, 500, 1])
def test_tables_are_a_switch_or_a_number(given):
    """`1` is a number of intervals, not `true`."""
    kept = load_manifest(schnet(export={"tabulate": given})).export.tabulate
    assert kept == given
    assert type(kept) is type(given)


def test_extra_keys_pass_with_a_warning():
    """`extra` reaches KLIFF as plain keys of its block, with a warning, and survives another load."""
    with pytest.warns(UserWarning, match=r"training\.loss\.extra: passed on unchecked: beta"):
        plain = load_manifest(schnet(training={"loss": {"extra": {"beta": 2}}})).to_dict()
    assert plain["training"]["loss"]["beta"] == 2
    with pytest.warns(UserWarning, match="beta"):
        assert load_manifest(plain).to_dict() == plain


def test_files_are_found_beside_the_manifest(tmp_path, monkeypatch):
    """A path is relative to the current folder, as in KLIFF; what is only beside the YAML file is taken from there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/beside.xyz").touch()
    (tmp_path / "here.xyz").touch()
    path = tmp_path / "elsewhere/manifest.yaml"
    path.write_text(
        "dataset: {path: [here.xyz, beside.xyz, b*.xyz, nowhere.xyz]}\n"
        "model: {architecture: schnet, options: {cutoff: 4.0}}\n"
    )
    monkeypatch.chdir(tmp_path)
    beside = [str(path.parent / name) for name in ("beside.xyz", "b*.xyz")]
    assert load_manifest(path).to_dict()["dataset"]["path"] == ["here.xyz", *beside, "nowhere.xyz"]


def test_a_table_of_elements_is_found_beside_the_manifest(tmp_path, monkeypatch):
    """As other files are, though it is an architecture's option."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/atoms.json").touch()
    path = tmp_path / "elsewhere/manifest.yaml"
    path.write_text(
        "dataset: {path: any.xyz}\n"
        "transforms: {configuration: {name: CrystalGraph}}\n"
        "model: {architecture: cgcnn, options: {element_features: atoms.json}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_manifest(path).to_dict()["model"]["options"]["element_features"] == str(path.parent / "atoms.json")


def test_hash_ignores_order_and_sees_values():
    """The same manifest has one hash, however its keys are ordered."""
    plain = load_manifest(schnet()).to_dict()
    assert manifest_hash(plain) == manifest_hash(dict(reversed(plain.items())))
    assert manifest_hash(plain) != manifest_hash(load_manifest(schnet(workspace={"seed": 1})).to_dict())


def test_import_is_light():
    """Reading the package needs neither torch nor KLIFF: they come with the names that a manifest uses."""
    code = "import sys, kimgnn.manifest; sys.exit(bool({'torch', 'kliff', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_manifest_loads(path):
    """What we ship to be copied is right."""
    assert load_manifest(path).to_dict()["model"]["architecture"]
