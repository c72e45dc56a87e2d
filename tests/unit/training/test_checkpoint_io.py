"""Checkpoints are whole, or those that were there before."""

import resource

import pytest
import torch

from kimgnn.errors import TrainingError
from kimgnn.training.checkpoint_io import AtomicCheckpointIO


@pytest.fixture
def small_files_only():
    """No file may grow beyond 64 KiB: writing fails as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files_only")
def test_failed_write_keeps_the_checkpoint_before_it(tmp_path):
    """When writing fails, the old file is untouched, no temporary file is left, and the message says what to do."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"weights": torch.ones(10)}, path)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=r"last\.ckpt: .*cannot be written.*disk space"):
        writer.save_checkpoint({"weights": torch.ones(100_000)}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(writer.load_checkpoint(path)["weights"], torch.ones(10))


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_or_missing_checkpoint_names_the_others(tmp_path, content):
    """The message names the file and the files that may be used in its place."""
    reader = AtomicCheckpointIO()
    reader.save_checkpoint({}, tmp_path / "best.ckpt")
    if content is not None:
        (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"last\.ckpt: .*best\.ckpt"):
        reader.load_checkpoint(tmp_path / "last.ckpt")


def test_nothing_is_unpickled(tmp_path):
    """A checkpoint holds tensors and plain values; code in one is not run."""

    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    torch.save({"weights": Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match="damaged"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
