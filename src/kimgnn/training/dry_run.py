"""What a manifest's training will be like: its data, its graphs, its memory, and its first step."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from kliff.dataset import Configuration
from loguru import logger
from torch import Tensor, nn

from kimgnn.data.statistics import label_counts, species_of
from kimgnn.errors import TrainingError
from kimgnn.fields import EDGE_INDEX, ENERGY, FORCES, SHIFTS, STRESS, TRIPLETS
from kimgnn.manifest import Manifest, load_manifest
from kimgnn.training.module import make_optimizer
from kimgnn.training.targets import target_counts
from kimgnn.training.trainer import SPLITS, GNNLightningTrainer
from kimgnn.transforms.periodic_graph import PeriodicGraph

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds.

    Attributes:
        parameters: The weights.
        gradients: Their gradients.
        optimizer: The optimizer's state.
        activations: What the forward pass keeps for the backward pass.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.parameters + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / MIB:.1f}" for name, size in asdict(self).items())
        return f"{self.total / MIB:.1f} MiB: {parts}"


@dataclass(frozen=True)
class DryRun:
    """Summary of a manifest's data, network and first training step.

    Attributes:
        counts: Split -> ``structures`` and each label -> how many there are.
        species: Elements in the data.
        nodes: Mean and largest number of nodes of a graph.
        edges: Mean and largest number of edges of a graph.
        triplets: Mean and largest number of triplets of edges, of a line graph; none of others.
        cutoff: Å.
        influence_distance: Å; how far an atom's energy feels. ``None`` of a network that cannot be a potential.
        refusal: Why it cannot be exported as a potential; empty if it can, or predicts no energy.
        ghosts: Smallest, median and largest structure: atoms, and ghost atoms within the influence distance of them;
            none of a network that cannot be a potential.
        n_parameters: Number of weights.
        batch: Structures and edges of the first batch.
        memory: Bytes that its training step holds.
        loss: Its loss with fresh weights.
        seconds: What a forward and backward pass on it takes.
    """

    counts: dict[str, dict[str, int]]
    species: list[str]
    nodes: tuple[float, int]
    edges: tuple[float, int]
    triplets: tuple[float, int] | None
    cutoff: float
    influence_distance: float | None
    refusal: str
    ghosts: list[tuple[int, int]]
    n_parameters: int
    batch: tuple[int, int]
    memory: Memory
    loss: float
    seconds: float

    def __str__(self) -> str:
        labels = [label for label in next(iter(self.counts.values())) if label != "structures"]
        table = [f"{'':12}{'structures':>12}" + "".join(f"{label:>{max(10, len(label) + 2)}}" for label in labels)]
        for split, counts in self.counts.items():
            cells = "".join(f"{counts[label]:{max(10, len(label) + 2)}}" for label in labels)
            table.append(f"{split:12}{counts['structures']:12}{cells}")
        triplets = f", {self.triplets[0]:.0f} triplets (at most {self.triplets[1]})" if self.triplets else ""
        ghosts = ", ".join(f"{ghosts} for {atoms} atoms" for atoms, ghosts in self.ghosts)
        memory = self.memory
        return "\n".join(
            [
                *table,
                f"species             {' '.join(self.species)}",
                f"graph               {self.nodes[0]:.0f} nodes (at most {self.nodes[1]}), "
                f"{self.edges[0]:.0f} edges (at most {self.edges[1]}){triplets}",
                f"cutoff              {self.cutoff:g} Å",
                *([f"not a potential     {self.refusal}"] if self.refusal else []),
                *([f"influence distance  {self.influence_distance:g} Å"] if self.influence_distance else []),
                *([f"ghost atoms         {ghosts}"] if ghosts else []),
                f"network             {self.n_parameters} parameters",
                f"memory of a step    {memory}",
                f"first step          loss {self.loss:.6g}, {self.seconds:.3f} s for {self.batch[0]} structures with "
                f"{self.batch[1]} edges",
            ]
        )


def dry_run(manifest: Manifest | Mapping[str, Any] | str | Path, model: nn.Module | None = None) -> DryRun:
    """Set up the training that ``manifest`` describes, do one step on its first batch, and leave no file behind.

    Args:
        manifest: As `kimgnn.training.trainer.GNNLightningTrainer` takes it.
        model: A module written for ``RadialGraph``, likewise.

    Raises:
        ManifestError: The manifest is wrong.
        DataError: A structure or a label cannot be used.
        TrainingError: Training could not start, or its first loss is not a number.
    """
    plain = load_manifest(manifest, model_given=model is not None).to_dict()
    plain["dataset"]["save"] = plain["training"]["log_per_atom_pred"] = False
    # The step is that of one process, and of one network of an ensemble.
    plain["training"] |= {"strategy": "auto", "devices": 1}
    plain["model"] |= {"ensemble": 1, "uncertainty": None}
    with TemporaryDirectory() as folder, _quiet():
        plain["workspace"] |= {"name": folder, "resume": False}
        return _summary(GNNLightningTrainer(plain, model))


def _summary(trainer: GNNLightningTrainer) -> DryRun:
    configurations = [configuration for split in SPLITS for configuration in trainer.splits[split]]
    module = trainer.data_module
    graphs = [graph for part in (module.train, module.validation, module.test) if part for graph in _all(part)]
    nodes = [len(graph.z) for graph in graphs]
    edges = [graph[EDGE_INDEX].shape[1] for graph in graphs]
    triplets = [graph[TRIPLETS].shape[1] for graph in graphs if TRIPLETS in graph]
    transform = trainer.configuration_transform
    layers, refusal, is_potential = transform.n_layers, "", True
    if trainer.spec is not None:
        is_potential = ENERGY in trainer.model.heads
        layers, refusal = trainer.model.num_layers, trainer.model.potential_refusal() if is_potential else ""
    reach = layers * transform.cutoff if is_potential and not refusal else None
    batch = next(iter(module.train_dataloader()))
    memory, loss, seconds = _step(trainer, batch)
    return DryRun(
        counts={
            split: {"structures": len(trainer.splits[split])}
            | label_counts(trainer.splits[split])
            | target_counts(trainer.splits[split])
            for split in SPLITS
            if trainer.splits[split]
        },
        species=species_of(configurations),
        nodes=(float(np.mean(nodes)), max(nodes)),
        edges=(float(np.mean(edges)), max(edges)),
        triplets=(float(np.mean(triplets)), max(triplets)) if triplets else None,
        cutoff=transform.cutoff,
        influence_distance=reach,
        refusal=refusal,
        ghosts=[(len(chosen.species), count_ghosts(chosen, reach)) for chosen in _typical(configurations)]
        if reach
        else [],
        n_parameters=sum(parameter.numel() for parameter in trainer.potential.parameters()),
        batch=(batch.num_graphs, batch[EDGE_INDEX].shape[1]),
        memory=memory,
        loss=loss,
        seconds=seconds,
    )


def _all(dataset: Any) -> Iterator[Any]:
    return (dataset[index] for index in range(len(dataset)))


def _typical(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return the smallest, the median and the largest structure, without repetition of a size."""
    by_size = sorted(configurations, key=lambda configuration: len(configuration.species))
    chosen = (by_size[0], by_size[len(by_size) // 2], by_size[-1])
    return list({len(configuration.species): configuration for configuration in chosen}.values())


def count_ghosts(configuration: Configuration, distance: float) -> int:
    """Return how many periodic images of atoms lie within ``distance`` (Å) of the atoms of a structure."""
    graph = PeriodicGraph(distance)(configuration)
    images = torch.cat([graph[EDGE_INDEX][1][:, None].to(torch.float64), graph[SHIFTS]], dim=1)
    moved = images[graph[SHIFTS].abs().amax(dim=1) > 0]
    # Shifts of one image differ by rounding from edge to edge.
    return int(torch.unique((moved * 1e6).round().to(torch.int64), dim=0).shape[0])


def _step(trainer: GNNLightningTrainer, batch: Any) -> tuple[Memory, float, float]:
    """Return memory, loss and seconds of one training step on ``batch``."""
    device = trainer.pl_trainer.strategy.root_device
    module, batch = trainer.pl_model.to(device).train(), batch.to(device)
    parameters = [parameter for parameter in module.potential.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(trainer.optimizer_manifest, iter(parameters))
    seconds = []

    def closure() -> float:
        optimizer.zero_grad()
        start = time.perf_counter()
        predicted = module(batch, forces=module.loss.uses(FORCES), stress=module.loss.uses(STRESS))
        loss = module.loss.terms(predicted, batch).mean()
        torch.autograd.backward(loss)
        seconds.append(time.perf_counter() - start)
        return loss.item()

    with _saved_for_backward() as saved:
        loss = closure()
    if not isfinite(loss):
        raise TrainingError("the loss of the first batch is not a number", where="training.loss", value=loss)
    # The second pass is timed: the first one also loads what torch loads late.
    optimizer.step(closure)
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    state = [tensor for entry in optimizer.state.values() for tensor in entry.values() if isinstance(tensor, Tensor)]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    activations = sum(size for pointer, size in saved.items() if pointer not in own)
    return Memory(_bytes(parameters), _bytes(gradients), _bytes(state), activations), loss, seconds[1]


@contextmanager
def _saved_for_backward() -> Iterator[dict[int, int]]:
    """Collect address and bytes of every storage that autograd keeps for a backward pass."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the log of a run that will not take place."""
    packages = ("kliff", "kimgnn")
    for package in packages:
        logger.disable(package)
    try:
        yield
    finally:
        for package in packages:
            logger.enable(package)
