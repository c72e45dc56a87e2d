"""Whatever is wrong with a manifest is told at once: where, what came, what is allowed, the nearest match."""

import copy
import math
from typing import get_args

import pytest

from kimgnn.data.units import conversion
from kimgnn.errors import ManifestError
from kimgnn.manifest import load_manifest
from kimgnn.manifest.dataset import EnergyUnit, ForceUnit, StressUnit


def merged(base, change):
    """`base` with `change` laid over it, mapping by mapping."""
    if isinstance(base, dict) and isinstance(change, dict):
        return base | {key: merged(base.get(key), value) for key, value in change.items()}
    return change


SCHNET = {
    "dataset": {"path": "data.xyz"},
    "transforms": {"configuration": {"kwargs": {"cutoff": 4.0, "species": ["Si"]}}},
    "model": {"architecture": "schnet"},
}

MODULE = {
    "dataset": {"path": "data.xyz"},
    "transforms": {
        "configuration": {"name": "RadialGraph", "kwargs": {"cutoff": 4.0, "species": ["Si"], "n_layers": 2}}
    },
    "model": {"input_args": ["z", "coords", "edge_index0", "edge_index1", "contributions"]},
}


def problems(manifest, **kwargs):
    with pytest.raises(ManifestError) as caught:
        load_manifest(manifest, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def test_the_bases_are_right():
    """Each case below adds one fault to a manifest that has none."""
    load_manifest(SCHNET)
    load_manifest(MODULE, model_given=True)


CASES = {
    # keys and blocks
    "unknown block": (
        {"trainig": {}},
        "trainig: unknown block. Allowed: workspace, dataset, transforms, model, training, "
        "export, tuning, active. Did you mean 'training'?",
    ),
    "missing dataset": ({"dataset": None}, "dataset: this block is missing."),
    "missing model": ({"model": None}, "model: this block is missing."),
    "block of a wrong type": ({"training": [1]}, "training: must be a mapping (got [1])."),
    "unknown key": (
        {"workspace": {"sede": 1}},
        "workspace.sede: unknown key. Allowed: name, seed, resume, extra. Did you mean 'seed'?",
    ),
    "unknown nested key": (
        {"training": {"loss": {"weights": {"enery": 1}}}},
        "training.loss.weights.enery: unknown key. "
        "Allowed: config, energy, forces, stress, extra. Did you mean 'energy'?",
    ),
    "known key in extra": (
        {"workspace": {"extra": {"seed": 1}}},
        "workspace.extra: seed would escape the checks (got {'seed': 1}). Write it beside 'extra', not in it.",
    ),
    # types
    "true is not 1": ({"training": {"batch_size": True}}, "training.batch_size: must be a whole number (got True)."),
    "1 is not true": ({"training": {"verbose": 1}}, "training.verbose: must be true or false (got 1)."),
    "true is not 1.0": (
        {"training": {"optimizer": {"learning_rate": True}}},
        "training.optimizer.learning_rate: must be a number (got True).",
    ),
    "true is no option of 1": (
        {"model": {"options": {"num_interactions": True}}},
        "model.options.num_interactions: must be a whole number (got True).",
    ),
    "1.5 epochs": ({"training": {"epochs": 1.5}}, "training.epochs: must be a whole number (got 1.5)."),
    "no epochs": ({"training": {"epochs": 0}}, "training.epochs: must be greater than or equal to 1 (got 0)."),
    "empty batch": (
        {"training": {"batch_size": 0}},
        "training.batch_size: must be greater than or equal to 1 (got 0).",
    ),
    "nan": ({"training": {"gradient_clip": math.nan}}, "training.gradient_clip: must be finite (got nan)."),
    "an object": ({"workspace": {"name": object}}, "workspace.name: a manifest cannot hold a type"),
    "a key that is a number": ({"dataset": {"keys": {1: "energy"}}}, "dataset.keys.1: a key must be text (got 1)."),
    "version read as a number": (
        {"export": {"driver_version": 1}},
        "export.driver_version: must be text (got 1). Put it in quotes: YAML reads it as something else.",
    ),
    "one of several types": (
        {"training": {"loss": {"weights": 3}}},
        "training.loss.weights: must be a mapping, or text (got 3). Put it in quotes: YAML reads it as something else.",
    ),
    # choices
    "loss function": (
        {"training": {"loss": {"function": "msee"}}},
        "training.loss.function: unknown value (got 'msee'). Allowed: 'mse', 'mae', 'huber'. Did you mean 'mse'?",
    ),
    "unit": ({"dataset": {"units": {"stress": "GPA"}}}, "dataset.units.stress: unknown value (got 'GPA'). Allowed: "),
    "dataset type": ({"dataset": {"type": "asee"}}, "Did you mean 'ase'?"),
    "precision": ({"model": {"precision": "dobule"}}, "Allowed: 'double', 'single'. Did you mean 'double'?"),
    "optimizer": (
        {"training": {"optimizer": {"name": "Adamm"}}},
        "training.optimizer.name: unknown name (got 'Adamm'). Allowed: ASGD, Adadelta, ",
    ),
    "optimizer's option": (
        {"training": {"optimizer": {"name": "SGD", "kwargs": {"momentun": 0.9}}}},
        "training.optimizer.kwargs.momentun: unknown option of 'SGD'. Allowed: momentum, ",
    ),
    "learning rate twice": (
        {"training": {"optimizer": {"kwargs": {"lr": 0.1}}}},
        "training.optimizer.kwargs.lr: unknown option of 'Adam'",
    ),
    "scheduler": (
        {"training": {"optimizer": {"lr_scheduler": {"name": "StepLr", "args": {"step_size": 1}}}}},
        "Did you mean 'StepLR'?",
    ),
    "scheduler without its argument": (
        {"training": {"optimizer": {"lr_scheduler": {"name": "StepLR"}}}},
        "training.optimizer.lr_scheduler.args.step_size: is missing.",
    ),
    "architecture": (
        {"model": {"architecture": "schnt"}},
        "model.architecture: unknown architecture (got 'schnt'). Allowed: alignn, cgcnn, gat, megnet, schnet",
    ),
    "option": (
        {"model": {"options": {"cutof": 4}}},
        "model.options.cutof: unknown option of 'schnet'. Allowed: … Did you mean 'cutoff'?",
    ),
    "option's choice": (
        {"model": {"options": {"cutoff_function": "cosin"}}},
        "model.options.cutoff_function: unknown value "
        "(got 'cosin'). Allowed: 'cosine', 'polynomial'. Did you mean 'cosine'?",
    ),
    "option's range": ({"model": {"options": {"num_gaussians": 1}}}, "model.options.num_gaussians: must be at least 2"),
    "head": (
        {"model": {"heads": [{"type": "enrgy"}]}},
        "model.heads.0.type: unknown head (got 'enrgy'). Allowed: classification, energy, property",
    ),
    "head without a type": (
        {"model": {"heads": [{"scale": 1.0}]}},
        "model.heads.0.type: must name a head. Allowed: classification, energy, property",
    ),
    "head's option": (
        {"model": {"heads": [{"type": "energy", "scal": 1.0}]}},
        "model.heads.0.scal: unknown option of 'energy'. Allowed: ",
    ),
    "head's value": (
        {"model": {"heads": [{"type": "energy", "scale": "fitt"}]}},
        "model.heads.0.scale: unknown value (got 'fitt'). Allowed: 'fit', a number. Did you mean 'fit'?",
    ),
    "head's target is a reserved name": (
        {"model": {"heads": [{"type": "property", "target": "forces"}]}},
        "model.heads.0.target: must be a word without",
    ),
    "two heads of one name": (
        {"model": {"heads": [{"type": "energy"}, *[{"type": "property", "target": "gap"}] * 2]}},
        "model.heads.2: is a second head called 'gap'",
    ),
    "one target read in two ways": (
        {
            "model": {
                "heads": [
                    {"type": "energy"},
                    {"type": "property", "target": "gap"},
                    {"type": "classification", "target": "gap", "name": "metal", "threshold": 0.0},
                ]
            }
        },
        "model.heads.2.target: is read otherwise by another head (got 'gap'). Give the column a second name",
    ),
    "logarithm of an extensive target": (
        {
            "model": {
                "heads": [
                    {"type": "energy"},
                    {"type": "property", "target": "E", "extensive": True, "transform": "log10"},
                ]
            }
        },
        "model.heads.1.transform: must be 'none' or 'per_atom' for an extensive target",
    ),
    "class weights": (
        {
            "model": {
                "heads": [
                    {"type": "energy"},
                    {"type": "classification", "target": "a", "classes": ["x", "y"], "class_weights": [1.0]},
                ]
            }
        },
        "model.heads.1.class_weights: must have 2 numbers (got 1)",
    ),
    "one class": (
        {"model": {"heads": [{"type": "energy"}, {"type": "classification", "target": "a", "classes": ["x"]}]}},
        "model.heads.1.classes: must be two or more different ones",
    ),
    "likelihood without bound": (
        {
            "model": {"heads": [{"type": "energy"}, {"type": "property", "target": "gap", "loss": "nll"}]},
            "training": {"loss": {"balance": "uncertainty"}},
        },
        "model.heads.1.loss: is a likelihood: it may be below 0",
    ),
    "a test set that would be downloaded": (
        {
            "dataset": {"type": "materials_project", "materials_project": {"ids": ["mp-149"]}},
            "training": {"test_dataset": {"path": "test.csv"}},
        },
        "training.test_dataset.path: cannot be read as the data set is, by type materials_project",
    ),
    "balance": ({"training": {"loss": {"balance": "learned"}}}, "training.loss.balance: unknown value (got 'learned')"),
    "inside one of several types": (
        {"model": {"heads": [{"type": "energy", "reference_energies": {"Si": "low"}}]}},
        "model.heads.0.reference_energies.Si: must be a number (got 'low').",
    ),
    "transform": ({"transforms": {"configuration": {"name": "PeriodicGrap"}}}, "Did you mean 'PeriodicGraph'?"),
    "transform's option": (
        {"transforms": {"configuration": {"kwargs": {"specis": ["Si"]}}}},
        "transforms.configuration.kwargs.specis: unknown option of 'PeriodicGraph'. Allowed: cutoff, "
        "species, n_layers. Did you mean 'species'?",
    ),
    "property transform": (
        {"transforms": {"property": [{"name": "energy", "energy": {"name": "Normalized"}}]}},
        "transforms.property.0.energy.name: unknown value (got 'Normalized'). Allowed: 'NormalizedPropertyTransform', ",
    ),
    "property without its transform": (
        {"transforms": {"property": [{"name": "energy"}]}},
        "transforms.property.0.energy: is missing. Write it as {name: energy, energy: {name: NormalizedProperty",
    ),
    "property": (
        {"transforms": {"property": [{"name": "enrgy"}]}},
        "transforms.property.0.name: unknown value (got 'enrgy'). Allowed: 'energy', 'forces', 'stress'. "
        "Did you mean 'energy'?",
    ),
    "parameter transform": (
        {"transforms": {"parameter": [{"name": "A"}]}},
        "transforms.parameter: is for physics-based KIM models",
    ),
    # formats
    "KIM name": (
        {"export": {"model_name": "SchNet-1__MO_111111111111_000"}},
        "export.model_name: is not a KIM model name "
        "(got 'SchNet-1__MO_111111111111_000'). Allowed: <prefix>__MO_<12 digits>_<3 digits>",
    ),
    "driver version": (
        {"export": {"driver_version": "1"}},
        "export.driver_version: is not a driver version (got '1'). Allowed: three digits in quotes",
    ),
    "no format": ({"export": {"formats": []}}, "export.formats: names no format (got []). Allowed: one or more of"),
    "format twice": ({"export": {"formats": ["pt2", "pt2"]}}, "export.formats: names a format twice"),
    "format": (
        {"export": {"formats": ["onnxx"]}},
        "export.formats.0: unknown value (got 'onnxx'). Allowed: 'torchscript', 'onnx', 'pt2'. Did you mean 'onnx'?",
    ),
    "slice": ({"dataset": {"slices": "first"}}, "dataset.slices: is not a slice (got 'first'). Allowed: start:stop"),
    "slice read as a number": ({"dataset": {"slices": 70}}, "dataset.slices: must be text (got 70). Put it in quotes"),
    "duration": ({"training": {"max_time": "1h"}}, "training.max_time: is not a duration (got '1h'). Allowed: "),
    "run name": ({"model": {"name": "a/b"}}, "model.name: cannot name a run directory (got 'a/b')."),
    "train size": (
        {"training": {"training_dataset": {"train_size": 0}}},
        "training.training_dataset.train_size: leaves nothing to train on (got 0).",
    ),
    "fraction": (
        {"training": {"validation_dataset": {"val_size": 1.5}}},
        "training.validation_dataset.val_size: is not a "
        "size (got 1.5). Allowed: a whole number of structures, or a fraction between 0 and 1.",
    ),
    "test size": ({"training": {"test_dataset": {"test_size": -1}}}, "training.test_dataset.test_size: is not a size"),
    # across keys and blocks
    "no path": ({"dataset": {"path": None}}, "dataset.path: is missing."),
    "colabfit": (
        {"dataset": {"type": "ColabFit", "colabfit_dataset": {"database_name": "Si"}}},
        "dataset.colabfit_dataset.dataset_name: is missing.",
    ),
    "seed twice": (
        {"workspace": {"seed": 1, "random_seed": 2}},
        "workspace.random_seed: says something else than "
        "workspace.seed (got 2). Keep one of them: workspace.seed says 1.",
    ),
    "no neighbours": (
        {"transforms": {"configuration": {"name": "CrystalGraph", "kwargs": {"max_neighbors": 0}}}},
        "transforms.configuration.kwargs.max_neighbors: must be at least 1, or null for all (got 0).",
    ),
    "cutoff of zero": (
        {"transforms": {"configuration": {"kwargs": {"cutoff": 0}}}},
        "transforms.configuration.kwargs.cutoff: must be a positive distance, in Å (got 0.0).",
    ),
    "two cutoffs": (
        {"model": {"options": {"cutoff": 5.0}}},
        "model.options.cutoff: differs from "
        "transforms.configuration.kwargs.cutoff, 4.0 (got 5.0). Give the cutoff once; the other follows.",
    ),
    "no element": (
        {"transforms": {"configuration": {"kwargs": {"species": ["Sj"]}}}},
        "transforms.configuration.kwargs.species.0: is not a chemical element (got 'Sj').",
    ),
    "element twice": (
        {"transforms": {"configuration": {"kwargs": {"species": ["Si", "Si"]}}}},
        "transforms.configuration.kwargs.species.1: is there twice (got 'Si').",
    ),
    "reference of no element": (
        {"model": {"heads": [{"type": "energy", "reference_energies": {"Si": 1, "Q": 1}}]}},
        "model.heads.0.reference_energies.Q: is not a chemical element",
    ),
    "reference missing": (
        {"model": {"heads": [{"type": "energy", "reference_energies": {"C": -1.0}}]}},
        "model.heads.0.reference_energies.Si: is missing. Si is in the transform's species.",
    ),
    "two heads": (
        {"model": {"heads": [{"type": "energy"}, {"type": "energy"}]}},
        "model.heads.1: is a second head called 'energy' (got 'energy'). Remove one.",
    ),
    "nothing fitted": ({"training": {"loss": {"weights": {"energy": 0}}}}, "training.loss.weights: nothing is fitted."),
    "no structure counts": (
        {"training": {"loss": {"weights": {"config": 0, "energy": 1}}}},
        "training.loss.weights.config: no structure counts",
    ),
    "fractions above 1": (
        {"training": {"training_dataset": {"train_size": 0.8}, "test_dataset": {"test_size": 0.3}}},
        "training.training_dataset.train_size: with the other fractions this makes 1.1, above 1.",
    ),
    "architecture on ghosts": (
        {"transforms": {"configuration": {"name": "RadialGraph", "kwargs": {"n_layers": 3}}}},
        "Take PeriodicGraph.",
    ),
    "architecture's inputs": (
        {"model": {"input_args": ["z"]}},
        "model.input_args: belongs to a module given to the trainer",
    ),
    "compiled steps with casts": (
        {"model": {"precision": "single"}, "training": {"compile": True, "mixed_precision": "bf16"}},
        "training.compile: compiles no casts (training.mixed_precision)",
    ),
    "compiled steps with learned weights": (
        {"training": {"compile": True, "loss": {"balance": "uncertainty"}}},
        "training.compile: is for weights that are not learned (training.loss.balance)",
    ),
    "compiled steps on a GPU": ({"training": {"compile": True, "accelerator": "gpu"}}, "training.compile: is for CPUs"),
    "compiled steps in two processes": (
        {"training": {"compile": True, "devices": 2}},
        "training.compile: is for a single process (training.devices)",
    ),
    "compiled steps of another network": (
        {"model": {"architecture": "megnet"}, "training": {"compile": True}},
        "training.compile: is for SchNet alone",
    ),
    "TorchML with tables": (
        {"export": {"driver": "torchml", "tabulate": True}},
        "export.tabulate: the TorchML driver gets no tables (got True). Allowed: false.",
    ),
    "tables of nothing": (
        {"export": {"tabulate": 0}},
        "export.tabulate: must be greater than or equal to 1 (got 0).",
    ),
    "TorchML in another format": (
        {"export": {"driver": "torchml", "formats": ["torchscript", "pt2"]}},
        "export.formats: the TorchML driver runs TorchScript only (got ['torchscript', 'pt2']). "
        "Allowed: [torchscript]. Take driver: kimgnn.",
    ),
    "forest without validation": (
        {"model": {"composition": {"fusion": "late"}, "heads": [{"type": "property", "target": "gap"}]}},
        "model.composition.fusion: chooses the weight of the forest on validation data, of which there are none",
    ),
    "forest beside nothing": (
        {"model": {"composition": {"fusion": "late"}}, "training": {"validation_dataset": {"val_size": 2}}},
        "model.composition.fusion: has no forest beside a head of energies or of a property of each atom",
    ),
    "fusion": (
        {"model": {"composition": {"fusion": "middle"}}},
        "model.composition.fusion: unknown value (got 'middle'). Allowed: 'early', 'attention', 'intermediate', 'late'",
    ),
    "two networks": (
        {"model": {"model_path": "a.pt"}},
        "model.model_path: is a second network beside model.architecture",
    ),
}


@pytest.mark.parametrize(("change", "told"), CASES.values(), ids=CASES)
def test_bad_manifest(change, told):
    """Each fault gives exactly one problem, in these words (… stands for a list of names)."""
    found = problems(merged(SCHNET, change))
    assert all(part in found[0] for part in told.split("…")), found
    assert len(found) == 1, found


MODULE_CASES = {
    "species": (
        {"model": {"input_args": ["species", "coords"]}},
        "model.input_args.0: species codes differ from structure "
        "to structure: RadialGraph counts the elements of each anew (got 'species'). Take 'z'",
    ),
    "unknown tensor": (
        {"model": {"input_args": ["z", "cords"]}},
        "model.input_args.1: the RadialGraph has no such tensor (got 'cords'). Allowed: ",
    ),
    "ours only": (
        {"model": {"input_args": ["z", "coords", "edge_index0", "shifts"]}},
        "model.input_args.3: the RadialGraph has no such tensor (got 'shifts'). Allowed: ",
    ),
    "layer beyond": ({"model": {"input_args": ["z", "coords", "edge_index2"]}}, "Did you mean 'edge_index"),
    "no inputs": ({"model": {"input_args": []}}, "model.input_args: is missing."),
    "heads": (
        {"model": {"heads": [{"type": "energy"}]}},
        "model.heads: belongs to model.architecture, which is not given.",
    ),
    "edge-vector driver": ({"export": {"driver": "kimgnn"}}, "export.driver: takes architectures only"),
    "module in ONNX": (
        {"export": {"formats": ["onnx"]}},
        "export.formats: the TorchML driver runs TorchScript only (got ['onnx']). Allowed: [torchscript]. A module",
    ),
    "lost neighbours": (
        {"transforms": {"configuration": {"name": "PeriodicGraph"}}},
        "model.input_args: without 'shifts', "
        "coordinates of a PeriodicGraph miss the neighbours across the cell's boundary.",
    ),
    "RadialGraph without layers": (
        {"transforms": {"configuration": {"kwargs": {"n_layers": None}}}},
        "transforms.configuration.kwargs.n_layers: must be a whole number.",
    ),
}


@pytest.mark.parametrize(("change", "told"), MODULE_CASES.values(), ids=MODULE_CASES)
def test_bad_manifest_for_a_module(change, told):
    """The same for a module that is given to the trainer."""
    found = problems(merged(MODULE, change), model_given=True)
    assert len(found) == 1
    assert told in found[0]


def test_everything_is_told_at_once():
    """Faults in every block, of every kind, come in one error."""
    found = problems(
        {
            "workspace": {"seed": -1},
            "dataset": {"pth": "data.xyz"},
            "transforms": {"configuration": {"kwargs": {"cutoff": 0, "species": ["Sj"]}}},
            "model": {"architecture": "schnt"},
            "training": {"batch_size": 0, "loss": {"function": "msee"}},
            "export": {"model_name": "SchNet"},
        }
    )
    places = {text.split(": ")[0] for text in found}
    assert places == {
        "workspace.seed",
        "dataset.pth",
        "transforms.configuration.kwargs.cutoff",
        "transforms.configuration.kwargs.species.0",
        "model.architecture",
        "training.batch_size",
        "training.loss.function",
        "export.model_name",
    }


def places(node, path=()):
    """The path of every value in nested mappings and lists."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@pytest.mark.parametrize("intruder", [True, -1, "x", [None], {"name": ["x"]}], ids=repr)
def test_a_wrong_value_anywhere(intruder):
    """Whatever stands wherever in a manifest, it loads or is refused with a place; nothing else is raised."""
    nowhere = []
    good = load_manifest(
        merged(
            SCHNET,
            {"transforms": {"property": [{"name": "energy", "energy": {"name": "NormalizedPropertyTransform"}}]}},
        )
    ).to_dict()
    for path in places(good):
        bad = copy.deepcopy(good)
        node = bad
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = intruder
        try:
            load_manifest(bad)
        except ManifestError as error:
            nowhere += [problem for problem in error.problems if not problem.where]
    assert not nowhere


@pytest.mark.parametrize("of_transform", [True, False])
def test_a_wrong_cutoff_is_told_where_it_was_written(of_transform):
    """One bad cutoff is one problem, though transform and architecture share it."""
    manifest = {"dataset": {"path": "data.xyz"}, "model": {"architecture": "schnet"}}
    if of_transform:
        manifest["transforms"] = {"configuration": {"kwargs": {"cutoff": -1}}}
    else:
        manifest["model"]["options"] = {"cutoff": -1}
    (found,) = problems(manifest)
    assert found.startswith("transforms.configuration.kwargs.cutoff" if of_transform else "model.options.cutoff")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the manifest is empty"),
        ("# only a comment\n", "the manifest is empty"),
        ("- a\n- b\n", "must be a mapping of the blocks of a manifest (got 'list')"),
        ("dataset: {path: a\nmodel: b\n", "manifest.yaml:2:6: is not valid YAML"),
        ("dataset:\n\tpath: a\n", "manifest.yaml:2:1: is not valid YAML"),
        ("workspace: {seed: 1, seed: 2}\n", "manifest.yaml:1:22: is not valid YAML: the key 'seed' is there twice"),
        ("dataset: !!python/name:os.system {}\n", "is not valid YAML"),
    ],
)
def test_bad_file(tmp_path, text, told):
    """What is wrong with the file itself is told with line and column."""
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    (found,) = problems(path)
    assert told in found


def test_unreadable_files(tmp_path):
    """No file, a folder, and bytes that are no text are each an error of their own words."""
    assert "cannot read the manifest: No such file" in problems(tmp_path / "none.yaml")[0]
    assert "cannot read the manifest: Is a directory" in problems(tmp_path)[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x89PNG\xff\x00")
    assert "is not a text file in UTF-8" in problems(binary)[0]
    assert "must be a YAML file or a dict" in problems(3)[0]


@pytest.mark.parametrize(("label", "units"), [("energy", EnergyUnit), ("forces", ForceUnit), ("stress", StressUnit)])
def test_readers_know_every_unit_of_a_manifest(label, units):
    """Each unit that a manifest may name has a conversion."""
    assert all(conversion(label, unit) > 0 for unit in get_args(units))
