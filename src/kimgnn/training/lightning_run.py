"""Lightning, kept calm and interruptible."""

import ctypes
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning_utilities.core import rank_zero

from kimgnn.errors import ManifestError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's ``malloc.h``."""

_BESIDE_THE_POINT = (
    ".*does not have many workers.*",  # graphs are in memory
    ".*Checkpoint directory .* exists.*",  # so it does when a run goes on
    ".*LeafSpec.*",  # Lightning's own use of torch
    ".*sync_dist=True.*",  # what is logged is that of all processes already
    "Grad strides do not match bucket view strides.*",  # a matter of speed, for weights of a few numbers
)


def choose_accelerator(choice: str) -> str:
    """Return Lightning's name of the accelerator, which is never Apple's MPS: it has no double precision.

    Raises:
        ManifestError: ``choice`` is ``mps``, or a GPU where torch sees none.
    """
    if choice == "mps":
        raise ManifestError(
            "has no double precision, which coordinates and energies are kept in",
            where="training.accelerator",
            value=choice,
            allowed="auto, cpu, gpu, cuda",
        )
    if choice in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ManifestError(
            "torch sees no CUDA device here",
            where="training.accelerator",
            value=choice,
            allowed="auto, cpu",
            remedy="Use auto, or a torch built for CUDA on a machine that has a GPU.",
        )
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if choice == "gpu" else choice


def keep_freed_memory() -> None:
    """Have the C library keep the memory that tensors free, for the next step's, instead of giving it back each time.

    A step on the CPU frees and takes thousands of blocks of about a megabyte; glibc gives such blocks back to the
    system at once, and taking them again costs time. Does nothing where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # glibc allows no more
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def calm() -> Iterator[None]:
    """Keep back what Lightning says about itself, and warnings that do not apply to our runs."""
    talk = rank_zero.log  # set by whichever of Lightning's two packages was imported last
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _BESIDE_THE_POINT:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        talk.setLevel(level)


def fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, checkpoint: Path | None) -> None:
    """Train, from a checkpoint if there is one.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and Lightning has put its things in order.
    """
    keep_freed_memory()
    handler = signal.getsignal(signal.SIGINT)
    try:
        with calm():
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as leaving:
        # Lightning turns Ctrl-C into an exit, which would end a notebook, and has further ones ignored.
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
