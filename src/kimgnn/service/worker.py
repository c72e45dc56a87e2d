"""A process that reads structures and computes: the service hands it batches, and ends it when it takes too long.

It stands between what strangers send and the service: a text that takes minutes to be parsed, or a structure that
brings a runtime down, costs this process, and the service starts another. It holds the models; the service holds none.

    python -m kimgnn.service.worker CONFIGURATION

talks by `kimgnn.service.channel` on standard input and output: first it tells its models, or why there are none, then
it answers batches of `kimgnn.service.formats.Given` until its input ends.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self
from unittest.mock import patch

from kimgnn.errors import DataError, KimgnnError
from kimgnn.service import channel
from kimgnn.service.formats import Answer, Given
from kimgnn.service.problems import problems_of

if TYPE_CHECKING:
    from kimgnn.service.reading import Read
    from kimgnn.service.served import ServedModel

PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker has to know.

    Attributes:
        models: Name -> path.
        threads: Of the computation.
        max_atoms: Of one structure.
        max_structures: Of one entry of a request.
        batch_atoms: Of what a model is given at once.
    """

    models: dict[str, str]
    threads: int
    max_atoms: int
    max_structures: int
    batch_atoms: int

    def to_text(self) -> str:
        """Return it as an argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return what `to_text` said."""
        return cls(**json.loads(text))


def main() -> None:
    """Load the models and answer until there is nobody to be answered."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's, which lets batches end
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    options = WorkerOptions.from_text(sys.argv[1])
    try:
        models = _load(options)
    except KimgnnError as error:
        channel.write(answers, {"problems": problems_of(error)})
        return
    gc.collect()
    gc.freeze()  # half a million objects of torch, which would be looked through again and again
    channel.write(answers, {"models": [model.description() for model in models.values()]})
    _serve(models, options, requests, answers)


def _load(options: WorkerOptions) -> dict[str, ServedModel]:
    from loguru import logger

    logger.remove()
    with patch.object(logger, "configure"):  # KLIFF makes a log file where it is imported
        import kliff  # noqa: F401
    import torch

    from kimgnn.service.served import ServedModel

    torch.set_num_threads(options.threads)
    return {name: ServedModel(name, Path(path), options.batch_atoms) for name, path in options.models.items()}


def _serve(models: Mapping[str, ServedModel], options: WorkerOptions, requests: IO[bytes], answers: IO[bytes]) -> None:
    while True:
        try:
            batch = [Given(*given) for given in channel.read(requests)]
            channel.write(answers, [tuple(answer) for answer in answer_batch(batch, models, options)])
        except (EOFError, BrokenPipeError):
            return


def answer_batch(batch: Sequence[Given], models: Mapping[str, ServedModel], options: WorkerOptions) -> list[Answer]:
    """Return what is said to each entry of a batch; an entry that is bad spoils no other.

    Args:
        batch: Entries of any clients, for any of the models.
        models: By name.
        options: Bounds of what is read.
    """
    from kimgnn.service.reading import read_all

    structures: dict[int, list[Read]] = {}
    failed: dict[int, DataError] = {}
    for place, found in enumerate(read_all(batch, options.max_atoms, options.max_structures)):
        if isinstance(found, DataError):
            failed[place] = found
        else:
            structures[place] = found
    results: dict[int, list[str]] = {place: [] for place in structures}
    for name in dict.fromkeys(given.model for given in batch):
        of_model = [place for place in structures if batch[place].model == name]
        flat = [(place, read) for place in of_model for read in structures[place]]
        said = models[name].answers([read for _, read in flat]) if name else [_drawn(read) for _, read in flat]
        for (place, _), result in zip(flat, said, strict=True):
            if isinstance(result, DataError):
                failed[place] = _both(failed.get(place), result)
            else:
                results[place].append(result)
    return [
        Answer([], problems_of(failed[place]), _status(failed[place])) if place in failed else Answer(results[place])
        for place in range(len(batch))
    ]


def _both(first: DataError | None, second: DataError) -> DataError:
    return DataError(problems=[*first.problems, *second.problems]) if first is not None else second


def _status(error: DataError) -> int:
    from kimgnn.service.reading import TooLargeError

    return 413 if isinstance(error, TooLargeError) else 422


def _drawn(read: Read) -> str:
    """Return a structure as the page takes it, with how its elements look."""
    from kimgnn.service.drawing import drawn, elements

    told = drawn(read.identifier, read.atoms, read.warnings)
    return json.dumps({"structure": told, "elements": elements([read.atoms])}, ensure_ascii=False)


def _end_with_parent() -> None:
    """Have the kernel end this process with the service, in the middle of a batch too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
