"""``kimgnn.param``: what a KIM model driver of ours has to know besides the exported file."""

from pathlib import Path
from typing import Final, NamedTuple

from kimgnn.errors import ModelError
from kimgnn.export.contract import CONTRACT

PARAMETER_FILE: Final = "kimgnn.param"

KEYS: Final = ("kimgnn", "backend", "model", "cutoff", "layers", "species")
"""First words of its lines, in their order."""


class Parameters(NamedTuple):
    """The file's values.

    Attributes:
        backend: What runs the exported file: ``torchscript``, ``onnx`` or ``pt2``.
        model: Name of the exported file, which is in the same folder.
        cutoff: Of every layer, Å.
        layers: Message-passing layers.
        species: Elements, in the order of their codes.
    """

    backend: str
    model: str
    cutoff: float
    layers: int
    species: list[str]

    def __str__(self) -> str:
        values = (CONTRACT, self.backend, self.model, repr(float(self.cutoff)), self.layers, " ".join(self.species))
        return "".join(f"{key} {value}\n" for key, value in zip(KEYS, values, strict=True))


def read_parameters(path: str | Path) -> Parameters:
    """Read a parameter file.

    Raises:
        ModelError: There is no such file, it is damaged, or it is of another version of the contract.
    """
    where, remedy = str(path), "Export the model again, and keep the files of its folder together."
    try:
        lines = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {error}", where=where, remedy=remedy) from error
    first, allowed = " ".join(lines[0] if lines else []), f"{KEYS[0]} {CONTRACT}"
    if first != allowed:
        raise ModelError("of another version of kimgnn", where=where, value=first, allowed=allowed, remedy=remedy)
    keys = [" ".join(line[:1]) for line in lines]
    if keys != list(KEYS):
        raise ModelError("a line is missing, or not expected", where=where, value=keys, allowed=", ".join(KEYS))
    try:
        (backend,), (model,), (cutoff,), (layers,), species = (line[1:] for line in lines[1:])
        return Parameters(backend, model, float(cutoff), int(layers), species)
    except ValueError as error:
        raise ModelError(f"a line has a wrong value: {error}", where=where, remedy=remedy) from error
