"""The `workspace`, `transforms` and `model` blocks: where a run lives, the graph, the network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from kimgnn.manifest.block import Block, InputPath, Text, or_beside_the_manifest, wrong
from kimgnn.manifest.uncertainty import Uncertainty


def _is_file_name(name: str) -> str:
    if set(name) & set("/\\*?[]") or name.startswith("."):
        raise wrong("cannot name a run directory", allowed="a name without / \\ * ? [ ] and no dot at the front")
    return name


def _is_empty(transforms: list[Any]) -> list[Any]:
    if transforms:
        raise wrong("is for physics-based KIM models: a network has no parameters to transform", remedy="Remove it.")
    return transforms


def _find_table(options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Look for an architecture's table of elements where other files are looked for."""
    table = options.get("element_features")
    if not (isinstance(table, str) and table.endswith(".json")):
        return options
    return options | {"element_features": or_beside_the_manifest(table, info)}


CUTOFFS = ("cutoff", "angle_cutoff")
"""Options that the transform and the architecture have in common, Å: given once, the other follows."""


class Workspace(Block):
    """Where runs live, and what makes them reproducible."""

    name: Text = "kliff_workspace"
    """Folder that holds the run directories."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 12345
    """Seed of every random number (KLIFF's documentation also writes `random_seed`)."""
    resume: bool | Text = False
    """Continue the last run of this name, or the run in this directory."""


class ConfigurationTransform(Block):
    """What makes a graph of a structure."""

    name: Text = "PeriodicGraph"
    """`PeriodicGraph`, KLIFF's `RadialGraph`, or one that another package registers."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its options: `cutoff` in Å, `species`, `n_layers`."""


class PropertyOptions(Block):
    """Options of a property transform."""

    keep_original: bool = False
    """KLIFF's; kimgnn never changes the labels, only what the loss compares."""


class PropertyTransform(Block):
    """How a label is brought to the order of one for the loss."""

    name: Literal[
        "NormalizedPropertyTransform", "RMSNormalizePropertyTransform", "RMSMagnitudeNormalizePropertyTransform"
    ]
    """By mean and standard deviation, by the root mean square, or by that of the vectors' lengths."""
    kwargs: PropertyOptions = PropertyOptions()
    """Its options."""


class Property(Block):
    """A label and its transform, as KLIFF writes it: `{name: energy, energy: {name: NormalizedPropertyTransform}}`."""

    name: Literal["energy", "forces", "stress"]
    """The label."""
    energy: PropertyTransform | None = None
    """The transform, where the label is the energy."""
    forces: PropertyTransform | None = None
    """The transform, where the label is the forces."""
    stress: PropertyTransform | None = None
    """The transform, where the label is the stress."""


class Transforms(Block):
    """From structures to what the network sees."""

    configuration: ConfigurationTransform = ConfigurationTransform()
    """What makes a graph of a structure."""
    property: list[Property] = Field(default_factory=list)
    """What the loss compares instead of a label; predictions stay in the label's unit."""
    parameter: Annotated[list[Any], AfterValidator(_is_empty)] = Field(default_factory=list)
    """KLIFF's parameter transforms are for physics-based KIM models: empty."""


class Composition(Block):
    """What the elements of a structure say, besides its graph: features of the composition and where they enter."""

    features: Literal["magpie", "fractions"] = "magpie"
    """Magpie's 132 statistics of element properties (training needs matminer), or the fractions of the elements."""
    fusion: Literal["early", "attention", "intermediate", "late"] = "early"
    """Beside the features of atoms, in their place by learned weights, between layers, or as a forest beside heads."""
    hidden_channels: Annotated[int, Field(ge=1)] = 64
    """Width of the encoded composition; not of late fusion."""
    num_hidden_layers: Annotated[int, Field(ge=0)] = 1
    """Hidden layers of the MLP that encodes it; not of late fusion."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a hidden feature of it is dropped in training; not of late fusion."""
    n_trees: Annotated[int, Field(ge=1)] = 200
    """Late fusion: trees in the forest of a head."""
    max_leaves: Annotated[int, Field(ge=2)] = 512
    """Late fusion: leaves of a tree at most, which bounds the size of files."""


class Model(Block):
    """The network: built from `architecture`, given to the trainer as a module, or a TorchScript file."""

    name: Annotated[Text, AfterValidator(_is_file_name)] | None = None
    """Names the run directories; the architecture's name when absent."""
    architecture: Text | None = None
    """Name of an architecture, such as `schnet`."""
    options: Annotated[dict[str, Any], AfterValidator(_find_table)] = Field(default_factory=dict)
    """The architecture's options."""
    heads: list[dict[str, Any]] = Field(default_factory=list)
    """What the network predicts: each has a `type` and that head's options. One energy head when absent."""
    split_depth: Annotated[int, Field(ge=0)] = 0
    """Layers, from the last, of which each head has its own; with 0 all heads share the whole network."""
    composition: Composition | None = None
    """Features of the composition besides the graph; none when absent."""
    ensemble: Annotated[int, Field(ge=1)] = 1
    """Networks that are trained from as many seeds, and say together how sure they are. `training.devices` says how
    many are trained at a time."""
    uncertainty: Uncertainty | None = None
    """Standard deviations and intervals; absent, only an ensemble has them, or a head with `loss: nll`."""
    precision: Literal["double", "single"] = "double"
    """Precision of the weights; coordinates, energies and their sums are double in either."""
    input_args: list[Text] = Field(default_factory=list)
    """For a module or TorchScript file: the graph's tensors that it takes, in order."""
    model_path: InputPath | None = None
    """A TorchScript file to train."""
    path: Text | None = None
    """KLIFF's, for KIM models."""
    type: Text | None = None
    """KLIFF's, for KIM models."""
    collection: Text = "user"
    """The KIM collection that models are installed into."""
