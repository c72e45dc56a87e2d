"""KLIFF's GNN trainer, imported where two of the packages that it names are missing.

`kliff.trainer.lightning_trainer` imports ``torch_scatter`` for one function, which users would have to compile, and
``pytorch_lightning``, which is ``lightning.pytorch`` under another name. Stand-ins take their place during the import
and leave afterwards, so that no other package believes that the real ones are there.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

import torch
import torch_geometric.data.lightning  # noqa: F401  PyG looks for torch_scatter and Lightning once, at its own import
from torch import Tensor


def scatter_add(src: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """Return sums of the slices of ``src`` that share an ``index`` along ``dim``."""
    shape = list(src.shape)
    shape[dim] = int(index.max()) + 1 if index.numel() else 0
    return torch.zeros(shape, dtype=src.dtype, device=src.device).index_add(dim, index, src)


def _stand_ins() -> dict[str, ModuleType]:
    """Name -> module for those of the two packages that are not installed."""
    modules: dict[str, ModuleType] = {}
    if find_spec("torch_scatter") is None:
        scatter = ModuleType("torch_scatter")
        scatter.__dict__["scatter_add"] = scatter_add
        modules["torch_scatter"] = scatter
    if find_spec("pytorch_lightning") is None:
        for name in ("", ".loggers", ".callbacks"):
            modules[f"pytorch_lightning{name}"] = importlib.import_module(f"lightning.pytorch{name}")
    return modules


@contextmanager
def _standing_in() -> Iterator[None]:
    modules = _stand_ins()
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


with _standing_in():
    from kliff.trainer.base_trainer import Trainer as KLIFFTrainer
    from kliff.trainer.lightning_trainer import GNNLightningTrainer as KLIFFGNNTrainer

__all__ = ["KLIFFGNNTrainer", "KLIFFTrainer", "scatter_add"]
