"""The `training` block: loss, optimizer, splits, and how long and where to run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from kimgnn.manifest.block import AnyCase, Block, InputPath, NotNegative, Positive, Text, wrong
from kimgnn.manifest.dataset import LabelWeights


def _is_size(size: int | float) -> int | float:
    if size < 0 or (isinstance(size, float) and not 0 < size < 1):
        raise wrong("is not a size", allowed="a whole number of structures, or a fraction between 0 and 1")
    return size


def _is_training_size(size: int | float) -> int | float:
    if size == 0:
        raise wrong("leaves nothing to train on", allowed="at least 1 structure, or a fraction between 0 and 1")
    return _is_size(size)


def is_duration(text: str) -> str:
    """Refuse what is not `DD:HH:MM:SS`."""
    parts = text.split(":")
    if len(parts) != 4 or any(len(part) != 2 or not part.isdecimal() for part in parts):
        raise wrong("is not a duration", allowed="'DD:HH:MM:SS' in quotes, such as '00:01:30:00'")
    return text


Size = Annotated[int | float, AfterValidator(_is_size)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Loss(Block):
    """What training makes small."""

    function: Annotated[Literal["mse", "mae", "huber"], AnyCase] = "mse"
    """Squared, absolute or Huber error."""
    huber_delta: Positive = 0.01
    """Where Huber's error turns from squared to absolute; one number for eV (or eV/atom), eV/Å and eV/Å³ alike."""
    weights: LabelWeights | InputPath | None = None
    """Weights of the labels, or a file with a row of them for each structure (KLIFF's format).

    1 for energy and forces when absent, or nothing where no head predicts energies."""
    balance: Annotated[Literal["fixed", "inverse_spread", "uncertainty"], AnyCase] = "fixed"
    """How several tasks are weighed beside their weights.

    `fixed` not at all; `inverse_spread` counts errors in units of a label's spread over the training set; `uncertainty`
    learns the noise of each task (Kendall et al. 2018)."""
    normalize_per_atom: bool = False
    """Compare energies per atom instead of per structure."""


class Scheduler(Block):
    """How the learning rate changes, epoch by epoch."""

    name: Text
    """A class of `torch.optim.lr_scheduler`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Its options."""


class Optimizer(Block):
    """What moves the weights."""

    name: Text = "Adam"
    """A class of `torch.optim`."""
    learning_rate: Positive = 1e-3
    """Its learning rate."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its other options, such as `weight_decay`."""
    ema: bool = False
    """Validate and export an exponential moving average of the weights instead of the weights."""
    ema_decay: Fraction = 0.99
    """What the average keeps of itself in a step."""
    lr_scheduler: Scheduler | None = None
    """How the learning rate changes; constant when absent."""


class TrainingSet(Block):
    """Which structures are trained on; all that are left when nothing is said."""

    train_size: Annotated[int | float, AfterValidator(_is_training_size)] | None = None
    """How many structures, or which fraction of them."""
    train_indices: InputPath | None = None
    """A file with their indices, one a line."""


class ValidationSet(Block):
    """Which structures choose the best weights; none when nothing is said."""

    val_size: Size | None = None
    """How many structures, or which fraction of them."""
    val_indices: InputPath | None = None
    """A file with their indices, one a line."""
    path: InputPath | list[InputPath] | None = None
    """Structures of their own, read as the data set is."""


class TestSet(Block):
    """Which structures are kept for the end; none when nothing is said."""

    test_size: Size | None = None
    """How many structures, or which fraction of them."""
    test_indices: InputPath | None = None
    """A file with their indices, one a line."""
    path: InputPath | list[InputPath] | None = None
    """Structures of their own, read as the data set is."""


class EarlyStopping(Block):
    """When to stop before the last epoch."""

    patience: Annotated[int, Field(ge=1)] = 10
    """Epochs without a better validation loss (training loss, where there is no validation set)."""
    delta: NotNegative = 1e-3
    """What counts as better."""


def _switch(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


class Training(Block):
    """How the network is trained."""

    loss: Loss = Loss()
    """What training makes small."""
    optimizer: Optimizer = Optimizer()
    """What moves the weights."""
    training_dataset: TrainingSet = TrainingSet()
    """Which structures are trained on."""
    validation_dataset: ValidationSet = ValidationSet()
    """Which structures choose the best weights."""
    test_dataset: TestSet = TestSet()
    """Which structures are kept for the end."""
    initial_weights: InputPath | None = None
    """Run directory or checkpoint of the same network, whose weights training begins with; fresh ones when absent."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Structures in a step, at most."""
    max_atoms: Annotated[int, Field(ge=1)] | None = None
    """Atoms in a step, at most; a structure with more is alone in its batch. Any number when absent.

    With this or `max_edges`, `batch_size` is the largest number of structures."""
    max_edges: Annotated[int, Field(ge=1)] | None = None
    """Edges of the graphs in a step, at most, likewise."""
    epochs: Annotated[int, Field(ge=1)] = 10000
    """Passes through the training set, at most."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load data; 0 loads in the training process."""
    ckpt_interval: Annotated[int, Field(ge=1)] = 50
    """Epochs between the checkpoints that are kept (best and last always are)."""
    early_stopping: Annotated[EarlyStopping | None, BeforeValidator(_switch)] = None
    """When to stop before the last epoch; `true` takes the defaults, `false` never does."""
    mixed_precision: Literal["bf16", "fp16"] | None = None
    """Compute the products of the trunk's layers with 16 bits in training steps; with those of the weights when absent.

    Weights, heads, sums, validation and exports keep theirs (`model.precision: single`). `fp16` needs a CUDA device.
    `kimgnn bench precision` says what it gains and costs."""
    gradient_clip: Positive | None = None
    """Largest norm of the gradient; not clipped when absent."""
    tabulate: bool = False
    """Evaluate what layers make of distances at the sites of splines in training steps: for SchNet, CGCNN and GAT.

    The more pairs of atoms a batch has, and with forces, the more is saved. The weights are those of the network, and
    whatever is validated, saved and exported is the network without splines; their error is logged, and a large one
    ends training."""
    compile: bool = False
    """Compile the training step of a SchNet that learns energies, forces and stress, on a CPU with a C++ compiler.

    About a minute before the first step, then half of the time of a step or less, most of all with `tabulate` and small
    batches. The weights, and whatever is validated, saved and exported, are those of the network."""
    strategy: Literal["auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook"] = "auto"
    """How processes work together."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Where to compute (KLIFF's documentation also writes `device`)."""
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] | list[int] = "auto"
    """How many devices (or processes on CPU), or which."""
    max_time: Annotated[str, AfterValidator(is_duration)] | None = None
    """Stop after this long, as `"DD:HH:MM:SS"`, in quotes."""
    verbose: bool = False
    """Say more."""
    log_per_atom_pred: bool = False
    """Store the predictions for every atom at each validation."""
