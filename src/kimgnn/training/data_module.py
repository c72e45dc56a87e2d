"""Loaders of graph batches: plain PyTorch ones, whose order is a function of the seed and the epoch alone."""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from kliff.dataset import Configuration
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler
from torch_geometric.data import Batch

from kimgnn.fields import EDGE_INDEX
from kimgnn.transforms.batches import Bounds
from kimgnn.transforms.collate import JoinedGraphs, collate
from kimgnn.transforms.graph_cache import CachedTransform

Transform = Callable[[Configuration], Any]
"""Structure -> graph."""


@contextmanager
def no_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage where many objects are made to stay: it would look through all of them.

    Reading a thousand graphs takes half the time without.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class GraphDataset(Dataset[Any]):
    """Graphs of structures.

    Args:
        configurations: The structures.
        transform: Structure to graph.
        dynamic: Make a graph, or get it from its cache, whenever it is asked for, instead of all of them once.
        num_workers: Processes that fill an empty cache, if there is one: the first epoch does not pay for it.
    """

    def __init__(
        self, configurations: Sequence[Configuration], transform: Transform, dynamic: bool = False, num_workers: int = 0
    ) -> None:
        self._configurations = list(configurations)
        self._transform = transform
        if isinstance(transform, CachedTransform):
            transform.fill(self._configurations, num_workers)
            for configuration in transform.missing(self._configurations) if dynamic else ():
                transform(configuration)  # tells what is wrong with it now, before training
        with no_garbage():
            self._graphs = None if dynamic else [transform(configuration) for configuration in self._configurations]
            self._joined = None if self._graphs is None else JoinedGraphs.of(self._graphs)

    def __len__(self) -> int:
        return len(self._configurations)

    def __getitem__(self, index: int) -> Any:
        return self._transform(self._configurations[index]) if self._graphs is None else self._graphs[index]

    def __getitems__(self, indices: list[int]) -> Any:
        """Return the graphs that a loader asks for, as one batch where they are joined."""
        return [self[index] for index in indices] if self._joined is None else self._joined.batch(indices)

    def sizes(self, with_edges: bool) -> list[tuple[int, int]]:
        """Return atoms and edges of each structure; edges only if asked for, since every graph is looked at, else 0."""
        atoms = [len(configuration.species) for configuration in self._configurations]
        edges = [self[index][EDGE_INDEX].shape[1] if with_edges else 0 for index in range(len(self))]
        return list(zip(atoms, edges, strict=True))


def _collated(graphs: Any) -> Any:
    """Return a batch of what `GraphDataset` returns for one."""
    return graphs if isinstance(graphs, Batch) else collate(graphs)


class EpochSampler(Sampler[int]):
    """This process's share of a data set, in an order that the seed and the epoch determine.

    Processes take turns in one common order, so that together they see the batches that one process would see. For
    training, they get equally many structures (a few are seen twice where the number does not divide); for evaluation,
    every structure is seen once, but a process that would have none gets one.

    Args:
        size: Structures in the set.
        seed: Of the shuffling; ``None`` keeps the order.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, size: int, seed: int | None, rank: int = 0, world_size: int = 1) -> None:
        self._size = size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this."""
        self._epoch = epoch

    @property
    def shuffles(self) -> bool:
        """Whether the order is that of training."""
        return self._seed is not None

    def __len__(self) -> int:
        return len(self._indices())

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def _indices(self) -> list[int]:
        if self._seed is None:
            order = list(range(self._size))
            return order[self._rank :: self._world_size] or order[:1]
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(self._size, generator=generator).tolist()
        share = -(-self._size // self._world_size)
        repeated = order * (share * self._world_size // self._size + 1)
        return repeated[self._rank : share * self._world_size : self._world_size]


class BoundedBatches(Sampler[list[int]]):
    """This process's share of batches that are bounded by atoms or edges.

    One common order is cut into batches, of which processes take turns. For training, all get equally many (the first
    ones are seen twice where the number does not divide); for evaluation, every batch is seen once, but a process that
    would have none gets one. How many there are differs from epoch to epoch, so that this has no length.

    Args:
        sampler: The order of all structures; Lightning tells it the epoch.
        bounds: Of a batch.
        sizes: Atoms and edges of each structure.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, sampler: EpochSampler, bounds: Bounds, sizes: Sequence[tuple[int, int]], rank: int, world_size: int
    ) -> None:
        self.sampler = sampler
        self._bounds = bounds
        self._sizes = sizes
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        every = list(self._bounds.batches(self.sampler, self._sizes.__getitem__))
        if self.sampler.shuffles:
            share = -(-len(every) // self._world_size)
            every = (every * self._world_size)[: share * self._world_size]
        return iter(every[self._rank :: self._world_size] or every[:1])


class GraphDataModule(LightningDataModule):
    """Training, validation and test loaders.

    Args:
        train: Training set.
        validation: Validation set, or ``None``.
        test: Test set, or ``None``.
        batch_size: Structures in a step of one process.
        num_workers: Processes that load data; 0 loads in this one.
        seed: Of the shuffling of the training set.
        max_atoms: Atoms in a step of one process, at most; a structure with more is alone in its batch.
        max_edges: Edges in a step, likewise.

    Warns:
        UserWarning: There are such structures.
    """

    def __init__(
        self,
        train: GraphDataset,
        validation: GraphDataset | None,
        test: GraphDataset | None,
        batch_size: int,
        num_workers: int,
        seed: int,
        max_atoms: int | None = None,
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.test = test
        self.batch_size = batch_size
        self.max_atoms = max_atoms
        self.max_edges = max_edges
        self.num_workers = num_workers
        self.seed = seed
        self.allow_zero_length_dataloader_with_multiple_devices = True
        sets = [dataset for dataset in (train, validation, test) if dataset is not None and self.bounds.by_size]
        self._sizes = {id(dataset): dataset.sizes(max_edges is not None) for dataset in sets}
        if large := [size for sizes in self._sizes.values() for size in sizes if self.bounds.exceeded_by(*size)]:
            warnings.warn(
                f"{len(large)} structures have more than {self.bounds} each: every one is a batch of its own, the "
                f"largest with {max(atoms for atoms, _ in large)} atoms",
                stacklevel=2,
            )

    @property
    def bounds(self) -> Bounds:
        """What a step of one process has at most."""
        return Bounds(self.batch_size, self.max_atoms, self.max_edges)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the shuffled training loader."""
        return self._loader(self.train, self.seed)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation loader; an empty list without a validation set."""
        return [] if self.validation is None else self._loader(self.validation, None)

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the test loader; an empty list without a test set."""
        return [] if self.test is None else self._loader(self.test, None)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch where it is not already: Lightning would ask each of its tensors to go to the CPU."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _loader(self, dataset: GraphDataset, seed: int | None) -> DataLoader[Any]:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        by_size = self.bounds.by_size
        sampler = EpochSampler(len(dataset), seed) if by_size else EpochSampler(len(dataset), seed, rank, world_size)
        if trainer is not None:
            # Workers load the first batches of a run before Lightning tells the sampler the epoch, and in a resumed
            # one, before it counts the epoch that the checkpoint was written at the end of.
            sampler.set_epoch(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        chosen: dict[str, Any] = {"batch_size": self.batch_size, "sampler": sampler}
        if by_size:
            batches = BoundedBatches(sampler, self.bounds, self._sizes[id(dataset)], rank, world_size)
            chosen = {"batch_sampler": batches}
        return DataLoader(
            dataset,
            **chosen,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_collated,
            # A loader without one of its own draws from the numbers that the network's dropout draws from.
            generator=torch.Generator(),
        )
